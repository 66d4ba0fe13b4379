"""Parts shared by the normalization layers: gamma and beta, float32 statistics, map sizes."""

import math

import torch
from torch import Tensor, nn


class Affine(nn.Module):
    """Base of a norm: ``y = gamma_c * x_hat + beta_c``, ``weight`` and ``bias`` ``[C]``.

    They start at 1 and 0. A subclass computes x_hat in :func:`wide` precision.
    """

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.num_features = channels
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def affine(self, normalized: Tensor) -> Tensor:
        """Apply gamma and beta of each channel to ``normalized [N, C, ...]``."""
        weight, bias = (
            per_channel(p.to(normalized.dtype), normalized) for p in (self.weight, self.bias)
        )
        return torch.addcmul(bias, normalized, weight)

    def extra_repr(self) -> str:
        return f"{self.num_features}, eps={self.eps}"


def check_divisible(channels: int, groups: int) -> None:
    """Raise ValueError if ``groups`` does not divide ``channels``."""
    if channels % groups:
        raise ValueError(f"groups={groups} does not divide {channels} channels")


def wide(x: Tensor) -> Tensor:
    """``x`` in float32, for accurate statistics of half-precision values; float64 stays."""
    return x if x.dtype is torch.float64 else x.float()


def per_channel(values: Tensor, x: Tensor) -> Tensor:
    """``[C]`` -> ``[1, C, 1, ...]``, to combine with ``x [N, C, ...]``."""
    return values.view(1, -1, *[1] * (x.ndim - 2))


def voxels(x: Tensor) -> int:
    """Number of voxels of a map ``[N, C, ...]``; 1 without spatial axes."""
    return math.prod(x.shape[2:])


def size(x: Tensor) -> str:
    """The spatial axes of ``x [N, C, ...]`` for an error message, "4x4x4"."""
    return "x".join(map(str, x.shape[2:])) or "no"
