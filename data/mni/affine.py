"""Affine registration of the template to a scan, by intensities and labels together.

A transform is a float64 [4, 4] matrix that maps points of the template (MNI152, mm) to the scan
(RAS+, mm), the direction in which images are resampled. Its inverse maps the scan to the template.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from uncus.data.geometry.image import Affine, Image, coarser, points
from uncus.data.mni.template import load_template

MIN_COVERAGE = 0.5  # share of the weights that must be in the field of view
UNIT = 100.0  # mm; scales translations, so that all twelve parameters have similar effects
# The cost of labels whose centers are 5 mm away, root mean square, relative to the correlation's.
LABELS_COST = 0.02 / 5.0**2


class Match(NamedTuple):
    """A transform (template mm -> scan mm) and the correlation it reaches."""

    transform: Affine
    similarity: float


def refine(
    image: Image,
    start: Affine,
    spacing: float,
    steps: int,
    values: Image,
    weights: Image,
    pairs: NDArray[np.float64],
) -> Match:
    """Optimize a transform (12 parameters): correlation of intensities, distance of labels.

    Parameters
    ----------
    image: the scan.
    start: initial transform.
    spacing: voxel size of the comparison, mm.
    steps: maximum number of iterations of the optimizer (L-BFGS).
    values, weights: expected intensities and their weights, on one grid in the template's space.
    pairs: [N, 2, 3], the centers of labels in the template's space and in the scan, mm.
    """
    level = coarser(image, spacing)
    channels = np.stack([level.array, *np.gradient(level.array)]).astype(np.float32)
    coordinates = points(values.array.shape, values.affine)
    flat = weights.array.ravel()
    chosen = flat > 0.02
    coordinates, weight = coordinates[:, chosen], flat[chosen].astype(np.float64)
    expected = values.array.ravel()[chosen].astype(np.float64)
    center = load_template().center

    def homogeneous(at: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.vstack([(at - center[:, None]) / UNIT, np.ones(at.shape[1])])

    source, labels, targets = homogeneous(coordinates), homogeneous(pairs[:, 0].T), pairs[:, 1].T
    to_index = np.linalg.inv(level.affine)[:3, :3]
    limits = np.array(level.array.shape)[:, None] - 0.5

    def cost(parameters: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        matrix = parameters.reshape(3, 4)
        away = matrix @ labels * UNIT - targets
        apart = LABELS_COST * float((away**2).sum(axis=0).mean())
        pull = LABELS_COST * 2 * UNIT / away.shape[1] * away @ labels.T
        index = level.voxels(matrix @ source * UNIT)
        inside = ((index > -0.5) & (index < limits)).all(axis=0)
        w = weight * inside
        total = w.sum()
        if total < MIN_COVERAGE * weight.sum():
            return 1.0 + apart, pull.ravel()
        actual, *slopes = _sample(channels, index).astype(np.float64)
        a, b = actual - (w @ actual) / total, expected - (w @ expected) / total
        aa, bb, ab = w @ (a * a), w @ (b * b), w @ (a * b)
        if aa <= 0 or bb <= 0:
            return 1.0 + apart, pull.ravel()
        r = ab / np.sqrt(aa * bb)
        change = w * (b / np.sqrt(aa * bb) - r * a / aa)
        slope = np.stack(slopes) * change
        gradient = to_index.T @ (slope @ source.T) * UNIT
        return 1.0 - float(r) + apart, (pull - gradient).ravel()

    linear, origin = start[:3, :3], start[:3, :3] @ center + start[:3, 3]
    first = np.hstack([linear, origin[:, None] / UNIT]).ravel()
    result = optimize.minimize(
        cost, first, jac=True, method="L-BFGS-B", options={"maxiter": steps, "maxls": 10}
    )
    matrix = result.x.reshape(3, 4)
    transform = np.eye(4)
    transform[:3, :3] = matrix[:, :3]
    transform[:3, 3] = matrix[:, 3] * UNIT - matrix[:, :3] @ center
    away = matrix @ labels * UNIT - targets
    apart = LABELS_COST * float((away**2).sum(axis=0).mean())
    return Match(transform, 1.0 + apart - float(result.fun))


def _sample(channels: NDArray[np.float32], index: NDArray[np.float64]) -> NDArray[np.float32]:
    """Interpolate channels [C, X, Y, Z] linearly at indices [3, N]: float32 [C, N], 0 outside.

    All channels in one pass, which is several times as fast as one by one.
    """
    import torch  # not needed for the command line's help
    from torch.nn.functional import grid_sample

    size = np.array(channels.shape[1:], np.float64)[:, None]
    # grid_sample's coordinates range from -1 (first voxel) to 1 (last), in the order z, y, x.
    unit = (2 * index / np.maximum(size - 1, 1) - 1).astype(np.float32)
    grid = torch.from_numpy(np.ascontiguousarray(unit[::-1].T))[None, None, None]
    values = grid_sample(torch.from_numpy(channels)[None], grid, align_corners=True)
    sampled: NDArray[np.float32] = values[0, :, 0, 0].numpy()
    return sampled
