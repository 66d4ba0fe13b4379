"""Cohorts in folders of subjects: BIDS, raw or derivative, and Clinica's CAPS."""

import json
import re
from pathlib import Path

from uncus.data.cohorts.bids_names import (
    Key,
    check_files,
    entity,
    join,
    labelled_folders,
    natural,
    refuse_duplicate,
    refuse_list,
    strip,
)
from uncus.data.cohorts.scans import Cohort, Scan
from uncus.data.errors import BadInput
from uncus.data.tables import need_column, read_table, same_value
from uncus.data.text import shorten

T1W = re.compile(r".+_T1w\.nii(\.gz)?")


def read_bids(root: Path) -> Cohort:
    """Read a BIDS tree, raw or derivative, with or without sessions.

    Images are ``sub-*/[ses-*/]anat/*_T1w.nii[.gz]`` (in a derivative, any folder below
    the session); the first of several in a session is taken, with a warning. Fields come from
    ``participants.tsv`` (a row per subject, or per scan with ``session_id``) and each subject's
    ``sessions.tsv``, whose values win.
    """
    return read_tree(root, root, "bids")


def read_caps(root: Path) -> Cohort:
    """Read a Clinica / ClinicaDL CAPS tree: ``subjects/sub-*/ses-*/t1_linear/*_T1w.nii.gz``.

    The cropped image (``desc-Crop``) is preferred. ``participants.tsv`` is optional.
    """
    subjects = root / "subjects"
    return read_tree(root, subjects if subjects.is_dir() else root, "caps")


def read_tree(root: Path, subjects: Path, layout: str) -> Cohort:
    """What ``read_bids`` and ``read_caps`` share: the images found, joined with the tables."""
    if not root.is_dir():
        raise BadInput(root, "not a folder", f"a {layout} tree is a folder of sub-* folders")
    warnings: list[str] = []
    images = find_images(root, subjects, layout, warnings)
    tables = (root / "participants.tsv", subjects / "participants.tsv")
    table = next((path for path in tables if path.is_file()), None)
    people = participants_table(table) if table else {}
    if table is None:
        warnings.append(f"{root.name}: no participants.tsv, so the scans have no fields of people")
    named = {subject for subject, _ in images}
    absent = [join(*k) for k in people if (k not in images if k[1] else k[0] not in named)]
    refuse_list(table or root, "no T1w image for", absent, "add the images or take out the rows")
    unlisted = [join(*key) for key in images if key not in people and (key[0], "") not in people]
    if unlisted and table:
        warnings.append(f"{table.name}: no row for {shorten(unlisted)}")
    check_files(root, images.values())
    visits = {key: row for name in sorted(named) for key, row in sessions_table(subjects, name)}
    scans, differing = [], dict[str, int]()
    for (subject, session), path in images.items():
        fields = {**people.get((subject, ""), {}), **people.get((subject, session), {})}
        for name, value in visits.get((subject, session), {}).items():
            if value and fields.get(name) and not same_value(value, fields[name]):
                differing[name] = differing.get(name, 0) + 1
            fields[name] = value or fields.get(name, "")
        scans.append(Scan(subject, session, path, fields))
    for name, count in differing.items():
        warnings.append(
            f"{name}: sessions.tsv and participants.tsv differ for {count} scans; the former wins"
        )
    return Cohort(root, tuple(scans), tuple(warnings))


def fields_beside(image: Path) -> dict[str, str]:
    """What the tables of the BIDS tree around ``image`` say of its person and session.

    Empty where the image lies in no tree, or the tree has no row for it.

    Raises
    ------
    BadInput: tables that break the rules of BIDS.
    """
    image = image.resolve()
    folder = next((p for p in image.parents if p.name.startswith("sub-")), None)
    if folder is None:
        return {}
    inside = image.relative_to(folder).as_posix()
    subject, session = strip(folder.name, "sub-"), entity("ses-", inside) or ""
    tables = (root / "participants.tsv" for root in (folder.parent, folder.parent.parent))
    table = next((path for path in tables if path.is_file()), None)
    people = participants_table(table) if table else {}
    fields = {**people.get((subject, ""), {}), **people.get((subject, session), {})}
    visit = dict(sessions_table(folder.parent, subject)).get((subject, session), {})
    return fields | {name: value for name, value in visit.items() if value}


def find_images(root: Path, subjects: Path, layout: str, warnings: list[str]) -> dict[Key, Path]:
    """The one T1w image of each subject and session; what was left aside goes to ``warnings``."""
    derivative = layout == "bids" and is_derivative(root, warnings)
    images: dict[Key, Path] = {}
    for folder in labelled_folders(subjects, "sub-"):
        subject, visits = strip(folder.name, "sub-"), list(labelled_folders(folder, "ses-"))
        for visit in [folder, *visits]:
            session = strip(visit.name, "ses-") if visit != folder else ""
            found = t1w_images(visit, layout, derivative and (visit != folder or not visits))
            if len(found) > 1 and not (is_crop(found[0]) and not is_crop(found[1])):
                warnings.append(
                    f"{visit.relative_to(root)}: {len(found)} T1w images, {found[0].name} is taken"
                )
            if found:
                images[subject, session] = found[0]
            elif session or not visits:
                warnings.append(f"{visit.relative_to(root)}: no T1w image, left out")
    return images


def participants_table(path: Path) -> dict[Key, dict[str, str]]:
    """The rows of ``participants.tsv`` by subject and session ("" where it has no session_id)."""
    frame = read_table(path)
    need_column(frame, "participant_id", path)
    rows: dict[Key, int] = {}
    people: dict[Key, dict[str, str]] = {}
    for index, row in enumerate(frame.to_dict("records")):
        key = strip(row["participant_id"], "sub-"), strip(row.get("session_id", ""), "ses-")
        if not key[0]:
            raise BadInput(
                path, f"line {frame.attrs['lines'][index]} has no participant_id", "name it"
            )
        if key in rows:
            refuse_duplicate(path, frame, key, rows[key], index)
        rows[key] = index
        skip = {"participant_id", "session_id", "filename"}
        people[key] = {str(name): cell for name, cell in row.items() if name not in skip}
    return people


def sessions_table(root: Path, subject: str) -> list[tuple[Key, dict[str, str]]]:
    """The rows of ``sub-S/sub-S_sessions.tsv``; nothing where there is none."""
    path = root / f"sub-{subject}" / f"sub-{subject}_sessions.tsv"
    if not path.is_file():
        return []
    frame = read_table(path)
    need_column(frame, "session_id", path)
    rows: dict[Key, int] = {}
    for index, session in enumerate(frame["session_id"]):
        key = subject, strip(session, "ses-")
        if key in rows:
            refuse_duplicate(path, frame, key, rows[key], index)
        rows[key] = index
    fields = frame.drop(columns=["session_id", "participant_id"], errors="ignore")
    records = fields.to_dict("records")
    return [(key, {str(k): v for k, v in records[i].items()}) for key, i in rows.items()]


def t1w_images(folder: Path, layout: str, anywhere: bool) -> list[Path]:
    """The T1w images of one visit, best first."""
    if layout == "caps":
        found = [p for p in (folder / "t1_linear").glob("*") if T1W.fullmatch(p.name)]
        return sorted(found, key=lambda p: (not is_crop(p), natural(p)))
    found = [p for p in (folder / "anat").glob("*") if T1W.fullmatch(p.name)]
    if not found and anywhere:
        found = [p for p in folder.rglob("*") if T1W.fullmatch(p.name)]
    return sorted((p for p in found if not p.name.startswith(".")), key=natural)


def is_crop(path: Path) -> bool:
    """Whether a CAPS image is cropped to 169 x 208 x 179 voxels."""
    return "_desc-Crop_" in path.name


def is_derivative(root: Path, warnings: list[str]) -> bool:
    """Whether ``dataset_description.json`` calls the tree a derivative; else it is raw."""
    path = root / "dataset_description.json"
    if not path.is_file():
        return False
    try:
        description = json.loads(path.read_text(encoding="utf-8-sig"))
        return bool(description.get("DatasetType", "raw") == "derivative")
    except (ValueError, AttributeError):
        warnings.append(f"{path.name}: not a JSON object, taken for a raw tree")
        return False
