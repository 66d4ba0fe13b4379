"""Cohorts of DICOM series: one folder or zip per subject, as imaging archives export them."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.progress import track

from uncus.data.cohorts.bids_names import entity, is_named_image, join, natural, to_label
from uncus.data.cohorts.participants import (
    check_rows,
    fields_of,
    participants_table,
    relabelled,
)
from uncus.data.cohorts.scans import Cohort, Scan
from uncus.data.dicom import reader
from uncus.data.dicom.signature import has_signature, is_named
from uncus.data.errors import BadInput
from uncus.data.file_tree import Ignored, ignored_warnings, is_hidden, list_files, walk
from uncus.data.text import natural_text, shorten

CONCURRENT = 4  # child processes that read headers


def read_dicom_folders(root: Path) -> Cohort:
    """Read a folder with a folder or zip of DICOM files per subject.

    The subject is the ``sub-`` entity of the folder's name, else the PatientID, else the folder's
    name; the session is the ``ses-`` entity of a subfolder's name, else the StudyDate. Each session
    is one scan. A folder of several patients, or a session of several series, becomes one scan too:
    reading it raises an error that lists the series, without affecting the other scans;
    ``--series`` chooses one. Fields come from ``participants.tsv`` in ``root``, else age and sex
    from the DICOM headers.
    """
    if not root.is_dir():
        raise BadInput(root, "not a folder", "give a folder with a folder of DICOM per subject")
    warnings: list[str] = []
    left_out: dict[str, str] = {}
    folders = subject_folders(root, warnings, left_out)
    table = root / "participants.tsv"
    participants = participants_table(table) if table.is_file() else None
    scans: list[Scan] = []
    patients: dict[str, list[str]] = {}  # PatientID -> folders
    owners: dict[str, dict[str, str]] = {}  # subject -> PatientID -> folder
    aside: dict[str, list[str]] = {}  # reason -> folders
    for folder, series in zip(folders, list_series(folders), strict=True):
        scans += scans_in(folder, series, left_out)
        reasons = {one["aside"] for one in series}
        for reason in reasons - {""} if "" in reasons else ():
            aside.setdefault(reason, []).append(folder.name)
        for patient in {one["patient"] for one in series} - {""}:
            who = patient.casefold()
            patients.setdefault(who, []).append(folder.name)
            subject = entity("sub-", folder.name)
            owners.setdefault(subject or to_label(patient), {})[who] = folder.name
    for subject, found in owners.items():
        places = sorted(set(found.values()), key=natural_text)
        # One folder of several patients becomes one scan, which is rejected by itself.
        if len(found) > 1 and (len(places) > 1 or not entity("sub-", places[0])):
            raise BadInput(
                root,
                f"sub-{subject} has {len(found)} PatientIDs, in {shorten(places, 5)}",
                "give each patient a folder named sub-LABEL",
            )
    for names in patients.values():
        if len(names) > 1:
            same = len({scan.subject for scan in scans if folder_of(root, scan) in names}) == 1
            handling = "treated as one subject" if same else "possibly one subject named twice"
            handling += " (folders named sub-LABEL tell people apart)" if same else ""
            warnings.append(f"{shorten(names, 4)} have the same PatientID: {handling}")
    for reason, names in sorted(aside.items()):
        warnings.append(f"a series that {reason} is left aside: {shorten(names, 4)}")
    if participants is None:
        warnings.append(f"{root.name}: no participants.tsv, so there are no labels to train on")
    else:
        keys = sorted({(scan.subject, scan.session) for scan in scans})
        participants = relabelled(table.name, participants, keys, warnings)
        scans = [replace(s, fields=fields_of(participants, s.subject, s.session)) for s in scans]
        for key in check_rows(table, participants, keys, warnings):
            left_out[join(*key)] = "without a DICOM series"
    return Cohort(root, tuple(scans), tuple(warnings), left_out)


def folder_of(root: Path, scan: Scan) -> str:
    """The name of the folder or zip in ``root`` that contains a scan."""
    inside = scan.path.relative_to(root).parts
    return inside[0] if inside else root.name


def contains_dicom(root: Path) -> bool:
    """Whether there are DICOM or zip files anywhere below ``root``, and no other images."""
    found = False
    for path in walk(root, (), {}):
        if is_named_image(path.name):
            return False
        found = found or is_source(path)
    return found


def is_dicom_file(path: Path) -> bool:
    """Whether a file is DICOM by its name or its first bytes."""
    return path.is_file() and (is_named(path) or has_signature(path))


def is_source(path: Path) -> bool:
    """Whether a file is DICOM or may contain it."""
    return path.suffix.lower() == ".zip" or is_dicom_file(path)


def subject_folders(root: Path, warnings: list[str], left_out: dict[str, str]) -> list[Path]:
    """The folders and zips in ``root`` that contain DICOM files; ``root`` if it is one itself."""
    ignored: Ignored = {}
    files = list_files(root, ignored)
    warnings += ignored_warnings(ignored)
    if any(path.parent == root and is_dicom_file(path) for path in files):
        return [root]
    below: dict[Path, list[Path]] = {}
    for path in files:
        below.setdefault(root / path.relative_to(root).parts[0], []).append(path)
    folders = [folder for folder, inside in below.items() if any(map(is_source, inside))]
    named = {path.name for path in folders}.union(*ignored.values())
    for path in root.iterdir():
        if path.is_dir() and not is_hidden(path.name) and path.name not in named:
            left_out[path.name] = "without DICOM files"
    return sorted(folders, key=natural)


def list_series(folders: list[Path]) -> Iterator[list[dict[str, str]]]:
    """List the records of each folder's series; none if the folder is rejected."""

    def read(folder: Path) -> list[dict[str, str]]:
        try:
            return reader.list_records(folder)
        except BadInput:  # raised again when the scan is read
            return []

    console = Console(stderr=True)
    with ThreadPoolExecutor(CONCURRENT) as pool:  # each thread waits for a child process
        series = pool.map(read, folders)
        bar = {"console": console, "disable": not console.is_terminal}
        yield from track(series, "reading headers", len(folders), **bar)  # type: ignore[arg-type]


def scans_in(
    folder: Path, series: list[dict[str, str]], left_out: dict[str, str]
) -> Iterator[Scan]:
    """One scan per session in a subject's folder, from the records of its series.

    Sessions of nothing but localizers, screen saves and the like are left out where the subject has
    others.
    """
    subject = entity("sub-", folder.name)
    if not series:
        name = folder.stem if folder.is_file() else folder.name
        yield Scan(subject or to_label(name), "", folder)
        return
    patients = {one["patient"] for one in series if not one["aside"]} - {""}
    if subject and len(patients) > 1:  # whose, is not known: reading the folder lists them
        yield Scan(subject, "", folder)
        return
    # Some series may have no PatientID.
    known = min((one["patient"] for one in series if one["patient"]), default="")
    subject = subject or to_label(known or folder.name)
    sessions: dict[str, list[dict[str, str]]] = {}
    for one in series:
        sessions.setdefault(entity("ses-", one["folder"]) or one["date"], []).append(one)
    volumes = [name for name, ones in sessions.items() if not all(one["aside"] for one in ones)]
    for session, members in sorted(sessions.items()):
        if volumes and session not in volumes:
            reasons = shorten(list(dict.fromkeys(one["aside"] for one in members)), 3)
            left_out[join(subject, session)] = f"with a series only that {reasons}"
            continue
        members = [one for one in members if not one["aside"]] or members
        first = members[0]
        path = folder
        if not folder.is_file():
            path = folder / os.path.commonpath([one["folder"] for one in members])
        yield Scan(
            subject,
            to_label(session) if session else "",
            path,
            {name: first[name] for name in ("age", "sex")},
            first["series"] if len(members) == 1 else "",
        )
