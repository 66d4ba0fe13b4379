"""Arrays with affines: interpolation and downsampling."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from uncus.data.geometry import resample

Floats = NDArray[np.float32]
Affine = NDArray[np.float64]


class Image(NamedTuple):
    """Values on a regular grid.

    Parameters
    ----------
    array: float32 [X, Y, Z].
    affine: float64 [4, 4], voxel index -> mm, RAS+.
    """

    array: Floats
    affine: Affine

    @property
    def spacing(self) -> NDArray[np.float64]:
        """Voxel size in mm along the array's axes [3]."""
        sizes: NDArray[np.float64] = np.linalg.norm(self.affine[:3, :3], axis=0)
        return sizes

    def voxels(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Voxel indices [3, N] of points [3, N] (mm)."""
        back = np.linalg.inv(self.affine)
        index: NDArray[np.float64] = back[:3, :3] @ points + back[:3, 3:]
        return index

    def at(self, points: NDArray[np.float64], outside: float = 0.0) -> Floats:
        """Interpolate linearly at points [3, N] (mm), ``outside`` beyond the array: float32 [N]."""
        values: Floats = ndimage.map_coordinates(
            self.array, self.voxels(points), np.float32, order=1, mode="constant", cval=outside
        )
        return values


def points(shape: tuple[int, ...], affine: Affine) -> NDArray[np.float64]:
    """Coordinates (mm) of all voxels of a grid: float64 [3, X * Y * Z]."""
    lattice = np.indices(shape, dtype=np.float64).reshape(3, -1)
    coordinates: NDArray[np.float64] = affine[:3, :3] @ lattice + affine[:3, 3:]
    return coordinates


def coarser(image: Image, spacing: float) -> Image:
    """Downsample to about ``spacing`` mm along the image's own axes, except coarser ones.

    Each axis is smoothed first, to avoid aliasing. The outer faces keep their positions.
    """
    shape = np.array(image.array.shape)
    factor = np.maximum(spacing / image.spacing, 1.0)
    counts = np.maximum(np.round(shape / factor), 1).astype(int)
    if (counts == shape).all():
        return image
    step = shape / counts
    matrix, offset = np.diag(step), (step - 1) / 2
    sigma = np.sqrt(np.maximum(step**2 - 1, 0)) / np.sqrt(8 * np.log(2))
    # Values beyond the faces count as 0, so divide by the share inside.
    ones = [
        resample.weights(size, first + by * np.arange(count), width).sum(axis=1)
        for size, first, by, count, width in zip(shape, offset, step, counts, sigma, strict=True)
    ]
    x, y, z = counts.tolist()
    array = resample.sample(image.array, matrix, offset, (x, y, z), sigma)
    array /= ones[0][:, None, None] * ones[1][:, None] * ones[2]
    to_index = np.eye(4)
    to_index[:3, :3], to_index[:3, 3] = matrix, offset
    return Image(array, image.affine @ to_index)


def upright(image: Image, spacing: float) -> Image:
    """Resample to a cubic grid of ``spacing`` mm along the RAS+ axes; NaN outside the image."""
    size = np.array(image.array.shape)
    ends = np.stack(np.meshgrid(*[(-0.5, n - 0.5) for n in size], indexing="ij")).reshape(3, -1)
    corners = image.affine[:3, :3] @ ends + image.affine[:3, 3:]
    low, high = corners.min(axis=1), corners.max(axis=1)
    counts = np.maximum(np.ceil((high - low) / spacing - 1e-3), 1).astype(int)
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = (low + high) / 2 - (counts - 1) / 2 * spacing
    x, y, z = counts.tolist()
    blurred = coarser(image, spacing)
    to_index = np.linalg.inv(blurred.affine) @ affine
    array = ndimage.affine_transform(
        blurred.array,
        to_index[:3, :3],
        to_index[:3, 3],
        (x, y, z),
        np.float32,
        order=1,
        mode="constant",
        cval=np.nan,
    )
    return Image(array, affine)
