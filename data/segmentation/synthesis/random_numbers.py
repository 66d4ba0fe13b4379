"""The random numbers of one image."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


class Random:
    """Random numbers of one image."""

    def __init__(self, seed: int, index: int) -> None:
        self.torch = torch.Generator().manual_seed(seed * 1_000_003 + index)

    def uniform(self, low: float, high: float) -> float:
        """A number between ``low`` and ``high``."""
        return low + (high - low) * float(torch.rand((), generator=self.torch))

    def chance(self, probability: float) -> bool:
        """True with a probability."""
        return self.uniform(0, 1) < probability

    def integer(self, count: int) -> int:
        """One of 0 to ``count`` - 1."""
        return int(torch.randint(count, (), generator=self.torch))

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers [shape]."""
        return torch.randn(shape, generator=self.torch)

    def smooth(self, shape: Sequence[int], points: int, channels: int = 1) -> Tensor:
        """Smooth normal noise [channels, *shape] from ``points`` points along each axis."""
        noise = self.normal(1, channels, points, points, points)
        return resized(noise, shape)[0]


def resized(array: Tensor, shape: Sequence[int]) -> Tensor:
    """[N, C, x, y, z] interpolated linearly to [N, C, *shape]."""
    return F.interpolate(array, size=tuple(shape), mode="trilinear", align_corners=True)
