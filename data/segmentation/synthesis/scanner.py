"""What scanners and people do to an image."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from uncus.data.segmentation.intensity import normalized
from uncus.data.segmentation.synthesis.random_numbers import Random, resized


def scanner(image: Tensor, labels: Tensor, spacing: float, random: Random) -> Tensor:
    """What scanners and people do to an image [X, Y, Z]; ``labels`` are cut where it is."""
    shape = image.shape
    for _ in range(random.integer(3) if random.chance(0.25) else 0):
        blob(image, labels, spacing, random)
    if random.chance(0.15):  # contrast agent: veins, meninges and mucosa are bright
        image[(labels == 1) & (random.smooth(shape, 30)[0] > 0.3)] *= random.uniform(1.5, 3.0)
    stripped = random.chance(0.3)
    if stripped:
        strip(image, labels, random)
    elif random.chance(0.2):
        deface(image, labels, random)
    image = blurred(image, random.uniform(0.3, 1.2) / spacing)
    if random.chance(0.3):
        image = thick_slices(image, random)
    field = torch.exp(random.smooth(shape, 4)[0] * random.uniform(0, 0.35))
    image = image * field
    level = random.uniform(0, 0.08) * float(image.mean()) * 2
    noise = random.normal(*shape) * level
    if stripped and random.chance(0.8):
        noise = noise * (image > 0.02)
    elif random.chance(0.5):  # Rician
        return rescaled(
            torch.sqrt((image + noise) ** 2 + (random.normal(*shape) * level) ** 2), random
        )
    image = image + noise
    if not stripped and random.chance(0.25):
        cut(image, labels, random)
    return rescaled(image, random)


def box_scanner(image: Tensor, labels: Tensor, spacing: float, random: Random) -> Tensor:
    """What they do to the image [X, Y, Z] of a box; ``labels`` are cut where it is."""
    shape = image.shape
    if random.chance(0.1):
        blob(image, labels, spacing, random)
    if random.chance(0.1):
        image[(labels == 1) & (random.smooth(shape, 10)[0] > 0.3)] *= random.uniform(1.5, 3.0)
    if random.chance(0.3):
        strip(image, labels, random)
    return recorded(image, spacing, random)


def slab_scanner(image: Tensor, tissue: Tensor, labels: Tensor, random: Random) -> Tensor:
    """What they do to a slab [X, Y, Z] of 1 mm of a stripped brain; ``labels`` are cut with it."""
    if random.chance(0.05):
        blob(image, tissue, 1.0, random)
    if random.chance(0.95):
        strip(image, tissue, random)
        labels[tissue == 0] = 0
    return recorded(image, 1.0, random)


def recorded(image: Tensor, spacing: float, random: Random) -> Tensor:
    """Blurred, sampled coarsely, with a bias field and noise."""
    shape = image.shape
    image = blurred(image, random.uniform(0.3, 1.2) / spacing)
    if random.chance(0.6):
        factor = random.uniform(1, 2.2)
        small = [round(n / factor) for n in shape]
        image = resized(F.interpolate(image[None, None], size=small, mode="area"), shape)[0, 0]
    if random.chance(0.3):
        image = thick_slices(image, random)
    image = image * torch.exp(random.smooth(shape, 3)[0] * random.uniform(0, 0.2))
    level = random.uniform(0, 0.08) * float(image.mean()) * 2
    noise = random.normal(*shape)
    if random.chance(0.5):  # interpolated noise is smooth
        noise = blurred(noise, 0.7) * 2
    return rescaled((image + level * noise).clamp_(0), random)


def rescaled(image: Tensor, random: Random) -> Tensor:
    """Normalized as real scans are, then disturbed: gamma, scale and offset."""
    image = normalized(image).clamp_(0, 2)
    return image ** random.uniform(0.8, 1.25) * random.uniform(0.8, 1.25)


def blurred(image: Tensor, sigma: float) -> Tensor:
    """Gaussian blur; ``sigma`` in voxels."""
    radius = max(1, int(np.ceil(2.5 * sigma)))
    kernel = torch.exp(-0.5 * (torch.arange(-radius, radius + 1) / max(sigma, 0.05)) ** 2)
    return separable(image, kernel / kernel.sum(), (0, 1, 2))


def separable(image: Tensor, kernel: Tensor, axes: Sequence[int]) -> Tensor:
    """Convolve along some axes, by shifted sums."""
    radius = len(kernel) // 2
    for axis in axes:
        padded = torch.cat(
            [image.narrow(axis, 0, 1)] * radius
            + [image]
            + [image.narrow(axis, image.shape[axis] - 1, 1)] * radius,
            axis,
        )
        total = torch.zeros_like(image)
        for k, weight in enumerate(kernel.tolist()):
            total.add_(padded.narrow(axis, k, image.shape[axis]), alpha=weight)
        image = total
    return image


def thick_slices(image: Tensor, random: Random) -> Tensor:
    """Averaged along one axis and interpolated back."""
    shape, axis = image.shape, random.integer(3)
    factor = random.uniform(1.2, 3.0)
    size = [round(n / factor) if k == axis else n for k, n in enumerate(shape)]
    small = F.interpolate(image[None, None], size=size, mode="area")
    return resized(small, shape)[0, 0]


def strip(image: Tensor, labels: Tensor, random: Random) -> None:
    """Remove what is not brain, generously or tightly, in place."""
    keep = (labels >= (2 if random.chance(0.4) else 3)).float()[None, None]
    step = random.integer(3)
    if step == 0:  # without the outer CSF, its holes filled
        keep = 1 - F.max_pool3d(1 - F.max_pool3d(keep, 7, 1, 3), 7, 1, 3)
    elif step == 1:
        keep = F.max_pool3d(keep, 3, 1, 1)
    outside = keep[0, 0] == 0
    image[outside] = 0
    labels[outside] = 0


def deface(image: Tensor, labels: Tensor, random: Random) -> None:
    """Remove the face: all that is outside the brain beyond an oblique plane, in place."""
    x, y, z = (torch.linspace(-1, 1, n) for n in image.shape)
    plane = y[None, :, None] - random.uniform(0.2, 1.5) * z[None, None, :] + 0 * x[:, None, None]
    face = (plane > random.uniform(0.3, 0.8)) & (labels <= 1)
    image[face] = 0
    labels[face] = 0


def cut(image: Tensor, labels: Tensor, random: Random) -> None:
    """A field of view that ends within the head, in place."""
    axis, size = random.integer(3), random.integer(2)
    count = round(image.shape[axis] * random.uniform(0.02, 0.25))
    start = 0 if size == 0 else image.shape[axis] - count
    image.narrow(axis, start, count).zero_()
    labels.narrow(axis, start, count).zero_()


def blob(image: Tensor, labels: Tensor, spacing: float, random: Random) -> None:
    """A lesion with or without a bright rim in the brain, in place; its labels stay."""
    inside = torch.nonzero((labels >= 3).reshape(-1))
    if not len(inside):
        return
    middle = np.unravel_index(int(inside[random.integer(len(inside))]), tuple(image.shape))
    radius = random.uniform(4, 25) / spacing
    axes = [(torch.arange(n) - int(m)).float() for n, m in zip(image.shape, middle, strict=True)]
    distance = (axes[0][:, None, None] ** 2 + axes[1][:, None] ** 2 + axes[2] ** 2).sqrt()
    distance = distance * (1 + 0.2 * random.smooth(image.shape, 8)[0])
    region = (distance < radius) & (labels >= 2)
    image[region] = random.uniform(0.1, 1.3) + 0.1 * random.normal(int(region.sum()))
    rim = region & (distance > radius - random.uniform(1.5, 5) / spacing)
    if random.chance(0.5):
        image[rim] = random.uniform(0.8, 1.8)
