"""A cohort in a folder of DICOM series, one folder (or zip) a person, as archives hand them out."""

import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rich.console import Console
from rich.progress import track

from uncus.data.cohorts.bids import participants_table
from uncus.data.cohorts.bids_names import IMAGES, Key, entity, join, natural, refuse_list
from uncus.data.cohorts.scans import Cohort, Scan
from uncus.data.dicom import reader
from uncus.data.dicom.signature import has_signature, is_named
from uncus.data.errors import BadInput

AT_ONCE = 4  # child processes that look into folders


def read_dicom_tree(root: Path) -> Cohort:
    """Read a folder that holds a folder or a zip of DICOM files for each person.

    The subject is what follows ``sub-`` in the folder's name, else the PatientID, else the folder's
    name; the session what follows ``ses-`` in a folder's name, else the StudyDate. Each visit is
    one scan. A folder of several people, or a visit of several series, stays one scan as well: it
    is refused when it is read, with the series listed, and the others stand; ``--series`` chooses.
    Fields come from ``participants.tsv`` in ``root``, else age and sex from the files.
    """
    if not root.is_dir():
        raise BadInput(root, "not a folder", "give a folder with a folder of DICOM for each person")
    loose = any(is_dicom_file(path) for path in root.iterdir())
    places = [root] if loose else sorted((p for p in root.iterdir() if holds(p)), key=natural)
    outside = [p.name for p in places if not p.resolve().is_relative_to(root.resolve())]
    refuse_list(root, "folders outside the root:", outside, "copy them into it")
    table = root / "participants.tsv"
    people = participants_table(table) if table.is_file() else None
    scans: list[Scan] = []
    warnings: list[str] = []
    owners: dict[str, list[str]] = {}
    for place, found in zip(places, looked_into(places), strict=True):
        for scan in visits(place, found):
            if people is not None:
                mine = people.get((scan.subject, ""), {})
                fields = {**mine, **people.get((scan.subject, scan.session), {})}
                scan = Scan(scan.subject, scan.session, scan.path, fields, scan.series)
            scans.append(scan)
        for patient in {one["patient"] for one in found} - {""}:
            owners.setdefault(patient, []).append(place.name)
    shared = [names for names in owners.values() if len(names) > 1]
    for names in shared:
        same = len({entity("sub-", name) for name in names}) == 1
        said = "taken as one person" if same else "perhaps one person under several names"
        warnings.append(f"{', '.join(names[:4])} have the same PatientID: {said}")
    if people is None:
        warnings.append(f"{root.name}: no participants.tsv, so there are no labels to train on")
    else:
        check_rows(table, people, scans, warnings)
    return Cohort(root, tuple(scans), tuple(warnings))


def holds_dicom(root: Path) -> bool:
    """Whether DICOM is below ``root`` and no image of another kind."""
    seen = False
    for at, _, names in os.walk(root):
        for name in names:
            if name.lower().endswith(IMAGES):
                return False
            seen = seen or is_dicom_file(Path(at, name)) or name.lower().endswith(".zip")
    return seen


def is_dicom_file(path: Path) -> bool:
    """Whether a file is DICOM by its bytes or its name, looking at few bytes."""
    return path.is_file() and (is_named(path) or has_signature(path))


def holds(path: Path) -> bool:
    """Whether an entry of the root is somebody's folder or zip."""
    if path.name.startswith((".", "__MACOSX")):
        return False
    return path.suffix.lower() == ".zip" or (path.is_dir() and holds_dicom(path))


def looked_into(places: list[Path]) -> Iterator[list[dict[str, str]]]:
    """The series in each folder, see uncus.data.dicom.reader; none where they are refused."""

    def look(place: Path) -> list[dict[str, str]]:
        try:
            return reader.list_records(place)
        except BadInput:  # said when the scan is read
            return []

    console = Console(stderr=True)
    with ThreadPoolExecutor(AT_ONCE) as pool:  # each thread waits for a child process
        found = pool.map(look, places)
        bar = {"console": console, "disable": not console.is_terminal}
        yield from track(found, "looking", total=len(places), **bar)  # type: ignore[arg-type]


def visits(place: Path, found: list[dict[str, str]]) -> Iterator[Scan]:
    """A scan for each visit in one person's folder."""
    named = entity("sub-", place.name)
    if not found:
        yield Scan(named or label(place.stem if place.is_file() else place.name), "", place)
        return
    grouped: dict[str, list[dict[str, str]]] = {}
    for one in found:
        grouped.setdefault(entity("ses-", one["folder"]) or one["date"], []).append(one)
    for session, series in sorted(grouped.items()):
        first = series[0]
        subject = named or label(first["patient"] or place.name)
        fields = {name: first[name] for name in ("age", "sex")}
        folder = os.path.commonpath([one["folder"] for one in series])
        where = place if place.is_file() else place / folder
        uid = first["series"] if len(series) == 1 else ""
        yield Scan(subject, label(session) if session else "", where, fields, uid)


def label(text: str) -> str:
    """A text as a BIDS label: letters, digits, and what a file's name may hold."""
    return re.sub(r"[^\w.+-]+", "-", text).strip("-.+_") or "unnamed"


def check_rows(
    table: Path, people: dict[Key, dict[str, str]], scans: list[Scan], warnings: list[str]
) -> None:
    """Rows without images are refused, images without rows warned of."""
    keys = {(scan.subject, scan.session) for scan in scans}
    subjects = {scan.subject for scan in scans}
    absent = [join(*k) for k in people if (k not in keys if k[1] else k[0] not in subjects)]
    refuse_list(table, "no DICOM series for", absent, "add the images or take out the rows")
    unlisted = [join(*k) for k in sorted(keys) if k not in people and (k[0], "") not in people]
    if unlisted:
        warnings.append(f"{table.name}: no row for {', '.join(unlisted[:8])}")
