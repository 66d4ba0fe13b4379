"""Cohort readers: each function in ``READERS`` reads a folder or table as a Cohort."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from uncus.data.cohorts.bids import read_bids, read_caps
from uncus.data.cohorts.bids_names import (
    Key,
    check_files,
    computed_from_others,
    entity,
    is_image,
    is_named_image,
    join,
    labelled_folders,
    raise_duplicate,
    raise_if_any,
    stem,
    subject_from_path,
)
from uncus.data.cohorts.dicom_folders import contains_dicom, is_dicom_file, read_dicom_folders
from uncus.data.cohorts.freesurfer import is_freesurfer, read_freesurfer
from uncus.data.cohorts.participants import SESSION_COLUMNS, SUBJECT_COLUMNS
from uncus.data.cohorts.scans import Cohort, Scan
from uncus.data.errors import BadInput
from uncus.data.file_tree import Ignored, ignored_warnings, is_prepared, list_files, normal
from uncus.data.imageio.freesurfer import find_scan, is_segmentation
from uncus.data.tables import find_column, need_column, read_table
from uncus.data.text import displayed, shorten

PATH_COLUMNS = ("path", "filename", "file", "filepath", "file_path", "image", "image_path", "t1w")


def read_cohort(source: Path, reader: str = "auto") -> Cohort:
    """Read the scans in ``source`` with the named reader, or with the one that fits.

    Raises
    ------
    BadInput: an unknown reader, no such file or folder, or one that breaks the reader's rules.
    """
    source = Path(source)
    if reader != "auto" and reader not in READERS:
        known = ", ".join(["auto", *READERS])
        raise BadInput(f"reader {reader!r}", "unknown", f"choose one of: {known}")
    if not source.exists():
        raise BadInput(source, "no such file or folder", "check the path")
    if source.is_dir() and is_prepared({path.name for path in source.iterdir()}):
        raise BadInput(source, "a prepared cohort, not scans", "give what it was prepared from")
    return READERS[guess_reader(source) if reader == "auto" else reader](source)


def guess_reader(source: Path) -> str:
    """Guess the key in ``READERS`` from the contents of ``source``."""
    if source.is_file():
        if is_image(source):
            raise BadInput(source, "an image, not a cohort", "give its folder, or a table of paths")
        return "table"
    if is_freesurfer(source):
        return "freesurfer"
    if contains_dicom(source):
        return "dicom"
    if any(labelled_folders(source / "subjects", "sub-")):
        return "caps"
    if (source / "participants.tsv").is_file() or any(labelled_folders(source, "sub-")):
        return "bids"
    return "folder"


def read_table_of_images(table: Path) -> Cohort:
    """Read a CSV or TSV with one row per scan: the path of an image or of a folder of DICOM files.

    Paths are absolute or relative to the table's folder; ``\\`` is read as ``/`` where no file has
    it in its name. Rows without a path are left out. A relative path may not lead out of the
    folder, except by links.
    Without a participant column, the subject is the path's ``sub-`` entity, else the file's stem.
    """
    frame = read_table(table)
    path_column, subject_column, session_column = (
        find_column(frame, names) for names in (PATH_COLUMNS, SUBJECT_COLUMNS, SESSION_COLUMNS)
    )
    if path_column is None:
        need_column(frame, "path", table)
        raise AssertionError
    root, lines = table.parent, frame.attrs["lines"]
    warnings: list[str] = []
    if subject_column is None:
        warnings.append(
            f"{table.name}: no participant_id column; subjects are taken from the file names"
        )
    outside, scans, left_out = [], [], dict[str, str]()
    keys: dict[Key, int] = {}
    for index, row in enumerate(frame.to_dict("records")):
        if not row[path_column]:
            who = (subject_column and row[subject_column].removeprefix("sub-")) or ""
            when = (session_column and row[session_column].removeprefix("ses-")) or ""
            name = join(who, when) if who else f"line {lines[index]}"
            left_out[name] = "without a path"
            continue
        name = row[path_column]
        if "\\" in name and not (root / name).exists():
            name = name.replace("\\", "/")
        path = root / name
        if not Path(name).is_absolute() and not normal(path).is_relative_to(normal(root)):
            outside.append(f"line {lines[index]} ({name})")
            continue
        subject = row[subject_column] if subject_column else subject_from_path(name)
        if subject is None:
            subject = stem(path)
        subject = subject.removeprefix("sub-")
        if not subject:
            raise BadInput(
                table, f"line {lines[index]} has no {subject_column}", "add the participant"
            )
        session = row[session_column] if session_column else entity("ses-", name) or ""
        session = session.removeprefix("ses-")
        if (subject, session) in keys:
            raise_duplicate(table, frame, (subject, session), keys[subject, session], index)
        keys[subject, session] = index
        rest = {
            str(k): v
            for k, v in row.items()
            if k not in {path_column, subject_column, session_column}
        }
        scans.append(Scan(subject, session, path, rest))
    raise_if_any(table, f"relative paths that leave {root}", outside, "write absolute paths")
    paths = [scan.path for scan in scans]
    check_files(table, paths, root)
    other = [path.name for path in paths if path.is_dir() and not is_scan(path)]
    raise_if_any(table, "folders without DICOM files", other, "give the path of each image")
    return Cohort(root, tuple(scans), tuple(warnings), left_out)


def is_scan(folder: Path) -> bool:
    """Whether a folder can be read as a scan: DICOM files, or a subject of FreeSurfer."""
    return find_scan(folder) is not None or contains_dicom(folder)


def read_folder(root: Path) -> Cohort:
    """Read all images below a folder; their only field, ``folder``, is the folder each is in.

    The subject is the ``sub-`` entity of the path, else, with a warning, the file's stem, or the
    folder in ``root`` where files of one stem are in folders of their own (``ann/T1.nii``). If some
    names end in ``_T1w``, the other images (masks, segmentations) are ignored, and so are images
    that SPM, CAT12 or FSL computed from others, by their names.
    """
    if not root.is_dir():
        raise BadInput(root, "not a folder", "give a folder of images")
    warnings = [f"{root.name}: a plain folder, so the only field of a scan is its folder's name"]
    ignored: Ignored = {}
    found = list_files(root, ignored)
    warnings += ignored_warnings(ignored)
    images = [path for path in found if is_named_image(path.name)]
    files = [path for path in images if not is_segmentation(path.name)]
    if len(files) < len(images):
        others = [path.name for path in images if is_segmentation(path.name)]
        warnings.append(f"segmentations, ignored: {shorten(others, 5)}")
    dicom = [p.name for p in found if not is_named_image(p.name) and is_dicom_file(p)]
    if dicom:
        warnings.append(f"DICOM files, ignored (--reader dicom reads them): {shorten(dicom, 5)}")
    named = [p for p in files if stem(p).endswith("_T1w")]
    if named and len(named) < len(files):
        others = [p.name for p in files if p not in set(named)]
        warnings.append(f"not named _T1w, ignored: {shorten(others)}")
        files = named
    computed = computed_from_others({stem(path) for path in files})
    if computed:
        others = [path.name for path in files if stem(path) in computed]
        warnings.append(f"computed from another image by their names, ignored: {shorten(others)}")
        files = [path for path in files if stem(path) not in computed]
    check_files(root, files)
    scans, guessed, joined = [], [], []
    alike = len({stem(path) for path in files}) < len(files)
    by_folder = alike and len({path.relative_to(root).parts[0] for path in files}) == len(files)
    for file in files:
        relative = file.relative_to(root).as_posix()
        subject = subject_from_path(relative)
        if subject is None:
            guessed.append(relative if by_folder else file.name)
            own = file.relative_to(root).parts[0] if by_folder else stem(file)
            subject = re.sub(r"[^\w.+-]+", "-", own).strip("-.+") or "image"
        elif "_" in subject:
            joined.append(f"sub-{subject}")
        folder = file.relative_to(root).parent.as_posix()
        fields = {"folder": "" if folder == "." else displayed(folder)}
        scans.append(Scan(subject, entity("ses-", relative) or "", file, fields))
    if guessed:
        warnings.append(
            f"no sub- in the name, each treated as a separate subject: {shorten(guessed)}"
        )
    if joined:
        names = shorten(list(dict.fromkeys(joined)), 5)
        warnings.append(f"each whole name is one subject (sessions need ses-): {names}")
    return Cohort(root, tuple(scans), tuple(warnings))


READERS: Mapping[str, Callable[[Path], Cohort]] = {
    "bids": read_bids,
    "table": read_table_of_images,
    "caps": read_caps,
    "folder": read_folder,
    "dicom": read_dicom_folders,
    "freesurfer": read_freesurfer,
}
