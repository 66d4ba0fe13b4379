"""A 3D perceptual hash: the same anatomy is recognized under another name, grid or noise.

Of each scan the inside of the brain is kept, without its edge (which resampling blurs), without
slow variation (bias field, contrast) and without noise. The scans are aligned to their mean by one
affine each, found by the inverse compositional Gauss-Newton method (Baker and Matthews,
International Journal of Computer Vision 56, 2004). What then differs from the mean is a subject's
own anatomy; scans of it correlate, whatever their position, size, units and voxels. Mirror images
are compared too: files may have left and right exchanged.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, stats

Floats = NDArray[np.float32]

LATTICE = (32, 40, 30)
STEP = 5.0
"""Points and their distance (mm) on which a scan is kept, about the middle of its brain."""
COARSE = 4.0
"""Voxels are averaged to this size (mm) at most; anatomy that differs between people is larger."""
EDGE = 7.0
"""Millimeters at the edge of the brain that do not count."""
FINE, BROAD = 3.0, 12.0
"""Standard deviations (mm) of the two Gaussians whose difference is kept."""
CLIP = 2.5
ROUNDS, STEPS = 2, 4
LEAST = 0.5
"""Scans of one person correlate by more than this (measured: 0.71 and above, others below 0.35)."""
CHANCE = 0.001
"""Probability of a false match in a whole cohort, were the correlations of pairs normal."""


def signature(volume: NDArray[np.floating], spacing: Sequence[float]) -> Floats:
    """What is kept of a scan: float32 [32, 40, 30], about the middle of its brain.

    Parameters
    ----------
    volume: [X, Y, Z] RAS+, 0 outside the brain.
    spacing: voxel size, mm [3].
    """
    values, mask, voxel = coarse(volume, spacing)
    inside = ndimage.distance_transform_edt(mask > 0.5, sampling=voxel) > EDGE
    if not inside.any():
        return np.zeros(LATTICE, np.float32)
    middle = np.array(ndimage.center_of_mass(mask))
    centre = np.median(values[inside])
    spread = 1.4826 * np.median(np.abs(values[inside] - centre))
    scaled = np.clip((values - centre) / max(float(spread), 1e-6), -CLIP, CLIP) * inside
    fine, broad = (smooth(scaled, inside, sd / voxel) for sd in (FINE, BROAD))
    kept = np.where(inside, fine - broad, 0).astype(np.float32)
    points = mm_points() / voxel[:, None] + middle[:, None]
    return np.asarray(ndimage.map_coordinates(kept, points, order=1), np.float32).reshape(LATTICE)


def coarse(
    volume: NDArray[np.floating], spacing: Sequence[float]
) -> tuple[Floats, Floats, NDArray[np.float64]]:
    """Average voxels to at most ``COARSE`` mm: values in the brain, its share, the voxel size."""
    factors = [max(1, int(COARSE / size + 1e-6)) for size in spacing]
    pad = [(0, -size % factor) for size, factor in zip(volume.shape, factors, strict=True)]
    padded = np.pad(np.asarray(volume, np.float32), pad)
    blocks = [n for s, f in zip(padded.shape, factors, strict=True) for n in (s // f, f)]
    total, mask = (part.reshape(blocks).mean(axis=(1, 3, 5)) for part in (padded, padded != 0))
    values = (total / np.maximum(mask, 1e-6)).astype(np.float32)
    # A voxel inside the brain may be 0 by chance.
    filled = np.maximum(mask, ndimage.binary_fill_holes(mask > 0.5))
    return values, filled.astype(np.float32), np.asarray(spacing, float) * factors


def smooth(
    values: NDArray[np.floating], inside: NDArray[np.bool_], sd: NDArray[np.float64]
) -> NDArray[np.floating]:
    """Gaussian mean over the voxels inside alone; ``sd`` in voxels [3]."""
    weight = ndimage.gaussian_filter(inside.astype(np.float32), sd)
    mean: NDArray[np.floating] = ndimage.gaussian_filter(values, sd) / np.maximum(weight, 0.1)
    return mean


def mm_points() -> NDArray[np.float64]:
    """The points of the lattice, [3, P], mm from its middle."""
    axes = [(np.arange(n) - (n - 1) / 2) * STEP for n in LATTICE]
    return np.stack(np.meshgrid(*axes, indexing="ij")).reshape(3, -1)


def aligned(signatures: Floats, own: int | None = None) -> Floats:
    """Signatures [N, 32, 40, 30] aligned by an affine each to their mean: [N, P].

    The mean is that of the first ``own``; only points that most of these reach are returned.
    """
    flat = signatures.reshape(len(signatures), -1)
    chosen = np.flatnonzero((flat[:own] != 0).mean(axis=0) > 0.5)
    if not chosen.size:  # nothing in common, such as scans without a brain
        return flat[:, chosen]
    points = mm_points()[:, chosen] / STEP
    homogeneous = np.vstack([points / 10, np.ones(len(chosen))])
    middle = (np.array(LATTICE)[:, None] - 1) / 2
    placed = [np.eye(4) for _ in signatures]
    out = flat[:, chosen].copy()
    for _ in range(ROUNDS):
        mean = np.zeros(flat.shape[1], np.float32)
        mean[chosen] = out[:own].mean(axis=0)
        slopes = np.array(np.gradient(mean.reshape(LATTICE))).reshape(3, -1)[:, chosen]
        # Twelve numbers of the affine, and the contrast.
        jacobian = np.vstack(
            [(slopes[:, None] * homogeneous).reshape(12, -1), mean[None, chosen]]
        ).astype(np.float32)
        gram = jacobian @ jacobian.T
        # Damped: the thin axis of a slab determines nothing.
        gram += 1e-3 * np.diag(np.diag(gram)) + 1e-9 * np.trace(gram) * np.eye(13)
        solve = np.linalg.solve(gram, jacobian)
        for row, image in enumerate(signatures):
            for _ in range(STEPS):
                step = (solve @ (out[row] - mean[chosen]))[:12].reshape(3, 4)
                change = np.eye(4)
                change[:3, :3] += step[:, :3] / 10
                change[:3, 3] = step[:, 3]
                placed[row] = placed[row] @ np.linalg.inv(change)
                at = placed[row][:3, :3] @ points + placed[row][:3, 3:] + middle
                out[row] = ndimage.map_coordinates(image, at, order=1)
    return out


def similarity(signatures: Floats) -> Floats:
    """Correlation of every two scans' own anatomy, and of a scan's and a mirror image's: [N, 2 N].

    Scans are compared by what differs from their mean, each point in units of its spread.
    """
    count = len(signatures)
    own = aligned(np.concatenate([signatures, signatures[:, ::-1]]), count)
    own = own / np.maximum(np.linalg.norm(own, axis=1, keepdims=True), 1e-6)
    own = own - own[:count].mean(axis=0)
    spread = own[:count].std(axis=0)
    varying = spread > 0.05 * spread.max(initial=0)
    own = own[:, varying] / spread[varying]
    own /= np.maximum(np.linalg.norm(own, axis=1, keepdims=True), 1e-6)
    return np.asarray(own[:count] @ own.T, np.float32)


def matches(alike: Floats) -> list[tuple[int, int]]:
    """Pairs of scans that show the same anatomy, mirrored or not, the most alike first.

    They correlate by ``LEAST``, and by more than the spread of all pairs lets expect of any; see
    :func:`similarity` for ``alike``.
    """
    rows, columns = np.triu_indices(len(alike), 1)
    if len(rows) < 3:
        return []
    z, mirrored = (
        np.arctanh(np.clip(alike[rows, some], -0.9999, 0.9999))
        for some in (columns, columns + len(alike))
    )
    middle = np.median(z)
    spread = 1.4826 * np.median(np.abs(z - middle))
    limit = max(np.arctanh(LEAST), middle + stats.norm.isf(CHANCE / len(z)) * spread)
    z = np.maximum(z, mirrored)
    found = np.flatnonzero(z > limit)
    order = found[np.argsort(-z[found], kind="stable")]
    return [(int(rows[k]), int(columns[k])) for k in order]
