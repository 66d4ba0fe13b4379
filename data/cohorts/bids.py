"""Cohorts in BIDS layout, raw or derivative, and in Clinica's CAPS layout."""

import json
import re
from collections.abc import Collection, Iterable
from pathlib import Path

from uncus.data.cohorts.bids_names import (
    Key,
    check_files,
    entity,
    join,
    labelled_folders,
    number_alone,
    pair_labels,
    parts,
    raise_duplicate,
)
from uncus.data.cohorts.scans import Cohort, Scan
from uncus.data.errors import BadInput
from uncus.data.file_tree import Ignored, ignored_warnings, list_files
from uncus.data.tables import need_column, read_table, same_value
from uncus.data.text import natural_text, shorten

T1W = re.compile(r".+_T1w\.nii(\.gz)?")

Rows = dict[Key, dict[str, str]]  # the cells of each subject and session, by column


def read_bids(root: Path) -> Cohort:
    """Read a BIDS tree, raw or derivative, with or without sessions.

    Images are ``sub-*/[ses-*/]anat/*_T1w.nii[.gz]`` (in a derivative, any folder below the
    session). Where a session has several, the first is used, with a warning. Fields come from
    ``participants.tsv`` (one row per subject, or per scan with ``session_id``) and from each
    subject's ``sessions.tsv``, which takes precedence.
    """
    return read_tree(root, root, "bids")


def read_caps(root: Path) -> Cohort:
    """Read a Clinica / ClinicaDL CAPS tree: ``subjects/sub-*/ses-*/t1_linear/*_T1w.nii.gz``.

    The cropped image (``desc-Crop``) is preferred. ``participants.tsv`` is optional.
    """
    subjects = root / "subjects"
    return read_tree(root, subjects if subjects.is_dir() else root, "caps")


def read_tree(root: Path, subjects: Path, layout: str) -> Cohort:
    """Join the images of a BIDS or CAPS tree with the fields in its tables."""
    if not root.is_dir():
        raise BadInput(root, "not a folder", f"a {layout} tree is a folder of sub-* folders")
    warnings: list[str] = []
    images, without = find_images(root, subjects, layout, warnings)
    tables = (root / "participants.tsv", subjects / "participants.tsv")
    table = next((path for path in tables if path.is_file()), None)
    participants = participants_table(table) if table else {}
    if table:
        participants = relabelled(table.name, participants, images, warnings)
        named = {subject for subject, _ in without}
        absent = check_rows(table, participants, images, warnings)
        without |= {key: None for key in absent if key[1] or key[0] not in named}
    else:
        warnings.append(f"{root.name}: no participants.tsv, so scans have no participant fields")
    check_files(root, images.values())
    names = sorted({subject for subject, _ in images})
    rows = {key: row for name in names for key, row in sessions_table(subjects, name)}
    sessions = relabelled("sessions.tsv", rows, images, warnings)
    warnings += unlisted_sessions(sessions, images)
    scans, differing = [], dict[str, int]()
    for (subject, session), path in images.items():
        fields = fields_of(participants, subject, session)
        for name, value in sessions.get((subject, session), {}).items():
            if value and fields.get(name) and not same_value(value, fields[name]):
                differing[name] = differing.get(name, 0) + 1
            fields[name] = value or fields.get(name, "")
        scans.append(Scan(subject, session, path, fields))
    for name, count in differing.items():
        warnings.append(
            f"{name}: sessions.tsv and participants.tsv differ for {count} scans; "
            "sessions.tsv is used"
        )
    names = sorted((join(*key) for key in without), key=natural_text)
    left_out = dict.fromkeys(names, "without a T1w image")
    return Cohort(root, tuple(scans), tuple(warnings), left_out)


def bids_fields(image: Path) -> dict[str, str]:
    """The fields of one image in the tables of the BIDS tree that contains it.

    Empty if the image is not in a BIDS tree, or its tables have no row for it.

    Raises
    ------
    BadInput: tables that break the rules of BIDS.
    """
    image = image.resolve()
    folder = next((p for p in image.parents if p.name.startswith("sub-")), None)
    if folder is None:
        return {}
    inside = image.relative_to(folder).as_posix()
    subject, session = folder.name.removeprefix("sub-"), entity("ses-", inside) or ""
    tables = (root / "participants.tsv" for root in (folder.parent, folder.parent.parent))
    table = next((path for path in tables if path.is_file()), None)
    keys = {
        (path.name.removeprefix("sub-"), "") for path in labelled_folders(folder.parent, "sub-")
    }
    visits = labelled_folders(folder, "ses-")
    keys |= {(subject, session), *((subject, path.name.removeprefix("ses-")) for path in visits)}
    participants = relabelled("", participants_table(table), keys, []) if table else {}
    fields = fields_of(participants, subject, session)
    sessions = relabelled("", dict(sessions_table(folder.parent, subject)), keys, [])
    row = sessions.get((subject, session), {})
    return fields | {name: value for name, value in row.items() if value}


def find_images(
    root: Path, subjects: Path, layout: str, warnings: list[str]
) -> tuple[dict[Key, Path], dict[Key, None]]:
    """One T1w image per subject and session, and those without; warns of images not used."""
    ignored: Ignored = {}
    derivative = layout == "bids" and is_derivative(root, warnings)
    images: dict[Key, Path] = {}
    without: dict[Key, None] = {}  # a set in order
    for folder in labelled_folders(subjects, "sub-"):
        subject = folder.name.removeprefix("sub-")
        sessions = list(labelled_folders(folder, "ses-"))
        for parent in [folder, *sessions]:
            session = parent.name.removeprefix("ses-") if parent != folder else ""
            anywhere = derivative and (parent != folder or not sessions)
            paths = t1w_images(parent, layout, anywhere, ignored)
            if len(paths) > 1 and not (is_crop(paths[0]) and not is_crop(paths[1])):
                warnings.append(
                    f"{parent.relative_to(root)}: {len(paths)} T1w images, using {paths[0].name}"
                )
            if paths:
                images[subject, session] = paths[0]
            elif session or not sessions:
                without[subject, session] = None
    warnings += ignored_warnings(ignored)
    return images, without


def participants_table(path: Path) -> Rows:
    """The rows of ``participants.tsv`` by subject and session ("" if it has no session_id)."""
    frame = read_table(path)
    need_column(frame, "participant_id", path)
    first: dict[Key, int] = {}
    participants: Rows = {}
    for index, row in enumerate(frame.to_dict("records")):
        subject = row["participant_id"].removeprefix("sub-")
        key = subject, row.get("session_id", "").removeprefix("ses-")
        if not subject:
            line = frame.attrs["lines"][index]
            raise BadInput(path, f"line {line} has no participant_id", "add it")
        if key in first:
            raise_duplicate(path, frame, key, first[key], index)
        first[key] = index
        skip = {"participant_id", "session_id", "filename"}
        participants[key] = {str(name): cell for name, cell in row.items() if name not in skip}
    return participants


def fields_of(participants: Rows, subject: str, session: str) -> dict[str, str]:
    """The fields of a scan: those of its subject, overridden by those of its session."""
    return {**participants.get((subject, ""), {}), **participants.get((subject, session), {})}


def relabelled(name: str, rows: Rows, keys: Collection[Key], warnings: list[str]) -> Rows:
    """The rows under the labels of the scans, where the table ``name`` spells them otherwise.

    1 and ses-01 are the same where no other label of the subject could be meant, likewise m6 and
    ses-M006; a warning tells of it.
    """
    given, wanted = sessions_of(rows), sessions_of(keys)
    subjects = pair_labels(given.keys(), wanted.keys(), [parts])
    pairs: dict[Key, Key] = {}
    for subject, labels in given.items():
        found = subjects.get(subject, subject)
        same = pair_labels(labels - {""}, wanted.get(found, set()) - {""}, [parts, number_alone])
        pairs |= {(subject, label): (found, same.get(label, label)) for label in labels}
    other = [f"{join(*key)} as {join(*pairs[key])}" for key in rows if key != pairs[key]]
    if other:
        warnings.append(f"{name}: reads {shorten(other)}")
    return {pairs[key]: row for key, row in rows.items()}


def sessions_of(keys: Iterable[Key]) -> dict[str, set[str]]:
    """Subject -> its sessions ("" for none)."""
    sessions: dict[str, set[str]] = {}
    for subject, session in keys:
        sessions.setdefault(subject, set()).add(session)
    return sessions


def unlisted_sessions(sessions: Rows, keys: Collection[Key]) -> list[str]:
    """A warning of scans that have no row in their subject's ``sessions.tsv``."""
    listed = {subject for subject, _ in sessions}
    absent = [join(*key) for key in keys if key[0] in listed and key not in sessions]
    return [f"sessions.tsv: no row for {shorten(absent)}"] if absent else []


def check_rows(
    table: Path, participants: Rows, keys: Collection[Key], warnings: list[str]
) -> dict[Key, None]:
    """The rows of participants without an image; warn of images without a row.

    Parameters
    ----------
    keys: subject and session of every image.
    """
    subjects = {subject for subject, _ in keys}
    unlisted = [join(*k) for k in keys if k not in participants and (k[0], "") not in participants]
    if unlisted:
        warnings.append(f"{table.name}: no row for {shorten(unlisted)}")
    return {k: None for k in participants if (k not in keys if k[1] else k[0] not in subjects)}


def sessions_table(root: Path, subject: str) -> list[tuple[Key, dict[str, str]]]:
    """The rows of ``sub-S/sub-S_sessions.tsv``; empty if there is no such file."""
    path = root / f"sub-{subject}" / f"sub-{subject}_sessions.tsv"
    if not path.is_file():
        return []
    frame = read_table(path)
    need_column(frame, "session_id", path)
    rows: dict[Key, int] = {}
    for index, session in enumerate(frame["session_id"]):
        key = subject, session.removeprefix("ses-")
        if key in rows:
            raise_duplicate(path, frame, key, rows[key], index)
        rows[key] = index
    fields = frame.drop(columns=["session_id", "participant_id"], errors="ignore")
    records = fields.to_dict("records")
    return [(key, {str(k): v for k, v in records[i].items()}) for key, i in rows.items()]


def t1w_images(folder: Path, layout: str, anywhere: bool, ignored: Ignored) -> list[Path]:
    """The T1w images of one session, best first."""
    inside = folder / ("t1_linear" if layout == "caps" else "anat")
    files = list_files(inside, ignored) if inside.is_dir() else []
    images = [path for path in files if path.parent == inside and T1W.fullmatch(path.name)]
    if layout == "caps":
        return sorted(images, key=lambda path: not is_crop(path))
    if not images and anywhere:
        images = [path for path in list_files(folder, ignored) if T1W.fullmatch(path.name)]
    return images


def is_crop(path: Path) -> bool:
    """Whether a CAPS image is cropped to 169 x 208 x 179 voxels."""
    return "_desc-Crop_" in path.name


def is_derivative(root: Path, warnings: list[str]) -> bool:
    """Whether ``dataset_description.json`` declares the tree a derivative; default: raw."""
    path = root / "dataset_description.json"
    if not path.is_file():
        return False
    try:
        description = json.loads(path.read_text(encoding="utf-8-sig"))
        return bool(description.get("DatasetType", "raw") == "derivative")
    except (ValueError, AttributeError):
        warnings.append(f"{path.name}: not a JSON object; reading the tree as a raw dataset")
        return False
