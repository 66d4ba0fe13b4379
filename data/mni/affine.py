"""Affine registration of the template to a scan: an exhaustive search, then refinement.

A transform is a float64 [4, 4] matrix that maps points of the template (MNI152, mm) to the scan
(RAS+, mm), the direction in which images are resampled. Its inverse maps the scan to the template.
"""

import itertools
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import fft, optimize

from uncus.data.geometry.image import Affine, Image, coarser, points, upright
from uncus.data.mni.template import load_template, pattern

SEARCH_MM = 8.0
ANGLES = (-26.0, 0.0, 26.0)  # degrees about each axis, at which the search starts
SCALES = (0.82, 0.97)  # most brains are smaller than the template
SEARCH_KEEP = 6  # candidates to refine
WIDE_ANGLES = (-26.0, 0.0, 26.0)  # degrees about the x axis, in each of the 24 orientations
WIDE_SCALE = 0.9
WIDE_SEARCH_KEEP = 12
SIZES = (0.8, 0.9)  # of brains from which an enlarged registration starts again
MIN_COVERAGE = 0.5  # share of the pattern that must be in the field of view
UNIT = 100.0  # mm; scales translations, so that all twelve parameters have similar effects


class Match(NamedTuple):
    """A transform (template mm -> scan mm) and the correlation it reaches."""

    transform: Affine
    similarity: float


def search(image: Image, wide: bool = False) -> list[Match]:
    """Find the likeliest positions of the brain in a head, best first.

    All translations are tried at once, for each of 27 rotations and two sizes, by masked normalized
    correlation over Fourier transforms (Padfield, IEEE Trans. Image Processing 21, 2012).
    ``wide``: try each of the 24 axis-aligned orientations instead, in case the header is wrong.
    """
    coarse = upright(image, SEARCH_MM)
    valid = np.isfinite(coarse.array)
    values = np.where(valid, coarse.array, 0)
    values /= max(float(np.percentile(values[valid], 95)), 1e-6)
    radius = _kernel_radius()
    shape = [fft.next_fast_len(size + 2 * radius, real=True) for size in values.shape]
    # Padded on all sides, so that the brain may extend beyond the field of view.
    pad = [(radius, full - size - radius) for full, size in zip(shape, values.shape, strict=True)]
    layers = [np.pad(layer, pad) for layer in (valid.astype(np.float32), values, values**2)]
    ones, first, second = (fft.rfftn(layer.astype(np.float32)) for layer in layers)
    candidates: list[tuple[float, tuple[int, ...], int]] = []
    kernels = _kernels(radius, wide)
    for number, (weight, wt, wtt, total, _) in enumerate(kernels):
        w, t, tt = (np.conj(fft.rfftn(k, shape)) for k in (weight, wt, wtt))

        def inverse(product: NDArray[np.complex64]) -> NDArray[np.float32]:
            correlation: NDArray[np.float32] = fft.irfftn(product, shape)
            return correlation

        mass = np.maximum(inverse(w * ones), 1e-3)
        mean, mean_t = inverse(w * first) / mass, inverse(t * ones) / mass
        variance = inverse(w * second) / mass - mean**2
        variance_t = inverse(tt * ones) / mass - mean_t**2
        covariance = inverse(t * first) / mass - mean * mean_t
        score = covariance / np.sqrt(np.maximum(variance * variance_t, 1e-5))
        share = mass / total
        score = np.where(share > MIN_COVERAGE, score * share**0.25, -1)
        best = np.unravel_index(int(score.argmax()), score.shape)
        candidates.append((float(score[best]), tuple(int(i) for i in best), number))
    candidates.sort(reverse=True)
    matches = []
    for best_score, corner, number in candidates[: WIDE_SEARCH_KEEP if wide else SEARCH_KEEP]:
        linear = kernels[number][4]
        # The kernel's first voxel is at the corner, one radius before its center; the image is
        # padded by as much.
        position = coarse.affine[:3, :3] @ np.array(corner) + coarse.affine[:3, 3]
        transform = np.eye(4)
        transform[:3, :3] = linear
        transform[:3, 3] = position - linear @ load_template().center
        matches.append(Match(transform, best_score))
    return matches


def refine(
    image: Image,
    starts: list[Affine],
    spacing: float,
    steps: int,
    values: Image,
    weights: Image,
    keep: int = 1,
) -> list[Match]:
    """Optimize transforms locally (12 parameters) for correlation; return the ``keep`` best ones.

    Parameters
    ----------
    image: the scan.
    starts: initial transforms.
    spacing: voxel size of the comparison, mm.
    steps: maximum number of iterations of the optimizer (L-BFGS).
    values, weights: expected intensities and their weights, on one grid in the template's space.
    """
    level = coarser(image, spacing)
    channels = np.stack([level.array, *np.gradient(level.array)]).astype(np.float32)
    coordinates = points(values.array.shape, values.affine)
    flat = weights.array.ravel()
    chosen = flat > 0.02
    coordinates, weight = coordinates[:, chosen], flat[chosen].astype(np.float64)
    expected = values.array.ravel()[chosen].astype(np.float64)
    center = load_template().center
    homogeneous = np.vstack([(coordinates - center[:, None]) / UNIT, np.ones(coordinates.shape[1])])
    to_index = np.linalg.inv(level.affine)[:3, :3]
    limits = np.array(level.array.shape)[:, None] - 0.5

    def cost(parameters: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        matrix = parameters.reshape(3, 4)
        index = level.voxels(matrix @ homogeneous * UNIT)
        inside = ((index > -0.5) & (index < limits)).all(axis=0)
        w = weight * inside
        total = w.sum()
        if total < MIN_COVERAGE * weight.sum():
            return 1.0, np.zeros(12)
        actual, *slopes = _sample(channels, index).astype(np.float64)
        a, b = actual - (w @ actual) / total, expected - (w @ expected) / total
        aa, bb, ab = w @ (a * a), w @ (b * b), w @ (a * b)
        if aa <= 0 or bb <= 0:
            return 1.0, np.zeros(12)
        r = ab / np.sqrt(aa * bb)
        change = w * (b / np.sqrt(aa * bb) - r * a / aa)
        slope = np.stack(slopes) * change
        gradient = to_index.T @ (slope @ homogeneous.T) * UNIT
        return 1.0 - float(r), -gradient.ravel()

    matches = []
    for start in starts:
        linear, origin = start[:3, :3], start[:3, :3] @ center + start[:3, 3]
        first = np.hstack([linear, origin[:, None] / UNIT]).ravel()
        result = optimize.minimize(
            cost, first, jac=True, method="L-BFGS-B", options={"maxiter": steps, "maxls": 10}
        )
        matrix = result.x.reshape(3, 4)
        transform = np.eye(4)
        transform[:3, :3] = matrix[:, :3]
        transform[:3, 3] = matrix[:, 3] * UNIT - matrix[:, :3] @ center
        matches.append(Match(transform, 1.0 - float(result.fun)))
    matches.sort(key=lambda match: -match.similarity)
    return matches[:keep]


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


def locate(image: Image, wide: bool = False) -> Match:
    """Locate the brain in a whole head or a skull-stripped brain, to about 2 mm.

    ``wide``: in any orientation; else within about 45 degrees of that of the header.
    """
    starts = [match.transform for match in search(image, wide)]
    rough = refine(image, starts, 8.0, 40, *pattern(8.0), keep=3)
    close = refine(image, [match.transform for match in rough], 5.0, 60, *pattern(5.0))
    return close[0]


def resized(transform: Affine, size: float) -> Affine:
    """``transform`` with the template's volume scaled to ``size`` cubed about the brain's center.

    Where fluid between a shrunken brain and its skull is wide, the template grows to the skull.
    """
    linear = transform[:3, :3] * size / np.cbrt(np.linalg.det(transform[:3, :3]))
    result = transform.copy()
    result[:3, :3] = linear
    result[:3, 3] += (transform[:3, :3] - linear) @ load_template().center
    return result


def _kernel_radius() -> int:
    """Radius of the search's kernels, voxels: they contain the template at any rotation."""
    return 15


@lru_cache(maxsize=2)
def _kernels(radius: int, wide: bool = False) -> list[tuple[Any, ...]]:
    """Weights, weights * values, weights * values^2, sum of weights, matrix; per orientation."""
    values, weights = pattern(SEARCH_MM)
    size = 2 * radius + 1
    lattice = np.indices((size, size, size)).reshape(3, -1) - radius
    kernels = []
    for linear in _axis_orientations() if wide else _orientations():
        at = np.linalg.inv(linear) @ (lattice * SEARCH_MM) + load_template().center[:, None]
        w = weights.at(at).reshape(size, size, size)
        v = values.at(at).reshape(size, size, size)
        kernels.append((w, w * v, w * v * v, w.sum(), linear))
    return kernels


def _orientations() -> list[NDArray[np.float64]]:
    """Rotations times scales near the header's orientation [3, 3]."""
    angles = itertools.product(np.radians(ANGLES), repeat=3)
    return [scale * rotation(each) for each in angles for scale in SCALES]


def _axis_orientations() -> list[NDArray[np.float64]]:
    """The 24 rotations that map axes to axes, each combined with nods about the x axis."""
    orientations = []
    for order in itertools.permutations(range(3)):
        for signs in itertools.product((1.0, -1.0), repeat=3):
            axes = np.zeros((3, 3))
            axes[order, range(3)] = signs
            if np.linalg.det(axes) > 0:
                for nod in np.radians(WIDE_ANGLES):
                    orientations.append(WIDE_SCALE * axes @ rotation((nod, 0.0, 0.0)))
    return orientations


def rotation(angles: tuple[float, ...]) -> NDArray[np.float64]:
    """Rotation matrix [3, 3] about x, then y, then z by ``angles`` (radians).

    MONAI's create_rotate turns about z first.
    """
    combined = np.eye(3)
    for axis, angle in enumerate(angles):
        one, two = (axis + 1) % 3, (axis + 2) % 3
        single = np.eye(3)
        single[one, one] = single[two, two] = np.cos(angle)
        single[one, two], single[two, one] = -np.sin(angle), np.sin(angle)
        combined = single @ combined
    return combined
