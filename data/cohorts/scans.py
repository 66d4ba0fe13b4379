"""A scan of a subject, and a cohort of scans."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from uncus.data.errors import BadInput
from uncus.data.text import shorten

LABEL = re.compile(r"\w[\w.+-]{0,127}")  # safe as a part of a file name


@dataclass(frozen=True)
class Scan:
    """One T1w image of one subject in one session.

    Attributes
    ----------
    subject: participant label without ``sub-``.
    session: session label without ``ses-``; ``""`` if the cohort has no sessions.
    path: image file, or folder or zip of DICOM files.
    fields: the scan's cells in the cohort's tables, as text (ages in years, and so on).
    series: selects one of the DICOM series at ``path``, see uncus.data.dicom.reader.read_series.
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
                    f"{label[:80]!r} is not a valid {kind} label",
                    "use up to 128 letters, digits, '_', '.', '+' and '-'",
                )

    @property
    def name(self) -> str:
        """``sub-S`` or ``sub-S_ses-T``."""
        return f"sub-{self.subject}" + (f"_ses-{self.session}" if self.session else "")


@dataclass(frozen=True)
class Cohort:
    """The scans of a study; every subject and session, and every file, occurs once.

    Attributes
    ----------
    root: folder of the scans.
    left_out: subjects, sessions and rows without a scan -> why.
    """

    root: Path
    scans: tuple[Scan, ...]
    warnings: tuple[str, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.scans:
            cause = "; ".join(["no scans found", *self.left_out_texts()])
            raise BadInput(self.root, cause, "give a folder or table that contains scans")
        scans: dict[str, Scan] = {}
        files: dict[tuple[Path, str], Scan] = {}
        for scan in self.scans:
            if scan.name in scans:
                raise BadInput(
                    self.root,
                    f"{scan.name} has two images: "
                    + ", ".join(self.shown(one.path) for one in (scans[scan.name], scan)),
                    "give every scan its own participant_id and session_id",
                )
            file = scan.path.resolve(), scan.series
            if file in files:
                raise BadInput(
                    self.root,
                    f"{scan.path.name} is listed for both {files[file].name} and {scan.name}",
                    "list each image once",
                )
            scans[scan.name], files[file] = scan, scan

    def shown(self, path: Path) -> str:
        """A path in a message: below the root, else its name."""
        return str(path.relative_to(self.root)) if path.is_relative_to(self.root) else path.name

    def __len__(self) -> int:
        return len(self.scans)

    def __iter__(self) -> Iterator[Scan]:
        return iter(self.scans)

    def left_out_texts(self) -> list[str]:
        """What is left out, one sentence a reason."""
        names: dict[str, list[str]] = {}
        for name, reason in self.left_out.items():
            names.setdefault(reason, []).append(name)
        return [f"{len(some)} {why}: {shorten(some)}" for why, some in names.items()]

    def table(self) -> pd.DataFrame:
        """One row per scan: participant_id ("sub-S"), session_id ("ses-T" or ""), the fields."""
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
