"""How alike two saliency maps of the same grid are."""

from typing import Any

import numpy as np
import torch
from monai.metrics.regression import compute_ssim_and_cs
from numpy.typing import NDArray
from scipy.stats import rankdata

Map = NDArray[np.float32]
WINDOW = 7
"""Voxels of SSIM's Gaussian window along an edge."""


def similarity(first: Map, second: Map, brain: NDArray[np.bool_]) -> dict[str, float]:
    """The measures of Adebayo 2018 (arXiv 1810.03292) for two maps [X, Y, Z].

    Returns
    -------
    ``spearman``: rank correlation over the brain; ``spearman_absolute``: that of the absolute
    values; ``ssim``: structural similarity (Wang 2004), each map divided by its largest absolute
    value, averaged over the brain. A map without structure is like no other: rank correlation 0.
    """
    return {
        "spearman": spearman(first[brain], second[brain]),
        "spearman_absolute": spearman(np.abs(first[brain]), np.abs(second[brain])),
        "ssim": ssim(first, second, brain),
    }


def spearman(first: NDArray[Any], second: NDArray[Any]) -> float:
    """Rank correlation of two arrays [N]; 0 where one is constant."""
    if not (np.ptp(first) and np.ptp(second)):
        return 0.0
    return float(np.corrcoef(rankdata(first), rankdata(second))[0, 1])


def ssim(first: Map, second: Map, brain: NDArray[np.bool_]) -> float:
    """Structural similarity of two maps [X, Y, Z], scaled to -1..1, over the brain."""
    one, other = (
        torch.from_numpy(np.ascontiguousarray(m / max(float(np.abs(m).max()), 1e-12)))[None, None]
        for m in (first, second)
    )
    edge = min(WINDOW, *first.shape)
    edge -= 1 - edge % 2
    values, _ = compute_ssim_and_cs(
        one.float(), other.float(), 3, (edge,) * 3, (1.5,) * 3, data_range=2.0
    )
    rim = edge // 2
    inner = brain[tuple(slice(rim, size - rim) for size in brain.shape)]
    return float(values[0, 0].numpy()[inner].mean()) if inner.any() else float(values.mean())
