"""What a header says of voxels and their place, whatever the format, and whether it can be true."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uncus.data.errors import BadInput

AGAIN = "export the scan again, for example with dcm2niix"
VOXEL_MM = (0.01, 100.0)
FARTHEST_MM = 1e5


@dataclass(frozen=True)
class Layout:
    """How the voxels lie in the file and in space.

    Parameters
    ----------
    shape: voxels per axis, as stored.
    dtype: of the stored numbers, with its byte order.
    offset: bytes before the first voxel.
    slope, intercept: value = stored * slope + intercept.
    affine: float64 [4, 4], voxel index as stored -> mm, RAS+.
    qform, sform: the two affines (mm) with their NIfTI codes; None where the file has none.
    warnings: one sentence each.
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
        """Bytes of all voxels (Python integers: a product of bad dims cannot wrap around)."""
        return math.prod(self.shape) * self.dtype.itemsize


def voxel_shape(path: Path, dim: Sequence[Any]) -> tuple[int, int, int]:
    """The three sizes from NIfTI's ``dim`` (its first entry counts the axes)."""
    values = [int(value) for value in dim]
    axes, sizes = values[0], values[1:]
    if not 1 <= axes <= 7 or any(size <= 0 for size in sizes[:axes]):
        raise BadInput(path, f"its dimensions make no sense (dim = {listed(values)})", AGAIN)
    used = sizes[:axes]
    if axes <= 3 and any(size > 1 for size in sizes[axes:]):
        raise BadInput(
            path, f"its dimensions contradict each other (dim = {listed(values)})", AGAIN
        )
    volumes = math.prod(used[3:])
    if volumes > 1:
        raise BadInput(
            path,
            f"is 4D: {volumes} volumes of {' x '.join(map(str, used[:3]))}",
            "save the T1-weighted volume alone",
        )
    if len(used) < 3 or min(used[:3]) == 1:
        raise BadInput(
            path,
            f"is not a 3D image ({' x '.join(map(str, used))})",
            "give the whole 3D scan, not a slice of it",
        )
    return used[0], used[1], used[2]


def check_affine(path: Path, affine: NDArray[np.float64]) -> None:
    """Raise BadInput unless the affine [4, 4] (mm) puts voxels of a likely size into space."""
    if not np.isfinite(affine).all():
        raise BadInput(path, "its affine contains NaN or infinity", AGAIN)
    if np.abs(affine).max() > FARTHEST_MM:
        raise BadInput(path, f"its affine is absurd (up to {np.abs(affine).max():g} mm)", AGAIN)
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    if (sizes == 0).any() or abs(np.linalg.det(affine[:3, :3] / sizes)) < 1e-2:
        raise BadInput(path, "its affine is singular: it squeezes the scan flat", AGAIN)
    if not all(VOXEL_MM[0] <= size <= VOXEL_MM[1] for size in sizes):
        raise BadInput(path, f"has voxel sizes of {listed(sizes)} mm, not a scan of a head", AGAIN)


def listed(values: Sequence[Any] | NDArray[Any]) -> str:
    return ", ".join(f"{value:g}" for value in np.asarray(values).tolist())
