"""Foreground masks: the brain of a skull-stripped scan, or the whole head."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from uncus.data.errors import BadInput
from uncus.data.imageio.volume import Volume

# A field of view thinner than this (mm) is a slab: holes that open only at its faces are filled.
SLAB_MM = 60.0


def brain_mask(volume: Volume) -> NDArray[np.bool_]:
    """The largest connected foreground of a scan, its holes filled: bool [X, Y, Z].

    The foreground of a skull-stripped scan is all but the exact value of its background, that of
    others is above Otsu's threshold (IEEE Trans. SMC 9, 1979, 62-66). Raises BadInput if it is
    empty.
    """
    array = volume.array
    background = constant_background(array)
    mask = array != background if background is not None else array > otsu(array)
    if not mask.any():
        raise BadInput(volume.native.path, "contains no brain", "give a T1-weighted scan of a head")
    return fill_holes(largest_part(mask), volume.spacing)


def constant_background(array: NDArray[np.float32]) -> float | None:
    """The background value of a skull-stripped scan; None if the background is noisy.

    The most common value on the faces of the image, if at least 15 % of the image and four of five
    voxels of similar intensity have exactly this value.
    """
    faces = np.concatenate(
        [np.take(array, index, axis).ravel() for axis in range(3) for index in (0, -1)]
    )
    values, counts = np.unique(faces, return_counts=True)
    value = float(values[counts.argmax()])
    exact = int((array == value).sum())
    if exact < 0.15 * array.size:
        return None
    low, high = np.percentile(array[::2, ::2, ::2], (1, 99))
    near = int((np.abs(array - value) <= 0.03 * (high - low)).sum())
    return value if exact >= 0.8 * near else None


def otsu(array: NDArray[np.float32], bins: int = 256) -> float:
    """Otsu's threshold, of least variance within both classes, for the square roots of intensities.

    Intensities are clipped to the 99th percentile, since bright fat would raise the threshold.
    """
    low, high = np.percentile(array[::2, ::2, ::2], (0.5, 99))
    if not high > low:
        low, high = float(array.min()), float(array.max())
    # Square roots keep dark brain, far from the coil, above the threshold.
    roots = np.sqrt(np.clip(array, low, high) - low)
    counts, edges = np.histogram(roots, bins=bins)
    centres = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)[:-1].astype(float)
    above = counts.sum() - below
    total = np.cumsum(counts * centres)
    mean_below = total[:-1] / np.maximum(below, 1)
    mean_above = (total[-1] - total[:-1]) / np.maximum(above, 1)
    best = edges[1 + int(np.argmax(below * above * (mean_above - mean_below) ** 2))]
    return float(low + best**2)


def largest_part(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The largest 6-connected part of ``mask``, which must not be empty."""
    box = ndimage.find_objects(mask.view(np.uint8))[0]
    labels, count = ndimage.label(mask[box])
    if count == 1:
        return mask
    sizes = np.bincount(labels[mask[box]], minlength=2)
    largest = np.zeros_like(mask)
    largest[box] = labels == sizes.argmax()
    return largest


def fill_holes(mask: NDArray[np.bool_], spacing: tuple[float, float, float]) -> NDArray[np.bool_]:
    """Fill the holes of ``mask``: background that does not reach a face of the image.

    Faces across a slab's thin axis do not count, since ventricles reach them; MONAI's FillHoles
    leaves those open.
    """
    # Only the mask's box, and one voxel around it that connects the background outside.
    box = tuple(
        slice(max(part.start - 1, 0), part.stop + 1)
        for part in ndimage.find_objects(mask.view(np.uint8))[0]
    )
    part = mask[box]
    labels, count = ndimage.label(~part)
    extents = [size * step for size, step in zip(mask.shape, spacing, strict=True)]
    hole = np.ones(count + 1, bool)
    hole[0] = False
    for axis, extent in enumerate(extents):
        if extent < SLAB_MM and extent < max(extents) / 2:
            continue
        for index in (0, -1):
            hole[np.unique(np.take(labels, index, axis))] = False
    filled = mask.copy()
    filled[box] |= hole[labels]
    return filled
