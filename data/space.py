"""From a scan to the one grid that networks see, and back from that grid to the scan's own.

A space is a callable ``(Volume, Grid) -> Placed``, listed in SPACES. The space "keep" keeps the
scan where its affine puts it: nothing is moved, only resampled and normalized.
"""

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from data.errors import BadInput
from data.foreground import brain_mask
from data.volume import Volume, native_array

BACKGROUND = 0.0
CLIP_PERCENTILES = (0.5, 99.5)
# Share of a grid voxel that must be brain. Not a half: a flat edge midway between voxels gives
# exactly a half, and rounding would decide.
INSIDE = 0.45
EDGE = 1e-3  # voxels: rounding must not decide whether a centre on the very edge is in view


@dataclass(frozen=True)
class Grid:
    """A regular grid along the axes of space.

    Parameters
    ----------
    shape: voxels along x (to the right), y (to the front), z (up).
    affine: float64 [4, 4], voxel index -> mm, RAS+; diagonal but for the origin.
    """

    shape: tuple[int, int, int]
    affine: NDArray[np.float64]

    @classmethod
    def from_box(
        cls, low: NDArray[np.float64], high: NDArray[np.float64], spacing: NDArray[np.float64]
    ) -> "Grid":
        """The smallest grid of ``spacing`` (mm) whose voxels cover the box ``low``..``high`` (mm).

        It lies centred on the box. ``low`` and ``high`` are outer faces, not voxel centres.
        """
        # A box of exactly n voxels must not become n + 1 by rounding.
        counts = np.maximum(np.ceil((high - low) / spacing - 1e-3), 1).astype(int)
        origin = (low + high) / 2 - (counts - 1) / 2 * spacing
        affine = np.diag([*spacing, 1.0])
        affine[:3, 3] = np.round(origin, 4)  # a tenth of a micron: grids print and compare well
        x, y, z = counts.tolist()
        return cls((x, y, z), affine)

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel size in mm along x, y, z."""
        x, y, z = np.diag(self.affine)[:3]
        return float(x), float(y), float(z)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"shape": list(self.shape), "affine": self.affine.tolist()}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> "Grid":
        """The inverse of :meth:`as_dict`; raises ValueError where it is no grid."""
        shape = tuple(int(size) for size in value["shape"])
        affine = np.asarray(value["affine"], dtype=np.float64)
        off_axis = affine[:3, :3] - np.diag(np.diag(affine[:3, :3])) if affine.ndim == 2 else affine
        if len(shape) != 3 or min(shape) < 1 or affine.shape != (4, 4) or np.any(off_axis):
            raise ValueError(f"not a grid: shape {value['shape']}, affine {value['affine']}")
        return cls((shape[0], shape[1], shape[2]), affine)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Grid)
            and self.shape == other.shape
            and np.allclose(self.affine, other.affine, atol=1e-6)
        )

    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True)
class Placed:
    """A scan on the grid.

    Parameters
    ----------
    array: float32 [X, Y, Z], z-scores inside the brain, BACKGROUND outside.
    mask: bool [X, Y, Z], the brain (or head, where the scan shows one).
    volume: the scan itself.
    seen: bool [X, Y, Z], grid voxels whose centre lies in the scan's field of view.
    contact: how much of the mask is cut by each face of the scan's own field of view, in the order
        left, right, back, front, bottom, top: the mask's area on the face over its largest area in
        any parallel slice, 0 to 1.
    warnings: what was odd, one sentence each.
    """

    array: NDArray[np.float32]
    mask: NDArray[np.bool_]
    volume: Volume
    seen: NDArray[np.bool_]
    contact: tuple[float, ...] = ()
    warnings: tuple[str, ...] = ()


Space = Callable[[Volume, Grid], Placed]


def place(volume: Volume, grid: Grid, space: str = "keep") -> Placed:
    """Place a scan on ``grid`` by the named space.

    Raises BadInput for an unknown space, or where no brain lies on the grid.
    """
    if space not in SPACES:
        raise BadInput(f"space {space!r}", "is unknown", f"choose one of {', '.join(SPACES)}")
    return SPACES[space](volume, grid)


def keep(volume: Volume, grid: Grid) -> Placed:
    """Resample a scan to the grid where its affine puts it, and normalize it inside the brain."""
    mask = brain_mask(volume)
    array, inside = resample(volume, mask, grid)
    if np.count_nonzero(inside) < 2:
        raise BadInput(
            volume.native.path,
            "none of its brain lies on the common grid (outside the field of view)",
            "is its affine right, and is it in the same space as the training scans?",
        )
    warnings = volume.warnings
    lost = 1 - min(1.0, _millilitres(inside, grid.affine) / _millilitres(mask, volume.affine))
    if lost > 0.1:
        warnings += (f"{lost:.0%} of the brain or head lies outside the common grid.",)
    return Placed(
        array=normalize(array, inside),
        mask=inside,
        volume=volume,
        seen=field_of_view(volume, grid),
        contact=contact(mask),
        warnings=warnings,
    )


SPACES: dict[str, Space] = {"keep": keep}


def resample(
    volume: Volume, mask: NDArray[np.bool_], grid: Grid
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Intensities and mask on the grid, linearly, smoothed first along axes that get coarser.

    Only voxels of the mask contribute (normalized convolution: intensities times mask and mask are
    resampled alike, then divided), so that a background of any value does not bleed in.

    Returns
    -------
    array float32 [X, Y, Z], 0 outside; inside bool [X, Y, Z].
    """
    to_index = np.linalg.inv(volume.affine) @ grid.affine  # grid index -> volume index
    sigma = _smoothing(volume, grid)
    window = _window(mask, to_index, grid.shape, margin=np.ceil(4 * sigma) + 2)
    if window is None:
        return np.zeros(grid.shape, np.float32), np.zeros(grid.shape, bool)
    weight = mask[window].astype(np.float32)
    signal = volume.array[window] * weight
    for axis, width in enumerate(sigma):
        if width > 0:
            for array in (weight, signal):
                ndimage.gaussian_filter1d(array, width, axis, mode="constant", output=array)
    start = np.array([part.start for part in window])
    matrix, offset = to_index[:3, :3], to_index[:3, 3] - start
    weight = _sample(weight, matrix, offset, grid.shape)
    signal = _sample(signal, matrix, offset, grid.shape)
    inside = weight > INSIDE
    return np.where(inside, signal / np.where(inside, weight, 1), 0).astype(np.float32), inside


def normalize(array: NDArray[np.float32], mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Z-scores over the mask after clipping to percentiles 0.5 and 99.5; BACKGROUND outside.

    (v - mean) / std with mean and std of the clipped values inside. A constant inside gives 0.
    """
    values = array[mask].astype(np.float64)
    low, high = np.percentile(values, CLIP_PERCENTILES)
    values = np.clip(values, low, high)
    spread = values.std()
    result = np.full(array.shape, BACKGROUND, np.float32)
    if spread > 1e-12 * max(1.0, abs(low), abs(high)):
        result[mask] = (values - values.mean()) / spread
    return result


def to_native(array: NDArray[np.float32], grid: Grid, volume: Volume) -> NDArray[np.float32]:
    """Carry a map on the grid back to the scan's own grid and voxel order, as its file has it.

    Arguments as in :func:`to_scan`; returns float32 of the shape stored in the scan's file.
    """
    native: NDArray[np.float32] = native_array(volume, to_scan(array, grid, volume))
    return native


def to_scan(array: NDArray[np.float32], grid: Grid, volume: Volume) -> NDArray[np.float32]:
    """Carry a map on the grid back to the scan's own grid, in the RAS+ order of ``volume.array``.

    Parameters
    ----------
    array: float32 [X, Y, Z] on ``grid``.

    Returns
    -------
    float32 of the shape of ``volume.array``, linearly interpolated, 0 outside the grid.
    """
    if tuple(array.shape) != grid.shape:
        raise ValueError(f"map of shape {tuple(array.shape)} on a grid of {grid.shape}")
    to_index = np.linalg.inv(grid.affine) @ volume.affine  # volume index -> grid index
    reached = _reach(np.linalg.inv(to_index), grid.shape, volume.array.shape)
    result = np.zeros(volume.array.shape, np.float32)
    if reached is not None:
        start = np.array([part.start for part in reached])
        shape = tuple(part.stop - part.start for part in reached)
        matrix, offset = to_index[:3, :3], to_index[:3, :3] @ start + to_index[:3, 3]
        result[reached] = _sample(np.asarray(array, np.float32), matrix, offset, shape)
    return result


def contact(mask: NDArray[np.bool_]) -> tuple[float, ...]:
    """How much each face of the array cuts the mask; see :class:`Placed`."""
    shares: list[float] = []
    for axis in range(3):
        areas = mask.sum(axis=tuple(other for other in range(3) if other != axis))
        largest = max(int(areas.max()), 1)
        shares += [float(areas[0] / largest), float(areas[-1] / largest)]
    return tuple(shares)


def field_of_view(volume: Volume, grid: Grid) -> NDArray[np.bool_]:
    """Which grid voxels have their centre inside the scan's array: bool [X, Y, Z]."""
    to_index = np.linalg.inv(volume.affine) @ grid.affine
    x, y, z = np.ogrid[: grid.shape[0], : grid.shape[1], : grid.shape[2]]
    seen = np.ones(grid.shape, bool)
    for row, size in zip(to_index[:3], volume.array.shape, strict=True):
        index = row[0] * x + row[1] * y + row[2] * z + row[3]
        seen &= (index > -0.5 - EDGE) & (index < size - 0.5 + EDGE)
    return seen


def _smoothing(volume: Volume, grid: Grid) -> NDArray[Any]:
    """Gaussian sigma (volume voxels) per axis that hides what the grid cannot hold.

    A grid step of f voxels wants a blur as wide as f voxels where the image has one of 1 already:
    sigma^2 = (f^2 - 1) / (8 ln 2), from full widths at half maximum (Cardoso et al. 2015,
    doi:10.1007/978-3-319-24571-3_81).
    """
    # The grid's step along each volume axis: for oblique scans the mean over the axes it mixes.
    rotation = volume.affine[:3, :3] / np.asarray(volume.spacing)
    steps = np.sqrt((rotation.T**2) @ np.asarray(grid.spacing) ** 2)
    factor = steps / np.asarray(volume.spacing)
    sigma: NDArray[Any] = np.sqrt(np.maximum(factor**2 - 1, 0) / (8 * math.log(2)))
    sigma[sigma < 0.05] = 0  # affines stored in float32 give factors of 1.0000001
    return sigma


def _sample(
    array: NDArray[np.float32],
    matrix: NDArray[np.float64],
    offset: NDArray[np.float64],
    shape: tuple[int, ...],
) -> NDArray[np.float32]:
    """``array`` at matrix @ index + offset for every index of ``shape``, linearly, 0 outside."""
    off_axis = np.abs(matrix - np.diag(np.diag(matrix))).max()
    # Affines of upright scans carry off-axis dust of 1e-9; without it scipy goes axis by axis.
    step = np.diag(matrix) if off_axis * max(shape) < 1e-4 else matrix
    sampled: NDArray[np.float32] = ndimage.affine_transform(
        array, step, offset, shape, order=1, mode="grid-constant", cval=0.0, output=np.float32
    )
    return sampled


def _window(
    mask: NDArray[np.bool_],
    to_index: NDArray[Any],
    grid_shape: tuple[int, int, int],
    margin: NDArray[np.float64],
) -> tuple[slice, slice, slice] | None:
    """The part of the volume that both the mask and the grid reach, or None."""
    found = ndimage.find_objects(mask.astype(np.uint8))
    if not found:
        return None
    return _reach(to_index, grid_shape, mask.shape, margin, found[0])


def _reach(
    to_index: NDArray[Any],
    shape_from: tuple[int, ...],
    shape_into: tuple[int, ...],
    margin: NDArray[Any] | float = 1.0,
    within: tuple[slice, ...] | None = None,
) -> tuple[slice, slice, slice] | None:
    """Slices of an array of ``shape_into`` that a grid of ``shape_from`` reaches, plus a margin."""
    corners = np.array(list(itertools.product(*((-1, size) for size in shape_from))), dtype=float)
    places = corners @ to_index[:3, :3].T + to_index[:3, 3]
    low = np.floor(places.min(axis=0) - margin)
    high = np.ceil(places.max(axis=0) + margin) + 1
    bounds_low = np.array([part.start for part in within] if within else [0, 0, 0])
    bounds_high = np.array([part.stop for part in within] if within else shape_into)
    low, high = np.maximum(low, bounds_low), np.minimum(high, bounds_high)
    if (high <= low).any():
        return None
    x, y, z = (slice(int(first), int(last)) for first, last in zip(low, high, strict=True))
    return x, y, z


def _millilitres(mask: NDArray[np.bool_], affine: NDArray[np.float64]) -> float:
    return float(np.count_nonzero(mask) * abs(np.linalg.det(affine[:3, :3])) / 1000)
