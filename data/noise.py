"""Gaussian noise that is the same on every device, drawn where it is needed.

torch's generators differ between CPU and GPU, and a GPU would have to wait for noise that is drawn
on the CPU and sent to it. Here each number is computed from its seed and place alone, as in
Salmon 2011 ("Parallel random numbers: as easy as 1, 2, 3"): a hash of 32 bits (Wellons' lowbias32)
gives two uniform numbers, and these two normal ones (Box & Muller 1958). Integers agree to the bit;
logarithm and cosine to the last digits.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def normal(seeds: Sequence[int], count: int, device: torch.device) -> Tensor:
    """[N, count] float32: standard normal numbers, a row for each seed (0 to 2^31)."""
    half = (count + 1) // 2
    place = torch.arange(half, dtype=torch.int32, device=device)
    start = to_device(torch.tensor(seeds, dtype=torch.int32), device)[:, None]
    first = scramble(place * signed(0x9E3779B9) + scramble(start))
    second = scramble(first ^ signed(0x85EBCA6B))
    radius = unit(first).add_(0.5 * 2**-24).log_().mul_(-2).sqrt_()
    angle = unit(second).mul_(2 * math.pi)
    return torch.cat([angle.cos().mul_(radius), angle.sin_().mul_(radius)], 1)[:, :count]


def scramble(bits: Tensor) -> Tensor:
    """A one-to-one hash of int32 ``bits``, in place where they are not needed any more."""
    mixed = bits ^ shifted(bits, 16)
    mixed = mixed.mul_(signed(0x7FEB352D))
    mixed ^= shifted(mixed, 15)
    mixed = mixed.mul_(signed(0x846CA68B))
    mixed ^= shifted(mixed, 16)
    return mixed


def shifted(bits: Tensor, by: int) -> Tensor:
    """``bits`` moved right, as if they had no sign."""
    return (bits >> by).bitwise_and_((1 << (32 - by)) - 1)


def unit(bits: Tensor) -> Tensor:
    """The upper 24 bits as float32 in [0, 1), exactly."""
    return shifted(bits, 8).to(torch.float32).mul_(2**-24)


def signed(word: int) -> int:
    """32 bits as int32 holds them; its products wrap around."""
    return word - (1 << 32) if word >> 31 else word


def to_device(values: Tensor, device: torch.device) -> Tensor:
    """Copy ``values`` from the CPU to ``device``, without waiting for what a GPU is computing.

    An ordinary copy blocks until the GPU has done all its queued work, and the GPU then idles until
    the next launch; a copy from pinned memory is queued like the rest.
    """
    if device.type != "cuda":
        return values.to(device)
    return values.pin_memory().to(device, non_blocking=True)
