"""Adversarial volumes: changes of a given size, invisible if small, that raise a loss the most.

Goodfellow 2015 (FGSM, arXiv 1412.6572) moves each voxel by eps along the sign of the loss's
gradient, x + eps sign(dL/dx). Madry 2018 (PGD, arXiv 1706.06083) repeats smaller steps of this kind
and stays within eps of x. Wong 2020 (arXiv 2001.03994) trains on one step from a random start.

Changes have the unit of the volumes: standard deviations of the brain's intensities in those of a
prepared cohort. The background, exactly 0, is left as it is.
"""

from collections.abc import Callable

import torch
from torch import Tensor

Loss = Callable[[Tensor], Tensor]
"""Volumes [N, 1, X, Y, Z] -> the loss of each, [N], or of all, []."""
Eps = float | Tensor
"""The largest change of a voxel, of all volumes or of each, [N, 1, 1, 1, 1]."""
FAST_STEP = 1.25
"""Size of the step from a random start, in eps (Wong 2020)."""
STEPS, STEP = 5, 0.25
"""Steps of PGD after the first, and their size in eps."""


def loss_and_gradient(loss: Loss, volumes: Tensor) -> tuple[Tensor, Tensor]:
    """The loss, and the gradient of its sum with respect to each voxel."""
    leaf = volumes.detach().requires_grad_()
    with torch.enable_grad():
        values = loss(leaf)
        (gradient,) = torch.autograd.grad(values.sum(), leaf)
    return values.detach(), gradient


def moved(volumes: Tensor, start: Tensor, gradient: Tensor, step: Eps, eps: Eps) -> Tensor:
    """``start`` moved by ``step`` along the gradient's sign, within ``eps`` of ``volumes``."""
    change = start - volumes + step * gradient.sign()
    limit = torch.as_tensor(eps, dtype=change.dtype, device=change.device)
    change = torch.minimum(torch.maximum(change, -limit), limit)
    return volumes + change.masked_fill(volumes == 0, 0)


def fgsm(loss: Loss, volumes: Tensor, eps: Eps) -> Tensor:
    """Goodfellow's volumes: one step of ``eps``."""
    return moved(volumes, volumes, loss_and_gradient(loss, volumes)[1], eps, eps)


def fast_fgsm(loss: Loss, volumes: Tensor, eps: float, noise: Tensor) -> Tensor:
    """Wong's volumes: one step from a random start, with uniform ``noise`` from -1 to 1."""
    start = volumes + eps * noise.masked_fill(volumes == 0, 0)
    return moved(volumes, start, loss_and_gradient(loss, start)[1], FAST_STEP * eps, eps)


def pgd(loss: Loss, volumes: Tensor, eps: Eps, steps: int = STEPS) -> Tensor:
    """Madry's volumes, from those of FGSM: of all steps the one with each volume's highest loss.

    So they are never weaker than FGSM's. ``loss`` is of each volume, [N].
    """
    best = at = fgsm(loss, volumes, eps)
    highest, gradient = loss_and_gradient(loss, at)
    for _ in range(steps):
        at = moved(volumes, at, gradient, STEP * eps, eps)
        values, gradient = loss_and_gradient(loss, at)
        better = (values > highest).view(-1, *[1] * (volumes.ndim - 1))
        best, highest = torch.where(better, at, best), torch.maximum(values, highest)
    return best
