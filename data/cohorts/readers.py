"""Where scans come from: ``READERS`` turns a tree, a table or a folder into a Cohort."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from uncus.data.cohorts.bids import read_bids, read_caps
from uncus.data.cohorts.bids_names import (
    Key,
    check_files,
    entity,
    is_image,
    labelled_folders,
    natural,
    refuse_duplicate,
    refuse_list,
    stem,
    strip,
    subject_of,
)
from uncus.data.cohorts.dicom_folders import holds_dicom, read_dicom_tree
from uncus.data.cohorts.scans import Cohort, Scan
from uncus.data.errors import BadInput
from uncus.data.tables import need_column, read_table
from uncus.data.text import shorten

SUBJECT_COLUMNS = ("participant_id", "subject", "subject_id", "participant", "sub")
SESSION_COLUMNS = ("session_id", "session", "ses")
PATH_COLUMNS = ("path", "filename", "file", "filepath", "file_path", "image", "image_path", "t1w")


def read_cohort(source: Path, reader: str = "auto") -> Cohort:
    """The scans under ``source``, by the named reader or the one that fits.

    Raises
    ------
    BadInput: an unknown reader, no such source, or one that breaks the reader's rules.
    """
    source = Path(source)
    if reader != "auto" and reader not in READERS:
        known = ", ".join(["auto", *READERS])
        raise BadInput(f"reader {reader!r}", "unknown", f"choose one of: {known}")
    if not source.exists():
        raise BadInput(source, "no such file or folder", "check the path")
    return READERS[guess_reader(source) if reader == "auto" else reader](source)


def guess_reader(source: Path) -> str:
    """The key of the reader that fits ``source``."""
    if source.is_file():
        if is_image(source):
            raise BadInput(source, "an image, not a cohort", "give its folder, or a table of paths")
        return "table"
    if holds_dicom(source):
        return "dicom"
    if any(labelled_folders(source / "subjects", "sub-")):
        return "caps"
    if (source / "participants.tsv").is_file() or any(labelled_folders(source, "sub-")):
        return "bids"
    return "folder"


def read_table_of_images(table: Path) -> Cohort:
    """Read a CSV or TSV with a column of paths, relative to the table's folder, one row a scan.

    Without a column of participants they come from ``sub-`` in the file's name, else its stem.
    """
    frame = read_table(table)
    lower = {str(name).lower(): str(name) for name in reversed(frame.columns)}
    where, who, when = (
        next((lower[name] for name in names if name in lower), None)
        for names in (PATH_COLUMNS, SUBJECT_COLUMNS, SESSION_COLUMNS)
    )
    if where is None:
        need_column(frame, "path", table)
        raise AssertionError
    root, lines = table.parent, frame.attrs["lines"]
    warnings: list[str] = []
    if who is None:
        warnings.append(
            f"{table.name}: no participant_id column; participants are read off the paths"
        )
    outside, scans = [], []
    keys: dict[Key, int] = {}
    for index, row in enumerate(frame.to_dict("records")):
        if not row[where]:
            raise BadInput(table, f"line {lines[index]} has no {where}", "give each row its image")
        path = root / row[where]
        if not path.resolve().is_relative_to(root.resolve()):
            outside.append(f"line {lines[index]} ({row[where]})")
            continue
        subject = strip(row[who], "sub-") if who else subject_of(Path(row[where]))
        if not subject:
            raise BadInput(table, f"line {lines[index]} has no {who}", "name the participant")
        session = strip(row[when], "ses-") if when else entity("ses-", row[where]) or ""
        if (subject, session) in keys:
            refuse_duplicate(table, frame, (subject, session), keys[subject, session], index)
        keys[subject, session] = index
        rest = {str(k): v for k, v in row.items() if k not in {where, who, when}}
        scans.append(Scan(subject, session, path, rest))
    refuse_list(
        table, f"a path outside {root}:", outside, "move the table or the images into one folder"
    )
    check_files(table, (scan.path for scan in scans), root)
    return Cohort(root, tuple(scans), tuple(warnings))


def read_folder(root: Path) -> Cohort:
    """Read the images below a folder; ``folder``, the one field, is the image's own folder.

    The subject is what follows ``sub-`` in the name, else the file's stem (warned of). Where some
    names end in ``_T1w``, the others (masks, segmentations) are left aside.
    """
    if not root.is_dir():
        raise BadInput(root, "not a folder", "give a folder of images")
    warnings = [f"{root.name}: a plain folder, so the scans have no fields but their folder's name"]
    found = sorted(root.rglob("*"), key=natural)
    files = [p for p in found if is_image(p) and not p.name.startswith(".")]
    named = [p for p in files if stem(p).endswith("_T1w")]
    if named and len(named) < len(files):
        others = [p.name for p in files if p not in set(named)]
        warnings.append(f"not named _T1w, left aside: {shorten(others)}")
        files = named
    check_files(root, files)
    scans, guessed = [], []
    for file in files:
        relative = file.relative_to(root).as_posix()
        subject = entity("sub-", relative)
        if subject is None:
            guessed.append(file.name)
            subject = re.sub(r"[^\w.+-]+", "-", stem(file)).strip("-.+") or "image"
        folder = file.relative_to(root).parent.as_posix()
        fields = {"folder": "" if folder == "." else folder}
        scans.append(Scan(subject, entity("ses-", relative) or "", file, fields))
    if guessed:
        warnings.append(
            f"no sub- in the name, each taken for a person of its own: {shorten(guessed)}"
        )
    return Cohort(root, tuple(scans), tuple(warnings))


READERS: Mapping[str, Callable[[Path], Cohort]] = {
    "bids": read_bids,
    "table": read_table_of_images,
    "caps": read_caps,
    "folder": read_folder,
    "dicom": read_dicom_tree,
}
