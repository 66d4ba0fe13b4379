"""A DICOM series from a folder, a zip or single files, decoded where it can do no harm.

pydicom reads every kind of damaged file without a crash, but a file may still ask for more memory
or time than there is, and codecs are C code. So all of it happens in a child process.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uncus.data.dicom import sandbox, zip_archive
from uncus.data.dicom.sandbox import ProcessLimits
from uncus.data.dicom.signature import has_signature, is_named
from uncus.data.errors import BadInput

LIMITS = ProcessLimits()


@dataclass(frozen=True)
class Decoded:
    """A series as one volume.

    Parameters
    ----------
    array: float32 [columns, rows from the bottom, slices], scaled.
    affine: float64 [4, 4], index -> mm, RAS+.
    series: what the series says of itself, see uncus.data.dicom.series.Series.
    warnings: one sentence each.
    person: "age" in years and "sex" as the header has them, "" where it does not.
    """

    array: NDArray[np.float32]
    affine: NDArray[np.float64]
    series: dict[str, Any]
    warnings: tuple[str, ...]
    person: dict[str, str]


def is_dicom(path: Path) -> bool:
    """Whether ``path`` is to be read as DICOM: a folder, a zip, a file that is or is named so."""
    if path.is_dir() or is_named(path) or path.name.lower().endswith(".zip"):
        return True
    return path.is_file() and (has_signature(path) or zip_archive.is_zip(path))


def list_series(paths: Sequence[Path], limits: ProcessLimits = LIMITS) -> list[dict[str, Any]]:
    """Every series in folders, zips and files, in the order in which they are numbered from 1.

    Each is a dict of uncus.data.dicom.series.Series' fields.
    """
    name = subject(paths)
    arguments = {"paths": [str(path.resolve()) for path in paths], "name": str(name)}
    with sandbox.run("uncus.data.dicom.series:listing", arguments, name, limits) as (_, answer):
        found: list[dict[str, Any]] = answer
        return found


def gather(paths: Sequence[Path], limits: ProcessLimits = LIMITS) -> list[tuple[Path, ...]]:
    """Paths as scans: single DICOM files of one series together, all else each on its own."""
    single = [p for p in paths if p.is_file() and (is_named(p) or has_signature(p))]
    if len(single) < 2:
        return [(path,) for path in paths]
    arguments = {"paths": [str(path.resolve()) for path in single], "name": ""}
    with sandbox.run("uncus.data.dicom.series:sort_files", arguments, single[0], limits) as (
        _,
        answer,
    ):
        groups = [tuple(single[number] for number in numbers) for numbers in answer]
    first = {group[0]: group for group in groups}
    rest = {path for group in groups for path in group[1:]}
    return [first.get(path, (path,)) for path in paths if path not in rest]


def survey(path: Path, limits: ProcessLimits = LIMITS) -> list[dict[str, str]]:
    """Whose each series below ``path`` is: dicts of uncus.data.dicom.series.Found's fields.

    Raises
    ------
    BadInput: damaged or malicious files, several people, none at all.
    """
    arguments = {"paths": [str(path.resolve())], "name": str(path)}
    with sandbox.run("uncus.data.dicom.series:survey", arguments, path, limits) as (_, answer):
        found: list[dict[str, str]] = answer
        return found


def read_series(
    paths: Sequence[Path], series: str = "", voxels: int = 512**3, limits: ProcessLimits = LIMITS
) -> Decoded:
    """Decode one series.

    Parameters
    ----------
    paths: folders, zips and files; together they are one scan.
    series: its number in ``list_series``, its UID, or words of its description that no other
        has; may be left out where there is only one.
    voxels: the most voxels that are decoded.

    Raises
    ------
    BadInput: damaged, malicious or unsuitable files; several series and none named.
    """
    name = subject(paths)
    arguments = {
        "paths": [str(path.resolve()) for path in paths],
        "name": str(name),
        "series": series,
        "voxels": voxels,
    }
    with sandbox.run("uncus.data.dicom.series:load", arguments, name, limits) as (folder, answer):
        array = np.load(folder / "voxels.npy", allow_pickle=False)
    return Decoded(
        array,
        np.asarray(answer["affine"]),
        answer["series"],
        tuple(answer["warnings"]),
        answer["person"],
    )


def subject(paths: Sequence[Path]) -> Path:
    """What messages call the files: the one that there is, else their folder."""
    for path in paths:
        if not path.exists():
            raise BadInput(path, "is not there", "check the path")
        if path.is_file() and path.stat().st_size == 0:
            raise BadInput(path, "is empty", "copy or download it again")
    return paths[0] if len(paths) == 1 else paths[0].parent
