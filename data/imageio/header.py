"""The layout of voxels that a header of any format declares, and checks of it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uncus.data.errors import BadInput

RE_EXPORT = "export the scan again, for example with dcm2niix"
VOXEL_MM = (0.01, 100.0)
MAX_POSITION_MM = 1e5


@dataclass(frozen=True)
class Layout:
    """How voxels are stored in the file and mapped to space.

    Parameters
    ----------
    shape: voxels per stored axis.
    dtype: of the stored numbers, with byte order.
    offset: bytes before the first voxel.
    slope, intercept: value = stored * slope + intercept.
    affine: float64 [4, 4], stored voxel index -> mm, RAS+.
    qform, sform: the two affines (mm) with their NIfTI codes; None if not set.
    warnings: unusual header fields, one sentence each.
    """

    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    offset: int
    slope: float
    intercept: float
    affine: NDArray[np.float64]
    qform: tuple[NDArray[np.float64] | None, int] = (None, 0)
    sform: tuple[NDArray[np.float64] | None, int] = (None, 0)
    warnings: tuple[str, ...] = ()

    @property
    def data_bytes(self) -> int:
        """Bytes of all voxels (Python integers, so bad dims cannot overflow)."""
        return math.prod(self.shape) * self.dtype.itemsize


def voxel_shape(path: Path, dim: Sequence[Any]) -> tuple[int, int, int]:
    """The 3D shape in NIfTI's ``dim``, whose first entry is the number of axes."""
    values = [int(value) for value in dim]
    axes, sizes = values[0], values[1:]
    if not 1 <= axes <= 7 or any(size <= 0 for size in sizes[:axes]):
        raise BadInput(path, f"invalid dimensions (dim = {join_numbers(values)})", RE_EXPORT)
    used = sizes[:axes]
    if axes <= 3 and any(size > 1 for size in sizes[axes:]):
        raise BadInput(path, f"contradictory dimensions (dim = {join_numbers(values)})", RE_EXPORT)
    volumes = math.prod(used[3:])
    if volumes > 1:
        raise BadInput(
            path,
            f"4D image: {volumes} volumes of {' x '.join(map(str, used[:3]))}",
            "save the T1-weighted volume by itself",
        )
    if len(used) < 3 or min(used[:3]) == 1:
        raise BadInput(
            path,
            f"not a 3D image ({' x '.join(map(str, used))})",
            "give the whole 3D scan, not a slice",
        )
    return used[0], used[1], used[2]


def check_affine(path: Path, affine: NDArray[np.float64]) -> None:
    """Raise BadInput unless the affine [4, 4] (mm, RAS+) is finite, invertible and plausible."""
    if not np.isfinite(affine).all():
        raise BadInput(path, "NaN or infinity in its affine", RE_EXPORT)
    if np.abs(affine).max() > MAX_POSITION_MM:
        raise BadInput(path, f"implausible affine (up to {np.abs(affine).max():g} mm)", RE_EXPORT)
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    if (sizes == 0).any() or abs(np.linalg.det(affine[:3, :3] / sizes)) < 1e-2:
        raise BadInput(path, "singular affine: its axes are not independent", RE_EXPORT)
    if not all(VOXEL_MM[0] <= size <= VOXEL_MM[1] for size in sizes):
        raise BadInput(
            path,
            f"voxel sizes of {join_numbers(sizes)} mm are implausible for a head scan",
            RE_EXPORT,
        )


def join_numbers(values: Sequence[Any] | NDArray[Any]) -> str:
    """Format numbers as ``1, 2.5, 3``."""
    return ", ".join(f"{value:g}" for value in np.asarray(values).tolist())
