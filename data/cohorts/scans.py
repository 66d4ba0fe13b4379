"""Scans, the table of them, and tables on disk (BIDS TSV, CSV).

Every cell is a string as it was written; a missing one (``n/a``, ``NA``, ``NaN``) is ``""``.
"""

import csv
import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from uncus.data.errors import BadInput
from uncus.data.files import write_text

MISSING = frozenset({"", "n/a", "na", "nan"})  # compared in lower case
LABEL = re.compile(r"\w[\w.+-]{0,127}")  # what may become a part of a file's name
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(inf|nan)")
MAX_TABLE_BYTES = 256 * 2**20


@dataclass(frozen=True)
class Scan:
    """One T1w image of one person at one visit.

    Attributes
    ----------
    subject: the participant's label without ``sub-``.
    session: the visit's label without ``ses-``; ``""`` where there are no sessions.
    path: the image file.
    fields: what the tables say of it, as written (ages in years, and so on).
    series: which of several DICOM series at ``path``, see uncus.data.dicom.reader.read_series.
    """

    subject: str
    session: str
    path: Path
    fields: Mapping[str, str] = field(default_factory=dict)
    series: str = ""

    def __post_init__(self) -> None:
        for kind, label in (("participant", self.subject), ("session", self.session)):
            if not LABEL.fullmatch(label) and (label or kind == "participant"):
                raise BadInput(
                    self.path.name,
                    f"{label[:80]!r} cannot be a {kind}'s label",
                    "use letters, digits, '_', '.', '+' and '-', at most 128",
                )

    @property
    def name(self) -> str:
        """``sub-S`` or ``sub-S_ses-T``."""
        return f"sub-{self.subject}" + (f"_ses-{self.session}" if self.session else "")


@dataclass(frozen=True)
class Cohort:
    """The scans of a study, each subject and session once, each file once."""

    root: Path
    scans: tuple[Scan, ...]
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.scans:
            raise BadInput(self.root, "no scans found", "give a folder or table that has some")
        seen: dict[str, Scan] = {}
        files: dict[tuple[Path, str], Scan] = {}
        for scan in self.scans:
            if scan.name in seen:
                raise BadInput(
                    self.root,
                    f"{scan.name} is there twice: {seen[scan.name].path.name} and {scan.path.name}",
                    "give every scan its own participant_id and session_id",
                )
            file = scan.path.resolve(), scan.series
            if file in files:
                raise BadInput(
                    self.root,
                    f"{scan.path.name} is the image of both {files[file].name} and {scan.name}",
                    "name each image once",
                )
            seen[scan.name], files[file] = scan, scan

    def __len__(self) -> int:
        return len(self.scans)

    def __iter__(self) -> Iterator[Scan]:
        return iter(self.scans)

    def table(self) -> pd.DataFrame:
        """One row a scan: participant_id ("sub-S"), session_id ("ses-T" or ""), the fields."""
        columns = ["participant_id", "session_id"]
        columns += list(dict.fromkeys(name for scan in self.scans for name in scan.fields))
        rows = [
            {
                **scan.fields,
                "participant_id": f"sub-{scan.subject}",
                "session_id": f"ses-{scan.session}" if scan.session else "",
            }
            for scan in self.scans
        ]
        return pd.DataFrame(
            {name: [row.get(name, "") for row in rows] for name in dict.fromkeys(columns)},
            dtype=object,
        )


def clean(cell: object) -> str:
    """A cell as text; ``""`` where it is missing."""
    text = "" if cell is None else str(cell).strip()
    return "" if text.lower() in MISSING else text


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
