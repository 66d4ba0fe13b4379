"""Tables on disk (BIDS TSV, CSV) and their cells.

Every cell is a string, as in the file; missing values (``n/a``, ``NA``, ``NaN``) are ``""``.
"""

import csv
import io
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from uncus.data.errors import BadInput
from uncus.data.files import write_text
from uncus.data.text import shorten

# Compared in lower case; of BIDS, R, Python, spreadsheets, databases and SAS.
MISSING = frozenset({"", "n/a", "na", "nan", "#n/a", "<na>", "null", "."})
NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?|[+-]?(inf|nan)")
LIMIT = re.compile(
    r"(?:[<>\u2264\u2265]=?|over|under|above|below)\s*([^\s<>=+]+)"
    r"|([^\s<>=+]+)\s*(?:\+|plus|(?:and|or) (?:older|over|above|more))",
    re.IGNORECASE,
)
"""``89+``, ``>89``, ``90 or older``, ``>= 1700``, ``<8``: the age of the very old in BIDS, a value
out of an assay's range."""
YEARS = re.compile(r"(?<=[\d+])\s*(?:y|yo|yrs?|years?)\b(?: old\b)?", re.IGNORECASE)
"""``072Y`` (an age in DICOM), ``72 years``."""
DECIMAL_COMMA = re.compile(r"([+-]?(?:\d+(?=,(?:\d{1,2}|\d{4,})$)|0|\d{4,})),(\d+)")
"""``72,5``; not ``1,234``, which may be a thousand."""
CONTROL = re.compile("[\x01-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Characters that a terminal or a page would obey: they become spaces."""
MAX_TABLE_BYTES = 256 * 2**20
MAX_READ = 5  # values of a column that are listed in a warning, one by one


def clean(cell: object) -> str:
    """The text of a cell; ``""`` if it is missing."""
    text = "" if cell is None else str(cell).strip()
    return "" if text.lower() in MISSING else text


def to_number(cell: str) -> float | None:
    """The number in a cell; None if it is not a number."""
    try:
        number = float(cell) if "_" not in cell else None
    except ValueError:
        return None
    return None if number is None or math.isnan(number) else number


def read_number(cell: str) -> float | None:
    """The number in a cell, or the limit that it gives (``89+`` and ``>89`` -> 89); None for text.

    ``limit_warnings`` tells of all that is not written as a number.
    """
    cell = YEARS.sub("", cell)
    limit = LIMIT.fullmatch(cell)
    return to_number(DECIMAL_COMMA.sub(r"\1.\2", (limit[1] or limit[2]) if limit else cell))


def read_column(cells: Iterable[object]) -> NDArray[np.float64] | None:
    """A column of numbers, float [N], NaN where missing or text; None for a column of text.

    It is one of numbers unless most of its cells are text.
    """
    texts = [clean(cell) for cell in cells]
    numbers = [read_number(text) if text else math.nan for text in texts]
    if 2 * numbers.count(None) > sum(map(bool, texts)):
        return None
    return np.array([math.nan if number is None else number for number in numbers])


def limit_warnings(columns: Mapping[Any, Iterable[object]]) -> list[str]:
    """Warnings of the cells in columns of numbers that are limits or written in another way."""
    warnings = []
    for name, cells in columns.items():
        texts = Counter(text for text in map(clean, cells) if to_number(text) is None)
        if read_column(cells) is None:
            continue
        read = [
            f"{text} is read as {number:g}" + (f" ({count} scans)" if count > 1 else "")
            for text, count in texts.items()
            if (number := read_number(text)) is not None
        ]
        read = [shorten(read, 3)] if len(read) > MAX_READ else read
        warnings += [f"{name} {one}" for one in read]
    return warnings


def text_warnings(name: str, cells: Iterable[object]) -> list[str]:
    """A warning of the cells of a column of numbers that are none, and count as missing."""
    texts = [t for t in map(clean, cells) if t and read_number(t) is None]
    if not texts or read_column(cells) is None:
        return []
    count = f"{len(texts)} cells that are not numbers"
    count = "1 cell that is not a number" if len(texts) == 1 else count
    return [f"{name} has {count}, taken as missing: {shorten(sorted(set(texts)), 5)}"]


def same_value(one: str, two: str) -> bool:
    """Whether two cells are equal: as numbers if both are numbers, else as text."""
    a, b = to_number(one), to_number(two)
    return one == two if a is None or b is None else a == b


def escape_cell(text: str) -> str:
    """Quote a cell that a spreadsheet would run as a formula: ``=1+1`` -> ``'=1+1``.

    Numbers stay as they are. ``read_table`` removes the quote, so tables survive a round trip.
    """
    text = re.sub(r"[\t\r\n\0]+", " ", text)
    if text.lstrip("'")[:1] in set("=+-@") - {""} and not NUMBER.fullmatch(text):
        return f"'{text}"
    return text


def unescape_cell(text: str) -> str:
    """Undo ``escape_cell``."""
    return text[1:] if re.match(r"'+[=+\-@]", text) else text


def write_table(path: Path, frame: pd.DataFrame) -> None:
    """Write a TSV atomically, without the index; missing cells are ``n/a``, formulas are quoted."""
    file = io.StringIO(newline="")
    writer = csv.writer(file, delimiter="\t", lineterminator="\n")
    writer.writerow([escape_cell(str(name)) for name in frame.columns])
    for row in frame.itertuples(index=False, name=None):
        writer.writerow([escape_cell(clean(cell)) or "n/a" for cell in row])
    write_text(path, file.getvalue())


def read_table(path: Path) -> pd.DataFrame:
    """Read a TSV (tabs) or CSV (commas or semicolons) as strings.

    A byte-order mark and CRLF are accepted, and what programs add: empty cells at the end of lines,
    a first column without a name that counts the rows. ``attrs["lines"]`` has each row's line.

    Raises
    ------
    BadInput: not UTF-8, empty, commas in a ``.tsv``, rows of unequal length, duplicate columns.
    """
    if not path.is_file():
        raise BadInput(path, "no such file", "check the path")
    if path.stat().st_size > MAX_TABLE_BYTES:
        raise BadInput(path, f"over {MAX_TABLE_BYTES >> 20} MB", "is this a table of scans?")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        cause = f"cannot be read ({error.strerror})"
        raise BadInput(path, cause, "check its permissions and its disk") from None
    except UnicodeDecodeError as error:
        raise BadInput(path, f"not UTF-8 at byte {error.start}", "save it as UTF-8") from None
    if "\0" in text:
        raise BadInput(path, "not a text file", "give a table")
    text = CONTROL.sub(" ", text)
    text = re.sub(r"\Asep=.(?=[\r\n])", "", text)  # Excel's first line names the delimiter
    header = next(filter(str.strip, text.splitlines()), "")
    delimiter = "\t"
    if path.suffix.lower() == ".tsv":
        if "\t" not in header and ("," in header or ";" in header):
            raise BadInput(
                path, "a .tsv file with commas instead of tabs", "use tabs, or name it .csv"
            )
    else:
        delimiter = max(",;\t", key=header.count)
    try:
        lines = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
    except csv.Error as error:
        raise BadInput(
            path, f"not a valid table ({error})", "save it again as UTF-8 text"
        ) from None
    numbered = [(number, row) for number, row in enumerate(lines, 1) if any(map(str.strip, row))]
    if not numbered:
        raise BadInput(path, "empty", "give a table")
    numbered = without_index(numbered)
    width = max(len(trimmed(row)) for _, row in numbered)
    names = [unescape_cell(name.strip()) for name in numbered[0][1][:width]]
    numbered = [(number, trimmed(row, len(names))) for number, row in numbered]
    for name, count in Counter(names).items():
        if not name or count > 1:
            raise BadInput(
                path,
                f"column {name!r} is duplicated or has no name",
                "give each column its own name",
            )
    for number, row in numbered[1:]:
        if len(row) != len(names):
            hint = " (commas in a .tsv?)" if delimiter == "\t" and len(row) == 1 else ""
            raise BadInput(
                path,
                f"line {number} has {len(row)} cells, the header {len(names)}{hint}",
                "give every row the same number of cells",
            )
    cells = [[clean(unescape_cell(cell.strip())) for cell in row] for _, row in numbered[1:]]
    frame = pd.DataFrame(cells, columns=names, dtype=object)
    frame.attrs["lines"] = [number for number, _ in numbered[1:]]
    return frame


def trimmed(row: list[str], width: int = 0) -> list[str]:
    """A row without the empty cells at its end, but those of its first ``width`` columns."""
    filled = [index for index, cell in enumerate(row, 1) if cell.strip()]
    return row[: max([width, *filled])]


def without_index(numbered: list[tuple[int, list[str]]]) -> list[tuple[int, list[str]]]:
    """The rows without the index that pandas writes: a first column without a name, 0, 1, 2."""
    index = [row[0].strip() for _, row in numbered]
    counted = [str(number) for number in range(len(index) - 1)]
    return [(n, row[1:]) for n, row in numbered] if index == ["", *counted] else numbered


def find_column(frame: pd.DataFrame, names: Iterable[str]) -> str | None:
    """The first column with one of ``names``, in any case, ``Subject ID`` for ``subject_id``."""
    columns = [str(name) for name in reversed(frame.columns)]
    found = {re.sub(r"[\s-]+", "_", name.lower()): name for name in columns}
    found |= {name: name for name in columns}
    return next((found[name] for name in names if name in found), None)


def need_column(frame: pd.DataFrame, name: str, value: object = "table") -> None:
    """Check that a table has a column.

    Raises
    ------
    BadInput: it has not; the message lists its columns.
    """
    if name not in frame.columns:
        columns = shorten(list(map(str, frame.columns)), 20)
        raise BadInput(value, f"no column {name!r}", f"choose one of: {columns}")
