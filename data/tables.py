"""Tables on disk (BIDS TSV, CSV) and their cells.

Every cell is a string, as written in the file; a missing one (``n/a``, ``NA``, ``NaN``) is ``""``.
"""

import csv
import io
import math
import re
from pathlib import Path

import pandas as pd

from uncus.data.errors import BadInput
from uncus.data.files import write_text

MISSING = frozenset({"", "n/a", "na", "nan"})  # compared in lower case
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(inf|nan)")
MAX_TABLE_BYTES = 256 * 2**20


def clean(cell: object) -> str:
    """A cell as text; ``""`` where it is missing."""
    text = "" if cell is None else str(cell).strip()
    return "" if text.lower() in MISSING else text


def to_number(cell: str) -> float | None:
    """The number that a cell writes, or None."""
    try:
        number = float(cell) if "_" not in cell else None
    except ValueError:
        return None
    return None if number is None or math.isnan(number) else number


def same_value(one: str, two: str) -> bool:
    """Whether two cells mean the same: as numbers where both are, else as text."""
    a, b = to_number(one), to_number(two)
    return one == two if a is None or b is None else a == b


def escape_cell(text: str) -> str:
    """Make a cell inert in a spreadsheet: ``=1+1`` -> ``'=1+1``; numbers stay as they are.

    ``read_table`` takes the quote away again, so that a table survives being written and read.
    """
    text = re.sub(r"[\t\r\n\0]+", " ", text)
    if text.lstrip("'")[:1] in set("=+-@") - {""} and not NUMBER.fullmatch(text):
        return f"'{text}"
    return text


def unescape_cell(text: str) -> str:
    """The inverse of ``escape_cell``."""
    return text[1:] if re.match(r"'+[=+\-@]", text) else text


def write_table(path: Path, frame: pd.DataFrame) -> None:
    """Write a TSV atomically: missing cells as ``n/a``, cells escaped, the index left out."""
    file = io.StringIO(newline="")
    writer = csv.writer(file, delimiter="\t", lineterminator="\n")
    writer.writerow([escape_cell(str(name)) for name in frame.columns])
    for row in frame.itertuples(index=False, name=None):
        writer.writerow([escape_cell(clean(cell)) or "n/a" for cell in row])
    write_text(path, file.getvalue())


def read_table(path: Path) -> pd.DataFrame:
    """Read a TSV (tabs) or a CSV (commas, or semicolons) of strings, shape [rows, columns].

    A byte-order mark and CRLF are accepted.

    Raises
    ------
    BadInput: not UTF-8, empty, commas in a ``.tsv``, rows of unequal length, a column twice.
    """
    if not path.is_file():
        raise BadInput(path, "no such file", "check the path")
    if path.stat().st_size > MAX_TABLE_BYTES:
        raise BadInput(path, f"over {MAX_TABLE_BYTES >> 20} MB", "is this a table of scans?")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput(path, f"not UTF-8 at byte {error.start}", "save it as UTF-8") from None
    if not text.strip() or "\0" in text:
        raise BadInput(path, "empty" if not text.strip() else "not a text file", "give a table")
    header = text.lstrip().splitlines()[0]
    delimiter = "\t"
    if path.suffix.lower() == ".tsv":
        if "\t" not in header and ("," in header or ";" in header):
            raise BadInput(path, "a .tsv with commas", "separate by tabs, or name it .csv")
    else:
        delimiter = max(",;\t", key=header.count)
    try:
        lines = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
    except csv.Error as error:
        raise BadInput(path, f"broken table ({error})", "write it again as UTF-8 text") from None
    numbered = [(number, row) for number, row in enumerate(lines, 1) if any(map(str.strip, row))]
    names = [unescape_cell(name.strip()) for name in numbered[0][1]]
    for name in names:
        if not name or names.count(name) > 1:
            raise BadInput(
                path, f"column {name!r} is there twice or has no name", "name each column once"
            )
    for number, row in numbered[1:]:
        if len(row) != len(names):
            hint = " (commas in a .tsv?)" if delimiter == "\t" and len(row) == 1 else ""
            raise BadInput(
                path,
                f"line {number} has {len(row)} cells, the header {len(names)}{hint}",
                "give every row the same columns",
            )
    cells = [[clean(unescape_cell(cell.strip())) for cell in row] for _, row in numbered[1:]]
    frame = pd.DataFrame(cells, columns=names, dtype=object)
    frame.attrs["lines"] = [number for number, _ in numbered[1:]]
    return frame


def need_column(frame: pd.DataFrame, name: str, subject: object = "table") -> None:
    """Refuse a column that is not there, listing those that are.

    Raises
    ------
    BadInput: ``name`` is no column of ``frame``.
    """
    if name not in frame.columns:
        there = ", ".join(map(str, frame.columns))
        raise BadInput(subject, f"no column {name!r}", f"choose one of: {there}")
