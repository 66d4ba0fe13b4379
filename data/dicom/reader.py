"""Read a DICOM series from a folder, a zip or single files, in a sandboxed child process.

pydicom does not crash on damaged files, but a file may require more memory or time than there is,
and codecs are C code.
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
    array: float32 [columns, rows from the bottom, slices], rescaled.
    affine: float64 [4, 4], index -> mm, RAS+.
    series: the fields of uncus.data.dicom.series.Series.
    warnings: one sentence each.
    demographics: from the header, "" if absent: "age" in years, "sex", "series" (its
        description), "manufacturer" and "magneticfieldstrength" (T).
    """

    array: NDArray[np.float32]
    affine: NDArray[np.float64]
    series: dict[str, Any]
    warnings: tuple[str, ...]
    demographics: dict[str, str]


def is_dicom(path: Path) -> bool:
    """Whether to read ``path`` as DICOM: a folder, a zip, a file with its signature or suffix."""
    if path.is_dir() or is_named(path) or path.name.lower().endswith(".zip"):
        return True
    return path.is_file() and (has_signature(path) or zip_archive.is_zip(path))


def list_series(paths: Sequence[Path], limits: ProcessLimits = LIMITS) -> list[dict[str, Any]]:
    """List the series in folders, zips and files, in the order in which they are numbered from 1.

    Returns
    -------
    dicts of the fields of uncus.data.dicom.series.Series.
    """
    name = source_path(paths)
    arguments = {"paths": [str(path.resolve()) for path in paths], "name": str(name)}
    with sandbox.run("uncus.data.dicom.series:list_series", arguments, name, limits) as (_, result):
        series: list[dict[str, Any]] = result
        return series


def group_paths(paths: Sequence[Path], limits: ProcessLimits = LIMITS) -> list[tuple[Path, ...]]:
    """Group paths into scans: single DICOM files by their series, any other path by itself."""
    single = [p for p in paths if p.is_file() and (is_named(p) or has_signature(p))]
    if len(single) < 2:
        return [(path,) for path in paths]
    arguments = {"paths": [str(path.resolve()) for path in single], "name": ""}
    task = "uncus.data.dicom.series:group_files"
    with sandbox.run(task, arguments, single[0], limits) as (_, result):
        groups = [tuple(single[index] for index in indices) for indices in result]
    first = {group[0]: group for group in groups}
    rest = {path for group in groups for path in group[1:]}
    return [first.get(path, (path,)) for path in paths if path not in rest]


def list_records(path: Path, limits: ProcessLimits = LIMITS) -> list[dict[str, str]]:
    """Patient, date and folder of each series below ``path``.

    Returns
    -------
    dicts of the fields of uncus.data.dicom.series.SeriesRecord.

    Raises
    ------
    BadInput: damaged or malicious files, several patients, or no DICOM files.
    """
    arguments = {"paths": [str(path.resolve())], "name": str(path)}
    task = "uncus.data.dicom.series:list_records"
    with sandbox.run(task, arguments, path, limits) as (_, result):
        records: list[dict[str, str]] = result
        return records


def read_series(
    paths: Sequence[Path], series: str = "", voxels: int = 512**3, limits: ProcessLimits = LIMITS
) -> Decoded:
    """Decode one series.

    Parameters
    ----------
    paths: folders, zips and files that contain the scan.
    series: its number in ``list_series``, its UID, or words that only its description contains;
        optional if there is only one series.
    voxels: maximum number of voxels to decode.

    Raises
    ------
    BadInput: damaged, malicious or unsuitable files; several series and none chosen.
    """
    name = source_path(paths)
    arguments = {
        "paths": [str(path.resolve()) for path in paths],
        "name": str(name),
        "series": series,
        "voxels": voxels,
    }
    with sandbox.run("uncus.data.dicom.series:load", arguments, name, limits) as (folder, result):
        array = np.load(folder / "voxels.npy", allow_pickle=False)
    return Decoded(
        array,
        np.asarray(result["affine"]),
        result["series"],
        tuple(result["warnings"]),
        result["demographics"],
    )


def source_path(paths: Sequence[Path]) -> Path:
    """The path that names the files in messages: the only one, else the folder of the first.

    Raises
    ------
    BadInput: a file does not exist or is empty.
    """
    for path in paths:
        if not path.exists():
            raise BadInput(path, "does not exist", "check the path")
        if path.is_file() and path.stat().st_size == 0:
            raise BadInput(path, "is empty", "copy or download it again")
    return paths[0] if len(paths) == 1 else paths[0].parent
