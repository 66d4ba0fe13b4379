"""What an audit measures in a prepared scan, one row of features a scan."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from uncus.pipeline.audit.perceptual_hash import Floats, coarse, signature

HEAD_ML = 2200.0
"""A mask larger than this (ml) is a head; the largest brains have about 1,900."""
SCALP_MM = 8.0
QUANTILES = np.linspace(0.025, 0.975, 20)
BLOCK_MM = 16.0
BLOCKS = (12, 14, 12)
"""Blocks of the mask's shape about its middle."""


@dataclass(frozen=True)
class ImageFacts:
    """Measures of one scan.

    Attributes
    ----------
    signature: see uncus.pipeline.audit.perceptual_hash.
    volume_ml: of the mask.
    position: where the head is in the scanner: middle (mm, RAS+ [3]), rotation (degrees [3], where
        it was registered), and how much each face of the scan cuts it [6].
    shape: the mask's share of blocks about its middle.
    histogram: quantiles of the z-scores inside.
    scalp: means of the outermost millimeters of a head, by block; empty for a brain.
    voxels: voxel size (mm [3]) and extent (voxels [3]) of the scan itself; None if not known.
    brightness: logarithm of its median bright intensity, in the scanner's units; None if not known.
    """

    signature: Floats
    volume_ml: float
    position: NDArray[np.float64]
    shape: NDArray[np.float64]
    histogram: NDArray[np.float64]
    scalp: NDArray[np.float64]
    voxels: NDArray[np.float64] | None
    brightness: NDArray[np.float64] | None


def measure(
    volume: Floats,
    affine: NDArray[np.float64],
    to_grid: NDArray[np.float64],
    origin: Mapping[str, Any],
    contact: Sequence[float],
) -> ImageFacts:
    """Measure a prepared volume [X, Y, Z], RAS+, 0 outside the mask.

    Parameters
    ----------
    affine: of its grid, mm.
    to_grid: [4, 4], scan mm -> grid mm.
    origin: of the scan itself, see ``bids_derivatives.read_origin``.
    contact: see uncus.data.space.Placed.
    """
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    inside = volume != 0
    values, mask, voxel = coarse(volume, spacing)
    middle = np.array(ndimage.center_of_mass(mask)) if mask.any() else np.zeros(3)
    volume_ml = float(inside.sum() * np.prod(spacing) / 1000)
    known = origin.get("spacing"), origin.get("shape"), origin.get("brightness")
    return ImageFacts(
        signature=signature(volume, spacing),
        volume_ml=volume_ml,
        position=position(affine, middle * voxel / spacing, to_grid, contact),
        shape=blocks(mask, middle, voxel),
        histogram=np.quantile(volume[inside], QUANTILES) if inside.any() else np.zeros(20),
        scalp=scalp(values, mask, middle, voxel) if volume_ml > HEAD_ML else np.zeros(0),
        voxels=np.array([*known[0], *known[1]], float) if known[0] and known[1] else None,
        brightness=np.log([max(float(known[2]), 1e-6)]) if known[2] else None,
    )


def position(
    affine: NDArray[np.float64],
    middle: NDArray[np.float64],
    to_grid: NDArray[np.float64],
    contact: Sequence[float],
) -> NDArray[np.float64]:
    """Where the head is in the scanner's own frame, and how it is turned."""
    point = affine[:3, :3] @ middle + affine[:3, 3]
    if np.allclose(to_grid, np.eye(4)):
        return np.array([*point, 0, 0, 0, *contact])
    # The template's origin in the scan: free of the brain's own shape.
    to_scan = np.linalg.inv(to_grid)
    left, _, right = np.linalg.svd(to_scan[:3, :3])
    turn = left @ right
    angles = Rotation.from_matrix(turn * np.sign(np.linalg.det(turn))).as_euler("xyz", degrees=True)
    return np.array([*to_scan[:3, 3], *angles, *contact])


def blocks(
    values: NDArray[np.floating], middle: NDArray[np.float64], voxel: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Means over blocks of 16 mm about the middle, flat."""
    width = BLOCK_MM / voxel
    means = ndimage.uniform_filter(values, np.maximum(np.round(width), 1).astype(int).tolist())
    axes = [(np.arange(n) - (n - 1) / 2) * width[k] + middle[k] for k, n in enumerate(BLOCKS)]
    return np.asarray(
        ndimage.map_coordinates(means, np.meshgrid(*axes, indexing="ij"), order=1), float
    ).ravel()


def scalp(
    values: Floats, mask: Floats, middle: NDArray[np.float64], voxel: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The outermost millimeters of a head: intensity by block, 0 elsewhere."""
    depth = ndimage.distance_transform_edt(mask > 0.5, sampling=voxel)
    shell = (depth > 0) & (depth <= SCALP_MM)
    return blocks(np.where(shell, values, 0), middle, voxel)
