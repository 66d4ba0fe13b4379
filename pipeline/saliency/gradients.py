"""Gradients of the score with respect to the voxels, plain and integrated."""

import math

import numpy as np
import torch
from torch import Tensor

from uncus.models.base import Classifier
from uncus.pipeline.saliency.score import Score, batch_size, score_gradient, stem


def voxel_gradient(
    model: Classifier, volume: Tensor, score: Score, feature_map: Tensor | None = None
) -> Tensor:
    """``|dS / dx|`` of each voxel (Simonyan 2014, arXiv 1312.6034)."""
    return score_gradient(model, volume, score)[0, 0].abs()


def integrated_gradients(
    model: Classifier,
    volume: Tensor,
    score: Score,
    feature_map: Tensor | None = None,
    *,
    baseline: Tensor | None = None,
    steps: int = 128,
) -> Tensor:
    """Integrated gradients (Sundararajan 2017, arXiv 1703.01365).

    ``(x - b) * integral_0^1 grad S(b + a (x - b)) da``, whose sum is ``S(x) - S(b)``. The baseline
    b is 0: background outside the brain, mean intensity inside.

    A network that normalizes each sample right after a convolution has ``S(a x) = S(x)`` until
    ``a`` is so small that eps matters, 0.01 to 0.00001: equal steps in ``a`` miss the change. So
    the steps are spaced in ``log a``, see `path_rule`; from another baseline, in ``a``.

    Where one convolution alone reads the volume, the gradients are summed at its output and carried
    through it once: it is linear, and on a CPU three quarters of the time.

    Parameters
    ----------
    baseline: b ``[1, 1, X, Y, Z]``; 0 by default.
    steps: number of gradients.
    """
    start = torch.zeros_like(volume) if baseline is None else baseline.to(volume)
    positions, weights = path_rule(steps, 1e-6 if baseline is None else 1.0)
    first_layer = stem(model, volume)
    total = torch.zeros(())
    size = batch_size(volume)
    for first in range(0, steps, size):
        a = volume.new_tensor(positions[first : first + size]).view(-1, 1, 1, 1, 1)
        w = volume.new_tensor(weights[first : first + size]).view(-1, 1, 1, 1, 1)
        along = start + a * (volume - start)
        gradients = score_gradient(model, along, score, first_layer)
        total = total + (w * gradients).sum(dim=0, keepdim=True)
    if first_layer:
        leaf = volume.detach().requires_grad_()
        (total,) = torch.autograd.grad(first_layer(leaf), leaf, total)
    return ((volume - start) * total)[0, 0]


def path_rule(steps: int, smallest: float = 1e-6) -> tuple[list[float], list[float]]:
    """Nodes a in 0..1 and weights of a quadrature over a, dense towards 0.

    Gauss-Legendre in a below ``smallest`` (4 points), in log a above it; in a throughout where
    ``smallest`` is 1.
    """
    if steps < 8:
        raise ValueError(f"steps={steps}: integrated gradients require at least 8")
    linear = steps if smallest == 1 else 4
    near, near_weights = np.polynomial.legendre.leggauss(linear)
    far, far_weights = np.polynomial.legendre.leggauss(max(1, steps - linear))
    half = -math.log(smallest) / 2
    a = np.exp((far - 1) * half)
    positions = [*(smallest * (near + 1) / 2), *a]
    weights = [*(smallest * near_weights / 2), *(far_weights * half * a)]
    return [float(p) for p in positions[:steps]], [float(w) for w in weights[:steps]]
