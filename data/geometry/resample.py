"""Linear resampling from one array to another through world coordinates."""

import itertools
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from uncus.data.geometry.grid import Grid
from uncus.data.imageio.volume import Volume

# Least share of brain in a voxel of the mask. Not 0.5, the exact share at flat edges midway between
# voxels, for which the result would depend on rounding.
INSIDE = 0.45
EDGE = 1e-3  # voxels: tolerance for voxel centers on the faces of the field of view
TRUNCATE = 4.0  # radius of a Gaussian, standard deviations


def masked(
    volume: Volume, mask: NDArray[np.bool_], grid: Grid
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Resample intensities and mask to the grid linearly, smoothed first along axes that coarsen.

    Only voxels of the mask contribute, so the background has no influence (normalized convolution:
    intensities times mask are resampled like the mask, then divided by it).

    Returns
    -------
    array float32 [X, Y, Z], 0 outside; inside bool [X, Y, Z].
    """
    to_index = np.linalg.inv(volume.affine) @ grid.affine  # grid index -> volume index
    sigma = _smoothing(volume, grid)
    window = _window(to_index, grid.shape, mask.shape, np.ceil(TRUNCATE * sigma) + 2, _box(mask))
    if window is None:
        return np.zeros(grid.shape, np.float32), np.zeros(grid.shape, bool)
    weight = mask[window].astype(np.float32)
    signal = volume.array[window] * weight
    start = np.array([part.start for part in window])
    matrix, offset = to_index[:3, :3], to_index[:3, 3] - start
    weight = sample(weight, matrix, offset, grid.shape, sigma)
    signal = sample(signal, matrix, offset, grid.shape, sigma)
    inside = weight > INSIDE
    return np.where(inside, signal / np.where(inside, weight, 1), 0).astype(np.float32), inside


def onto_voxels(
    array: NDArray[np.float32], grid: Grid, shape: tuple[int, ...], affine: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Resample a map [X, Y, Z] from ``grid`` linearly to an array of ``shape``; 0 outside the grid.

    ``affine``: [4, 4], index of that array -> mm.
    """
    to_index = np.linalg.inv(grid.affine) @ affine  # array index -> grid index
    window = _window(np.linalg.inv(to_index), grid.shape, shape, np.full(3, 2.0))
    result = np.zeros(shape, np.float32)
    if window is not None:
        start = np.array([part.start for part in window])
        size = tuple(part.stop - part.start for part in window)
        matrix, offset = to_index[:3, :3], to_index[:3, :3] @ start + to_index[:3, 3]
        result[window] = sample(np.asarray(array, np.float32), matrix, offset, size)
    return result


def labels_onto_voxels(
    labels: NDArray[np.uint8], to_index: NDArray[np.float64], shape: tuple[int, ...], least: int = 0
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """The nearest label at each voxel of an array, and where it is one of several around.

    Where all neighbours of the nearest voxel have its label, linear interpolation of the labels'
    shares gives it too.

    Parameters
    ----------
    labels: [x, y, z], below 128.
    to_index: [4, 4], index of the array -> index of ``labels``; 0 beyond them.
    shape: of the array.
    least: borders between smaller labels do not count.

    Returns
    -------
    labels uint8 [X, Y, Z]; border bool [X, Y, Z].
    """
    highest = ndimage.maximum_filter(labels, 3)
    border = (highest >= least) & (highest != ndimage.minimum_filter(labels, 3))
    marked = np.where(border, labels | np.uint8(128), labels)
    nearest = np.zeros(shape, np.uint8)
    window = _window(np.linalg.inv(to_index), labels.shape, shape, np.full(3, 2.0))
    if window is not None:
        matrix, start = to_index[:3, :3], np.array([part.start for part in window])
        offset = matrix @ start + to_index[:3, 3]
        ndimage.affine_transform(marked, matrix, offset, output=nearest[window], order=0)
    return nearest & np.uint8(127), nearest >= 128


def field_of_view(volume: Volume, grid: Grid) -> NDArray[np.bool_]:
    """Which grid voxels have their center inside the scan's array: bool [X, Y, Z]."""
    to_index = np.linalg.inv(volume.affine) @ grid.affine
    x, y, z = np.ogrid[: grid.shape[0], : grid.shape[1], : grid.shape[2]]
    inside = np.ones(grid.shape, bool)
    for row, size in zip(to_index[:3], volume.array.shape, strict=True):
        index = row[0] * x + row[1] * y + row[2] * z + row[3]
        inside &= (index > -0.5 - EDGE) & (index < size - 0.5 + EDGE)
    return inside


def sample(
    array: NDArray[np.float32],
    matrix: NDArray[np.float64],
    offset: NDArray[np.float64],
    shape: tuple[int, ...],
    sigma: NDArray[Any] | None = None,
) -> NDArray[np.float32]:
    """``array`` at matrix @ index + offset for every index of ``shape``, linearly, 0 outside.

    ``sigma``: of a Gaussian filter (voxels of ``array``, per axis) applied first.
    """
    sigma = np.zeros(3) if sigma is None else sigma
    diagonal = np.diag(matrix)
    # Affines of axis-aligned scans have off-axis rounding errors of 1e-9.
    if np.abs(matrix - np.diag(diagonal)).max() * max(shape) < 1e-4:
        return _along_axes(array, diagonal, offset, shape, sigma)
    for axis, width in enumerate(sigma):
        if width > 0:
            array = ndimage.gaussian_filter1d(
                array, width, axis, mode="constant", truncate=TRUNCATE
            )
    sampled: NDArray[np.float32] = ndimage.affine_transform(
        array, matrix, offset, shape, order=1, mode="grid-constant", cval=0.0, output=np.float32
    )
    return sampled


def _along_axes(
    array: NDArray[np.float32],
    step: NDArray[np.float64],
    offset: NDArray[np.float64],
    shape: tuple[int, ...],
    sigma: NDArray[Any],
) -> NDArray[np.float32]:
    """The same for axis-aligned grids, as a product with one matrix per axis: much faster."""
    shares = [
        weights(size, float(first) + float(by) * np.arange(count), float(width))
        for size, first, by, count, width in zip(
            array.shape, offset, step, shape, sigma, strict=True
        )
    ]
    # The axis that shrinks most goes first.
    for axis in sorted(range(3), key=lambda axis: shares[axis].shape[0] / shares[axis].shape[1]):
        weight = shares[axis]
        if axis == 0:
            array = (weight @ array.reshape(array.shape[0], -1)).reshape(-1, *array.shape[1:])
        else:
            array = weight @ array if axis == 1 else np.dot(array, weight.T)
    return np.ascontiguousarray(array)


def weights(size: int, positions: NDArray[Any], sigma: float) -> NDArray[np.float32]:
    """float32 [positions, size]: weights of an axis' voxels in the value at each position."""
    distance = positions[:, None] - np.arange(-1, size + 1)[None]  # padded by a voxel of 0
    weights = np.maximum(1 - np.abs(distance), 0)[:, 1:-1]
    if sigma > 0:
        offsets = np.subtract.outer(np.arange(size), np.arange(size))
        radius = int(TRUNCATE * sigma + 0.5)
        total = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2).sum()
        blur = np.where(np.abs(offsets) <= radius, np.exp(-0.5 * (offsets / sigma) ** 2), 0) / total
        weights = weights @ blur
    result: NDArray[np.float32] = weights.astype(np.float32)
    return result


def _smoothing(volume: Volume, grid: Grid) -> NDArray[Any]:
    """Gaussian sigma (volume voxels) per axis that avoids aliasing.

    For a grid step of f voxels, sigma^2 = (f^2 - 1) / (8 ln 2): full widths at half maximum of f
    voxels on the grid and 1 in the scan (Cardoso et al. 2015, doi:10.1007/978-3-319-24571-3_81).
    """
    # The grid's step along each volume axis; in oblique scans a mean over the grid's axes.
    rotation = volume.affine[:3, :3] / np.asarray(volume.spacing)
    steps = np.sqrt((rotation.T**2) @ np.asarray(grid.spacing) ** 2)
    factor = steps / np.asarray(volume.spacing)
    sigma: NDArray[Any] = np.sqrt(np.maximum(factor**2 - 1, 0) / (8 * math.log(2)))
    sigma[sigma < 0.05] = 0  # affines stored in float32 give factors of 1.0000001
    return sigma


def _box(mask: NDArray[np.bool_]) -> tuple[slice, ...]:
    """The bounding box of a mask, which must not be empty."""
    box: tuple[slice, ...] = ndimage.find_objects(mask.view(np.uint8))[0]
    return box


def _window(
    to_index: NDArray[Any],
    shape_from: tuple[int, ...],
    shape_into: tuple[int, ...],
    margin: NDArray[Any],
    within: tuple[slice, ...] | None = None,
) -> tuple[slice, slice, slice] | None:
    """Slices of an array of ``shape_into`` that cover a grid of ``shape_from``, plus a margin."""
    corners = np.array(list(itertools.product(*((-1, size) for size in shape_from))), dtype=float)
    index = corners @ to_index[:3, :3].T + to_index[:3, 3]
    low = np.floor(index.min(axis=0) - margin)
    high = np.ceil(index.max(axis=0) + margin) + 1
    bounds_low = np.array([part.start for part in within] if within else [0, 0, 0])
    bounds_high = np.array([part.stop for part in within] if within else shape_into)
    low, high = np.maximum(low, bounds_low), np.minimum(high, bounds_high)
    if (high <= low).any():
        return None
    x, y, z = (slice(int(first), int(last)) for first, last in zip(low, high, strict=True))
    return x, y, z
