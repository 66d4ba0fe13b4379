"""List the DICOM series in files, and decode one.

``list_series``, ``list_records``, ``group_files`` and ``load`` are the tasks that
uncus.data.dicom.reader runs in a child process.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from uncus.data.dicom import frame
from uncus.data.dicom.geometry import stack
from uncus.data.dicom.grouping import Found, aside_warnings, choose_series, find_series
from uncus.data.dicom.members import check_file_count, list_members, no_dicom_error, split_dicom
from uncus.data.dicom.patient import check_one_patient
from uncus.data.dicom.pixels import read_voxels
from uncus.data.dicom.suitability import suitability_warnings
from uncus.data.dicom.zip_archive import Member
from uncus.data.errors import BadInput
from uncus.data.file_tree import Ignored, ignored_warnings
from uncus.data.text import printable, shorten

# PatientIDs that tell nobody apart: anonymizers write them into every file.
ANONYMOUS = re.compile(r"anon\w*|de-?id\w*|unknown|none|no ?name|0+|x+", re.IGNORECASE)


@dataclass(frozen=True)
class DicomFiles:
    """The series in a set of files, and warnings about the files."""

    series: tuple[Found, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class SeriesRecord:
    """Where a series is and of whom, as far as its header shows; "" stands for absent values.

    Parameters
    ----------
    series: SeriesInstanceUID.
    folder: the deepest folder that contains all its files, relative to the searched one.
    patient: PatientID, "" for one that everybody gets, such as ANONYMOUS.
    date: StudyDate, eight digits.
    age: years.
    sex: "F", "M" or "O".
    aside: why the series is left aside where there are others, "" if it is not.
    """

    series: str
    folder: str
    patient: str
    date: str
    age: str
    sex: str
    aside: str


def list_series(folder: Path, paths: list[str], name: str) -> list[dict[str, Any]]:
    """List the series in ``paths`` as dicts of Series' fields."""
    return [asdict(found.series) for found in read_files(folder, paths, name).series]


def load(folder: Path, paths: list[str], name: str, series: str, voxels: int) -> dict[str, Any]:
    """Decode one series to ``folder``/voxels.npy, float32 [columns, rows from the bottom, slices].

    Returns
    -------
    the affine (mm, RAS+), warnings, Series' fields, and the subject's age in years and sex.
    """
    files = read_files(folder, paths, name)
    found = choose_series(files.series, name, series)
    frames = found.frames
    stacked = stack(name, frames)
    count = found.series.columns * found.series.rows * len(stacked.slices)
    if count > voxels:
        raise BadInput(
            name, f"has {count:,} voxels, over the cap of {voxels:,}", "resample the scan first"
        )
    array, pixel_warnings = read_voxels(name, frames, stacked.slices)
    np.save(folder / "voxels.npy", array)
    warnings = [
        *files.warnings,
        *aside_warnings(files.series, found, series),
        *suitability_warnings(found.headers),
        *stacked.warnings,
        *pixel_warnings,
    ]
    record = series_record(found)
    return {
        "affine": stacked.affine.tolist(),
        "warnings": list(dict.fromkeys(warnings)),
        "series": asdict(found.series),
        "demographics": {
            "age": record.age,
            "sex": record.sex,
            "series": found.series.description,
            **scanner(found.headers[0]),
        },
    }


def scanner(header: frame.Header) -> dict[str, str]:
    """Field strength (T) and manufacturer; "" where the header has none."""
    names = ("MagneticFieldStrength", "Manufacturer")
    return {name.lower(): header.text(name) for name in names}


def group_files(folder: Path, paths: list[str], name: str) -> list[list[int]]:
    """Group the indices of single files by series.

    A file that cannot be read is a group of its own, and is rejected when it is decoded.
    """
    groups: dict[str, list[int]] = {}
    for index, text in enumerate(paths):
        try:
            header = frame.read_header(Member(Path(text), Path(text).name))
        except BadInput:
            header = None
        uid = header.series if header else ""
        groups.setdefault(uid or f"file {index}", []).append(index)
    return list(groups.values())


def list_records(folder: Path, paths: list[str], name: str) -> list[dict[str, Any]]:
    """List the series in ``paths`` as dicts of SeriesRecord's fields."""
    files = read_files(folder, paths, name)
    return [asdict(series_record(found)) for found in files.series]


def series_record(found: Found) -> SeriesRecord:
    """Summarize a series' header."""
    header = found.headers[0]
    patients = (one.text("PatientID") for one in found.headers)
    folders = {Path(one.member.name).parent.as_posix() for one in found.headers}
    date, age = header.text("StudyDate"), header.text("PatientAge").upper()
    return SeriesRecord(
        series=printable(header.series),
        folder=os.path.commonpath(list(folders)) if "." not in folders else ".",
        patient=next((one for one in patients if one and not ANONYMOUS.fullmatch(one)), ""),
        date=date if len(date) == 8 and date.isdecimal() else "",
        age=str(int(age[:-1])) if age.endswith("Y") and age[:-1].isdecimal() else "",
        sex=header.text("PatientSex").upper()[:1],
        aside=found.series.aside,
    )


def read_files(folder: Path, paths: Sequence[str], name: str) -> DicomFiles:
    """Find all images in files, folders and zips, and sort them into series.

    Raises
    ------
    BadInput: there are no images, one is damaged, or they are of several patients.
    """
    members: list[Member] = []
    ignored: Ignored = {}
    for number, text in enumerate(paths):
        members += list_members(folder / f"in-{number}", Path(text), ignored)
    check_file_count(members, name)
    dicom, other = split_dicom(members)
    if not dicom:
        raise no_dicom_error(members, name)
    images = [header for header in map(frame.read_header, dicom) if header]
    if not images:
        raise BadInput(name, "contains no images (no pixels)", "give the T1-weighted series")
    warnings = check_one_patient([header.patient for header in images], name)
    warnings += [f"{line[0].upper()}{line[1:]}." for line in ignored_warnings(ignored)]
    if other:
        names = shorten([member.name for member in other], 3)
        warnings.append(f"Files that are not DICOM were ignored: {names}.")
    reports = len(dicom) - len(images)
    if reports:
        warnings.append(f"{reports} DICOM objects without pixels were ignored.")
    return DicomFiles(find_series(images, name), tuple(warnings))
