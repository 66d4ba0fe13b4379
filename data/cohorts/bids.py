"""Cohorts in BIDS layout, raw or derivative, and in Clinica's CAPS layout."""

import json
import re
from collections import Counter
from pathlib import Path

from uncus.data.cohorts.bids_names import (
    Key,
    check_files,
    entity,
    join,
    labelled_folders,
    parts,
)
from uncus.data.cohorts.participants import (
    check_rows,
    fields_of,
    participants_table,
    relabelled,
    replaced,
    sessions_table,
    unlisted_sessions,
)
from uncus.data.cohorts.scans import Cohort, Scan
from uncus.data.errors import BadInput
from uncus.data.file_tree import BROKEN, Ignored, ignored_warnings, list_files, normal
from uncus.data.text import natural_text, shorten

NO_IMAGE = "without a T1w image"
OTHER_SUBJECT = "whose T1w image has another subject's name"
T1W = re.compile(r".+_T1w\.nii(\.gz)?")


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
        participants = relabelled(table.name, participants, [*images, *without], warnings)
        named = {subject for subject, _ in without}
        absent = check_rows(table, participants, images, warnings)
        without |= {key: NO_IMAGE for key in absent if key[1] or key[0] not in named}
    else:
        warnings.append(f"{root.name}: no participants.tsv, so scans have no participant fields")
    there = [*tables, *subjects.glob("sub-*/sub-*_sessions.tsv")]
    if broken := [p.name for p in dict.fromkeys(there) if p.is_symlink() and not p.exists()]:
        warnings += ignored_warnings({BROKEN: broken})
    check_files(root, images.values())
    names = sorted({subject for subject, _ in images})
    rows = {key: row for name in names for key, row in sessions_table(subjects, name)}
    sessions = relabelled("sessions.tsv", rows, images, warnings)
    warnings += unlisted_sessions(sessions, images)
    scans, differing = [], Counter[str]()
    for key, path in images.items():
        fields = replaced(fields_of(participants, *key), sessions.get(key, {}), differing)
        scans.append(Scan(*key, path, fields))
    for name, count in differing.items():
        warnings.append(
            f"{name}: sessions.tsv and participants.tsv differ for {count} scans; "
            "sessions.tsv is used"
        )
    left_out = {join(*key): reason for key, reason in without.items()}
    left_out = dict(sorted(left_out.items(), key=lambda item: natural_text(item[0])))
    return Cohort(root, tuple(scans), tuple(warnings), left_out)


def bids_fields(image: Path) -> dict[str, str]:
    """The fields of one image in the tables of the BIDS tree that contains it.

    Empty if the image is not in a BIDS tree, or its tables have no row for it.

    Raises
    ------
    BadInput: tables that break the rules of BIDS.
    """
    image = normal(image)
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
) -> tuple[dict[Key, Path], dict[Key, str]]:
    """One T1w image per subject and session, and why others have none; warns of unused images."""
    ignored: Ignored = {}
    derivative = layout == "bids" and is_derivative(root, warnings)
    images: dict[Key, Path] = {}
    without: dict[Key, str] = {}
    several: list[str] = []
    for folder in labelled_folders(subjects, "sub-", ignored):
        subject = folder.name.removeprefix("sub-")
        sessions = list(labelled_folders(folder, "ses-", ignored))
        for parent in [folder, *sessions]:
            session = parent.name.removeprefix("ses-") if parent != folder else ""
            anywhere = derivative and (parent != folder or not sessions)
            paths = t1w_images(parent, layout, anywhere, ignored)
            if len(paths) > 1 and not (is_crop(paths[0]) and not is_crop(paths[1])):
                several.append(
                    f"{parent.relative_to(root)}: {len(paths)} T1w images, using {paths[0].name}"
                )
            if paths and not names_another(paths[0], subject):
                images[subject, session] = paths[0]
            elif paths or session or not sessions:
                without[subject, session] = OTHER_SUBJECT if paths else NO_IMAGE
    warnings += [shorten(several)] if several else []
    warnings += ignored_warnings(ignored)
    return images, without


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


def names_another(path: Path, subject: str) -> bool:
    """Whether an image's name has the sub- label of another subject than its folder."""
    label = entity("sub-", path.name)
    return label is not None and parts(label) != parts(subject)


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
