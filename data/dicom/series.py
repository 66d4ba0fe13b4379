"""The series in a pile of DICOM files: found, told apart, and the one that is meant, decoded.

``listing`` and ``load`` are the tasks that uncus.data.dicom.reader runs in a child process.
"""

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from uncus.data.dicom import frame, zip_archive
from uncus.data.dicom.frame import Frame, Header, damage
from uncus.data.dicom.geometry import stack
from uncus.data.dicom.pixels import read_voxels
from uncus.data.dicom.signature import has_signature, is_named
from uncus.data.dicom.suitability import refuse_other_scans, warnings_of
from uncus.data.dicom.zip_archive import Member
from uncus.data.errors import BadInput
from uncus.data.text import natural_text, printable, shorten

MOST_FILES = 20_000


@dataclass(frozen=True)
class Series:
    """One volume that could be meant.

    Parameters
    ----------
    uid: SeriesInstanceUID.
    number: SeriesNumber, as the scanner counts; "" where it has none.
    description: SeriesDescription, printable, and what parts it from others of the same UID.
    modality: "MR", "CT" and so on.
    images: how many.
    columns, rows: of each.
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
class Pile:
    """What was found in the files."""

    series: tuple[tuple[Series, tuple[Frame, ...]], ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Found:
    """A series in a folder of many, and whose it is.

    Parameters
    ----------
    series: its UID.
    folder: the lowest folder that holds all its files, relative to the one that was searched.
    patient: PatientID; "" where there is none.
    date: StudyDate, eight digits; "" where there is none.
    age: in years; "" where there is none.
    sex: "F", "M" or "O"; "" where there is none.
    """

    series: str
    folder: str
    patient: str
    date: str
    age: str
    sex: str


def listing(folder: Path, paths: list[str], name: str) -> list[dict[str, Any]]:
    """Every series in ``paths``, for uncus.data.dicom.sandbox."""
    return [asdict(series) for series, _ in read_pile(folder, paths, name).series]


def load(folder: Path, paths: list[str], name: str, series: str, voxels: int) -> dict[str, Any]:
    """Decode one series into ``folder``/voxels.npy, for uncus.data.dicom.sandbox.

    The array is float32 [columns, rows from the bottom, slices]; returned are its affine (mm,
    RAS+), warnings, the series' description, and the person's age in years and sex.
    """
    pile = read_pile(folder, paths, name)
    chosen, frames = choose(pile, name, series)
    refuse_other_scans(name, frames)
    order = stack(name, frames)
    count = chosen.columns * chosen.rows * len(order.places)
    if count > voxels:
        raise BadInput(
            name, f"has {count:,} voxels, over the cap of {voxels:,}", "resample the scan first"
        )
    array, odd = read_voxels(name, frames, order.places)
    np.save(folder / "voxels.npy", array)
    warnings = [*pile.warnings, *warnings_of(frames), *odd]
    return {
        "affine": order.affine.tolist(),
        "warnings": list(dict.fromkeys(warnings)),
        "series": asdict(chosen),
        "person": {name: asdict(found(frames))[name] for name in ("age", "sex")},
    }


def sort_files(folder: Path, paths: list[str], name: str) -> list[list[int]]:
    """Numbers of single files by the series that they are of, for uncus.data.dicom.sandbox.

    A file that cannot be read is on its own, to be refused when it is.
    """
    groups: dict[str, list[int]] = {}
    for number, text in enumerate(paths):
        try:
            header = frame.read_header(Member(Path(text), Path(text).name))
        except BadInput:
            header = None
        uid = header.series if header else ""
        groups.setdefault(uid or f"file {number}", []).append(number)
    return list(groups.values())


def survey(folder: Path, paths: list[str], name: str) -> list[dict[str, Any]]:
    """Where each series in ``paths`` lies and whose it is, as dicts of Found's fields."""
    return [asdict(found(frames)) for _, frames in read_pile(folder, paths, name).series]


def found(frames: Sequence[Frame]) -> Found:
    """What is known of a series before it is decoded."""
    header = frames[0].header
    places = {Path(frame.header.member.name).parent.as_posix() for frame in frames}
    date, age = header.text("StudyDate"), header.text("PatientAge").upper()
    return Found(
        series=printable(header.series),
        folder=os.path.commonpath(list(places)) if "." not in places else ".",
        patient=header.text("PatientID"),
        date=date if len(date) == 8 and date.isdecimal() else "",
        age=str(int(age[:-1])) if age.endswith("Y") and age[:-1].isdecimal() else "",
        sex=header.text("PatientSex").upper()[:1],
    )


def read_pile(folder: Path, paths: Sequence[str], name: str) -> Pile:
    """Find every image among files, in folders and in zips, and sort them into series.

    Raises
    ------
    BadInput: none is there, one is damaged, they are of several people.
    """
    members: list[Member] = []
    for number, text in enumerate(paths):
        members += gather(folder / f"in-{number}", Path(text))
    refuse_many(members, name)
    found, other = part(members)
    if not found:
        raise no_dicom(members, name)
    headers = [(member, frame.read_header(member)) for member in found]
    images = [header for _, header in headers if header]
    if not images:
        raise BadInput(name, "holds no images (no pixels)", "give the T1-weighted series")
    refuse_several_people(images, name)
    warnings = []
    if other:
        names = shorten([member.name for member in other], 3)
        warnings.append(f"Files that are no DICOM were left aside: {names}.")
    reports = len(headers) - len(images)
    if reports:
        warnings.append(f"{reports} DICOM objects without pixels were left aside.")
    return Pile(sort_out(images), tuple(warnings))


def gather(folder: Path, path: Path) -> list[Member]:
    """The files at ``path``: itself, those below a folder (links are not followed), in a zip."""
    if path.is_dir():
        members = []
        for at, folders, files in os.walk(path, followlinks=False):
            folders.sort()
            here = Path(at)
            members += [Member(here / f, (here / f).relative_to(path).as_posix()) for f in files]
            refuse_many(members, path.name)
        members = [m for m in members if m.path.is_file() and not m.path.is_symlink()]
    elif zip_archive.is_zip(path):
        members = list(zip_archive.extract(path, folder))
    else:
        members = [Member(path, path.name)]
    hidden = [m for m in members if not any(p.startswith((".", "__MACOSX")) for p in parts(m))]
    return sorted(hidden, key=lambda member: natural_text(member.name))


def parts(member: Member) -> tuple[str, ...]:
    """The folders and the name of a member."""
    return Path(member.name).parts


def refuse_many(members: Sequence[Member], name: str) -> None:
    """More files than any series has."""
    if len(members) > MOST_FILES:
        raise BadInput(name, f"holds over {MOST_FILES:,} files", "give the series' own folder")


def part(members: Sequence[Member]) -> tuple[list[Member], list[Member]]:
    """DICOM images, and the other files; a DICOMDIR is checked and counts as neither.

    Raises
    ------
    BadInput: a file is named as DICOM and is none.
    """
    found, other = [], []
    for member in members:
        if member.path.name.upper() == "DICOMDIR" or parts(member)[-1].upper() == "DICOMDIR":
            check_dicomdir(member)
        elif has_signature(member.path):
            found.append(member)
        elif is_named(member.name):
            raise no_preamble(member)
        else:
            other.append(member)
    return found, other


def no_preamble(member: Member) -> BadInput:
    """The refusal of a file that is no DICOM."""
    cause = "is not DICOM: it has no preamble with the letters DICM"
    if member.path.stat().st_size == 0:
        cause = "is empty"
    return BadInput(printable(member.name), cause, "export the series again, or take the file out")


def no_dicom(members: Sequence[Member], name: str) -> BadInput:
    """The refusal of files among which none is DICOM."""
    if not members:
        return BadInput(name, "holds no files", "give a DICOM series")
    if len(members) == 1:
        return no_preamble(members[0])
    cause = f"holds no DICOM file (none of {len(members)} has a preamble with the letters DICM)"
    return BadInput(name, cause, "give the folder of one series")


def check_dicomdir(member: Member) -> None:
    """A DICOMDIR is not needed, since all files are looked at; one that leads outside is refused.

    Raises
    ------
    BadInput: it names a file that is not below it.
    """
    directory = frame.read(member, ["DirectoryRecordSequence"])
    with damage(member.name):
        for record in directory.get("DirectoryRecordSequence") or []:
            value = record.get("ReferencedFileID") or []
            steps = [value] if isinstance(value, str) else [str(step) for step in value]
            pieces = [p for step in steps for p in step.replace("\\", "/").split("/")]
            outside = ".." in pieces or any(step.startswith(("/", "\\")) for step in steps)
            if outside or (pieces and ":" in pieces[0]):
                raise BadInput(
                    printable(member.name),
                    f"leads outside its folder ({printable('/'.join(pieces))})",
                    "give the series' own folder",
                )


def refuse_several_people(images: Sequence[Header], name: str) -> None:
    """Two people's images are never one scan; their names are not repeated."""
    people = {header.patient for header in images}
    if len(people) > 1:
        raise BadInput(
            name, f"holds images of {len(people)} patients", "give one patient's files at a time"
        )


def sort_out(images: Sequence[Header]) -> tuple[tuple[Series, tuple[Frame, ...]], ...]:
    """Frames by series, and within a series by echo, by phase or magnitude, and by time."""
    groups: dict[tuple[str, ...], list[Frame]] = {}
    for header in images:
        for part in frame.read_frames(header):
            groups.setdefault((header.series, *part.part), []).append(part)
    uids = [key[0] for key in groups]
    listed = []
    for key, frames in groups.items():
        # Parts are told apart only where the series has several.
        apart = ", ".join(filter(None, key[1:])) if uids.count(key[0]) > 1 else ""
        listed.append((describe(frames, apart), tuple(frames)))
    listed.sort(key=lambda one: natural_text(f"{one[0].number} {one[0].uid} {one[0].description}"))
    return tuple(listed)


def describe(frames: Sequence[Frame], apart: str) -> Series:
    """What a list of series says of one."""
    header, number = frames[0].header, frames[0].header.number
    with damage(header.member.name):
        ordinal = number("SeriesNumber")
    text = header.text("SeriesDescription")
    return Series(
        uid=printable(header.series),
        number="" if ordinal is None else f"{ordinal:g}",
        description=", ".join(filter(None, [text, apart])),
        modality=header.text("Modality") or "no modality",
        images=len(frames),
        columns=frames[0].columns,
        rows=frames[0].rows,
    )


def choose(pile: Pile, name: str, wanted: str) -> tuple[Series, tuple[Frame, ...]]:
    """The series that is meant: the only one, or the one named by its place, its UID or words of
    its description (which in a cohort mean the same in every folder).

    Raises
    ------
    BadInput: there are several and none is named, or none is called so; all are listed.
    """
    every = pile.series
    options = [f"{number}: {series}" for number, (series, _) in enumerate(every, 1)]
    if not wanted and len(every) == 1:
        return every[0]
    hint = f"choose one with --series and its number, 1 to {len(every)}, its UID or description"
    if not wanted:
        raise BadInput(name, f"holds {len(every)} series: {shorten(options, 20)}", hint)
    if wanted.isdecimal() and 1 <= int(wanted) <= len(every):
        return every[int(wanted) - 1]
    same = [one for one in every if one[0].uid == wanted]
    if not same:
        words = wanted.casefold()
        named = [(one[0].description.casefold(), one) for one in every]
        same = [one for text, one in named if text == words]
        same = same or [one for text, one in named if words in text]
    if len(same) == 1:
        return same[0]
    what = f"{len(same)} series" if same else "no series"
    raise BadInput(
        name, f"holds {what} called {printable(wanted)}, but {shorten(options, 20)}", hint
    )
