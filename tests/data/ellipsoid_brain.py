"""A brain for tests: an ellipsoid with a smooth pattern, as an array or in a file."""

from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy.spatial.transform import Rotation

from uncus.data.imageio.volume import Volume, read_volume

RADII = np.array([30.0, 38, 26])  # mm


def pattern(points: np.ndarray) -> np.ndarray:
    """A smooth image without symmetry, as a function of points [..., 3] in mm."""
    x, y, z = np.moveaxis(points, -1, 0)
    return 100 + 20 * np.sin(x / 15) + 15 * np.cos(y / 18 + 0.5) + 0.4 * z + 0.005 * x * y


def mm(affine: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """World coordinates of every voxel, [X, Y, Z, 3] mm."""
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    return index @ affine[:3, :3].T + affine[:3, 3]


def brain(affine: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """The pattern inside an ellipsoid, 0 around it."""
    points = mm(affine, shape)
    inside = ((points / RADII) ** 2).sum(axis=-1) < 1
    return np.where(inside, pattern(points), 0).astype(np.float32)


def upright(step: float = 2.0) -> tuple[np.ndarray, tuple[int, int, int]]:
    """An affine along the axes, and a shape, whose field of view contains the brain."""
    affine = np.diag([step, step, step, 1])
    affine[:3, 3] = (-35.3, -44.1, -31.7)
    return affine, (int(72 / step), int(90 / step), int(66 / step))


def tilted(step: Sequence[float] = (2.0, 2.0, 2.0)) -> tuple[np.ndarray, tuple[int, int, int]]:
    """The same with an oblique affine (15, -10 and 20 degrees)."""
    shape = tuple(int(100 / size) for size in step)
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", (15, -10, 20), degrees=True).as_matrix() * step
    affine[:3, 3] = -affine[:3, :3] @ (np.array(shape) / 2)
    return affine, (shape[0], shape[1], shape[2])


def scan(path: Path, affine: np.ndarray, shape: Sequence[int], axcodes: str = "RAS") -> Volume:
    """The brain written to a file with axes ``axcodes``, and read."""
    image = nib.Nifti1Image(brain(affine, shape), affine)
    ornt = nib.orientations.ornt_transform(
        nib.io_orientation(affine), nib.orientations.axcodes2ornt(axcodes)
    )
    nib.save(image.as_reoriented(ornt), path)
    return read_volume(path)
