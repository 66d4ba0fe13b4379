"""Sort DICOM files into series, choose one and decode it.

``list_series``, ``list_records``, ``group_files`` and ``load`` are the tasks that
uncus.data.dicom.reader runs in a child process.
"""

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from uncus.data.dicom import frame
from uncus.data.dicom.frame import Frame, Header, decoding_errors
from uncus.data.dicom.geometry import stack
from uncus.data.dicom.members import check_file_count, list_members, no_dicom_error, split_dicom
from uncus.data.dicom.pixels import read_voxels
from uncus.data.dicom.suitability import check_suitable, suitability_warnings
from uncus.data.dicom.zip_archive import Member
from uncus.data.errors import BadInput
from uncus.data.text import natural_text, printable, shorten


@dataclass(frozen=True)
class Series:
    """A volume that can be chosen.

    Parameters
    ----------
    uid: SeriesInstanceUID.
    number: SeriesNumber, "" if absent.
    description: printable SeriesDescription, with what distinguishes volumes of the same UID.
    modality: "MR", "CT" and so on.
    images: number of images.
    columns, rows: size of each image.
    """

    uid: str
    number: str
    description: str
    modality: str
    images: int
    columns: int
    rows: int

    def __str__(self) -> str:
        name = f"{self.description or 'unnamed'!r}"
        return f"{name} ({self.modality}, {self.images} images of {self.columns} x {self.rows})"


@dataclass(frozen=True)
class DicomFiles:
    """The series in a set of files, each with its frames, and warnings about the files."""

    series: tuple[tuple[Series, tuple[Frame, ...]], ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class SeriesRecord:
    """Where a series is and of whom, as far as its header shows; "" stands for absent values.

    Parameters
    ----------
    series: SeriesInstanceUID.
    folder: the deepest folder that contains all its files, relative to the searched one.
    patient: PatientID.
    date: StudyDate, eight digits.
    age: years.
    sex: "F", "M" or "O".
    """

    series: str
    folder: str
    patient: str
    date: str
    age: str
    sex: str


def list_series(folder: Path, paths: list[str], name: str) -> list[dict[str, Any]]:
    """List the series in ``paths`` as dicts of Series' fields."""
    return [asdict(series) for series, _ in read_files(folder, paths, name).series]


def load(folder: Path, paths: list[str], name: str, series: str, voxels: int) -> dict[str, Any]:
    """Decode one series to ``folder``/voxels.npy, float32 [columns, rows from the bottom, slices].

    Returns
    -------
    the affine (mm, RAS+), warnings, Series' fields, and the subject's age in years and sex.
    """
    files = read_files(folder, paths, name)
    chosen, frames = choose_series(files, name, series)
    check_suitable(name, frames)
    stacked = stack(name, frames)
    count = chosen.columns * chosen.rows * len(stacked.slices)
    if count > voxels:
        raise BadInput(
            name, f"has {count:,} voxels, over the cap of {voxels:,}", "resample the scan first"
        )
    array, pixel_warnings = read_voxels(name, frames, stacked.slices)
    np.save(folder / "voxels.npy", array)
    warnings = [*files.warnings, *suitability_warnings(frames), *pixel_warnings]
    record = series_record(frames)
    return {
        "affine": stacked.affine.tolist(),
        "warnings": list(dict.fromkeys(warnings)),
        "series": asdict(chosen),
        "demographics": {"age": record.age, "sex": record.sex},
    }


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
    return [asdict(series_record(frames)) for _, frames in files.series]


def series_record(frames: Sequence[Frame]) -> SeriesRecord:
    """Summarize a series' header."""
    header = frames[0].header
    folders = {Path(frame.header.member.name).parent.as_posix() for frame in frames}
    date, age = header.text("StudyDate"), header.text("PatientAge").upper()
    return SeriesRecord(
        series=printable(header.series),
        folder=os.path.commonpath(list(folders)) if "." not in folders else ".",
        patient=header.text("PatientID"),
        date=date if len(date) == 8 and date.isdecimal() else "",
        age=str(int(age[:-1])) if age.endswith("Y") and age[:-1].isdecimal() else "",
        sex=header.text("PatientSex").upper()[:1],
    )


def read_files(folder: Path, paths: Sequence[str], name: str) -> DicomFiles:
    """Find all images in files, folders and zips, and sort them into series.

    Raises
    ------
    BadInput: there are no images, one is damaged, or they are of several patients.
    """
    members: list[Member] = []
    for number, text in enumerate(paths):
        members += list_members(folder / f"in-{number}", Path(text))
    check_file_count(members, name)
    dicom, other = split_dicom(members)
    if not dicom:
        raise no_dicom_error(members, name)
    images = [header for header in map(frame.read_header, dicom) if header]
    if not images:
        raise BadInput(name, "contains no images (no pixels)", "give the T1-weighted series")
    check_one_patient(images, name)
    warnings = []
    if other:
        names = shorten([member.name for member in other], 3)
        warnings.append(f"Files that are not DICOM were ignored: {names}.")
    reports = len(dicom) - len(images)
    if reports:
        warnings.append(f"{reports} DICOM objects without pixels were ignored.")
    return DicomFiles(group_frames(images), tuple(warnings))


def check_one_patient(images: Sequence[Header], name: str) -> None:
    """Raise BadInput for images of several patients, without their names."""
    patients = {header.patient for header in images}
    if len(patients) > 1:
        cause = f"contains images of {len(patients)} patients"
        raise BadInput(name, cause, "give one patient's files at a time")


def group_frames(images: Sequence[Header]) -> tuple[tuple[Series, tuple[Frame, ...]], ...]:
    """Group frames by series, and within a series by echo, component and time point."""
    groups: dict[tuple[str, ...], list[Frame]] = {}
    for header in images:
        for one in frame.read_frames(header):
            groups.setdefault((header.series, *one.variant), []).append(one)
    uids = [key[0] for key in groups]
    volumes = []
    for key, frames in groups.items():
        # The variant is shown only if the series has several.
        variant = ", ".join(filter(None, key[1:])) if uids.count(key[0]) > 1 else ""
        volumes.append((describe_volume(frames, variant), tuple(frames)))
    volumes.sort(key=lambda v: natural_text(f"{v[0].number} {v[0].uid} {v[0].description}"))
    return tuple(volumes)


def describe_volume(frames: Sequence[Frame], variant: str) -> Series:
    """Describe a volume by its first frame's header and its ``variant`` within the series."""
    header, number = frames[0].header, frames[0].header.number
    with decoding_errors(header.member.name):
        ordinal = number("SeriesNumber")
    text = header.text("SeriesDescription")
    return Series(
        uid=printable(header.series),
        number="" if ordinal is None else f"{ordinal:g}",
        description=", ".join(filter(None, [text, variant])),
        modality=header.text("Modality") or "no modality",
        images=len(frames),
        columns=frames[0].columns,
        rows=frames[0].rows,
    )


def choose_series(files: DicomFiles, name: str, wanted: str) -> tuple[Series, tuple[Frame, ...]]:
    """Choose a series: the only one, or the one with this number, UID or words of its description
    (which, unlike numbers, mean the same in every folder of a cohort).

    Raises
    ------
    BadInput: several series and none chosen, or not exactly one matches; the message lists all.
    """
    series = files.series
    options = [f"{number}: {description}" for number, (description, _) in enumerate(series, 1)]
    if not wanted and len(series) == 1:
        return series[0]
    hint = f"choose one with --series and its number, 1 to {len(series)}, its UID or description"
    if not wanted:
        raise BadInput(name, f"contains {len(series)} series: {shorten(options, 20)}", hint)
    if wanted.isdecimal() and 1 <= int(wanted) <= len(series):
        return series[int(wanted) - 1]
    matches = [one for one in series if one[0].uid == wanted]
    if not matches:
        words = wanted.casefold()
        described = [(one[0].description.casefold(), one) for one in series]
        matches = [one for text, one in described if text == words]
        matches = matches or [one for text, one in described if words in text]
    if len(matches) == 1:
        return matches[0]
    what = f"{len(matches)} series" if matches else "no series"
    cause = f"contains {what} called {printable(wanted)}, but {shorten(options, 20)}"
    raise BadInput(name, cause, hint)
