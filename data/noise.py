"""Gaussian noise that is the same on every device, generated on the device that uses it.

torch's generators differ between CPU and GPU, and copying noise from the CPU would stall a GPU.
Here each number is a function of its seed and index alone, as in Salmon et al. 2011 ("Parallel
random numbers: as easy as 1, 2, 3"): a 32-bit hash (Wellons' lowbias32) gives two uniform numbers,
and these give two normal ones (Box & Muller 1958). Integers agree bit by bit between devices,
logarithm and cosine up to rounding.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def normal(seeds: Sequence[int], count: int, device: torch.device) -> Tensor:
    """Standard normal numbers, float32 [N, count], one row per seed (0 to 2^31)."""
    half = (count + 1) // 2
    index = torch.arange(half, dtype=torch.int32, device=device)
    start = to_device(torch.tensor(seeds, dtype=torch.int32), device)[:, None]
    first = scramble(index * signed(0x9E3779B9) + scramble(start))
    second = scramble(first ^ signed(0x85EBCA6B))
    radius = unit(first).add_(0.5 * 2**-24).log_().mul_(-2).sqrt_()
    angle = unit(second).mul_(2 * math.pi)
    return torch.cat([angle.cos().mul_(radius), angle.sin_().mul_(radius)], 1)[:, :count]


def scramble(bits: Tensor) -> Tensor:
    """A one-to-one hash of int32 ``bits`` (lowbias32)."""
    mixed = bits ^ shifted(bits, 16)
    mixed = mixed.mul_(signed(0x7FEB352D))
    mixed ^= shifted(mixed, 15)
    mixed = mixed.mul_(signed(0x846CA68B))
    mixed ^= shifted(mixed, 16)
    return mixed


def shifted(bits: Tensor, by: int) -> Tensor:
    """Logical right shift of int32 ``bits``."""
    return (bits >> by).bitwise_and_((1 << (32 - by)) - 1)


def unit(bits: Tensor) -> Tensor:
    """The upper 24 bits as float32 in [0, 1), exactly."""
    return shifted(bits, 8).to(torch.float32).mul_(2**-24)


def signed(word: int) -> int:
    """A 32-bit ``word`` as an int32 value; products of int32 wrap around."""
    return word - (1 << 32) if word >> 31 else word


def to_device(values: Tensor, device: torch.device) -> Tensor:
    """Copy ``values`` from the CPU to ``device``, without waiting for what a GPU is computing.

    An ordinary copy blocks until the GPU has done all its queued work, and the GPU then idles until
    the next launch; a copy from pinned memory is queued like the rest.
    """
    if device.type != "cuda":
        return values.to(device)
    return values.pin_memory().to(device, non_blocking=True)
