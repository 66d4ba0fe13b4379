"""Synthetic T1-weighted heads from label maps, to train the segmentation network on.

As SynthSeg does (Billot et al. 2023, doi:10.1016/j.media.2023.102789): a label map is deformed,
each label gets a random intensity, and blur, noise, a bias field and the faults of real scans are
added. Other than there, most images have intensities like a T1-weighted scan's, and atrophy is
drawn too.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.nn import functional as F

from uncus.data.segmentation.intensity import normalized
from uncus.data.segmentation.labels import BRAIN, FREESURFER, MIRRORED

COARSE = 4  # mm, the grid of the fields of atrophy
LIMIT = 8.0  # largest sum of the displacements of atrophy, mm
# FreeSurfer numbers of the structures that atrophy changes, and the largest displacements in mm of
# their borders: shrinking and growing. CSF also stands for the sulci, at the cost of the cortex.
ATROPHY: tuple[tuple[tuple[int, ...], float, float], ...] = (
    ((4, 5, 43, 44), 1.5, 5.0),
    ((17,), 2.0, 0.5),
    ((53,), 2.0, 0.5),
    ((18, 54), 1.0, 0.5),
    ((24,), 0.7, 1.2),
)
# Intensities of a T1-weighted scan, white matter = 1, by FreeSurfer number.
T1_WEIGHTED = {
    0: 0.01, 2: 1.0, 3: 0.72, 4: 0.25, 5: 0.3, 7: 0.98, 8: 0.72, 10: 0.88, 11: 0.78, 12: 0.83,
    13: 0.93, 14: 0.27, 15: 0.3, 16: 0.92, 17: 0.74, 18: 0.73, 24: 0.27, 25: 0.75, 26: 0.76,
    28: 0.9, 30: 0.4, 72: 0.3, 85: 0.85, 136: 0.45, 137: 0.5, 502: 0.7, 506: 0.25, 507: 0.6,
    508: 0.6, 509: 0.7, 511: 0.8, 512: 0.85, 514: 0.5, 515: 0.12, 516: 0.9, 530: 0.85,
}  # fmt: skip
# The right side's numbers -> the left side's: both sides get the same intensity.
LEFT = {41: 2, 42: 3, 43: 4, 44: 5, 46: 7, 47: 8, 49: 10, 50: 11, 51: 12, 52: 13, 53: 17, 54: 18,
        57: 25, 58: 26, 60: 28, 62: 30, 163: 136, 164: 137}  # fmt: skip
NUMBERS = tuple(T1_WEIGHTED) + tuple(LEFT)
FAT = 507


@dataclass(frozen=True, eq=False)
class LabelMap:
    """A label map of a whole head.

    Parameters
    ----------
    index: uint8 [X, Y, Z], RAS+, the position of each voxel's number in ``NUMBERS``.
    spacing: mm.
    center: float32 [3], of the brain, in voxels.
    atrophy: float32 [len(ATROPHY), 3, x, y, z], unit displacements in voxels on a grid of
        ``COARSE`` mm: towards the structure, so that sampling along it makes the structure grow.
    """

    index: Tensor
    spacing: float
    center: Tensor
    atrophy: Tensor

    @classmethod
    def load(cls, path: Path) -> "LabelMap":
        """Read a label map with FreeSurfer numbers and cubic voxels."""
        image = nib.funcs.as_closest_canonical(nib.load(path))
        array = np.asarray(image.dataobj)
        spacing = float(image.header.get_zooms()[0])
        positions = np.zeros(int(max(array.max(), *NUMBERS)) + 1, np.uint8)
        positions[list(NUMBERS)] = np.arange(len(NUMBERS))
        brain = np.isin(array, [number for number in NUMBERS if FREESURFER[number][0] in BRAIN])
        center = np.array(ndimage.center_of_mass(brain), np.float32)
        factor = round(COARSE / spacing)
        fields = [_towards(np.isin(array, numbers), factor, spacing) for numbers, _, _ in ATROPHY]
        return cls(
            torch.from_numpy(np.ascontiguousarray(positions[array])),
            spacing,
            torch.from_numpy(center),
            torch.from_numpy(np.stack(fields)),
        )


def _towards(structure: NDArray[np.bool_], factor: int, spacing: float) -> NDArray[np.float32]:
    """Directions [3, x, y, z] towards a structure, at most 1 long, on a grid ``factor`` coarser."""
    shape = tuple(size // factor for size in structure.shape)
    blocks = structure[tuple(slice(size * factor) for size in shape)].astype(np.float32)
    for axis in range(3):
        blocks = np.add.reduceat(blocks, np.arange(0, blocks.shape[axis], factor), axis)
    smooth = ndimage.gaussian_filter(blocks / np.float32(factor**3), 1.5)
    field = np.stack(np.gradient(smooth)).astype(np.float32)
    return field / max(float(np.linalg.norm(field, axis=0).max()), 1e-6)


@dataclass(frozen=True)
class SyntheticHeads:
    """Images and labels drawn from label maps, each a function of ``seed`` and its index.

    Parameters
    ----------
    maps: the label maps.
    spacing: of the images, mm.
    shapes: of the images, one of which is drawn.
    seed: of the random numbers.
    """

    maps: Sequence[LabelMap]
    spacing: float
    shapes: Sequence[tuple[int, int, int]]
    seed: int

    def __call__(self, index: int) -> tuple[Tensor, Tensor]:
        """Image float32 [1, X, Y, Z] and labels int64 [X, Y, Z], RAS+."""
        random = Random(self.seed, index)
        subject = self.maps[random.integer(len(self.maps))]
        shape = self.shapes[random.integer(len(self.shapes))]
        mirrored = random.chance(0.5)
        at = coordinates(subject, shape, self.spacing, mirrored, random)
        size = torch.tensor(subject.index.shape)[:, None, None, None]
        nearest = at.round().to(torch.int64)
        inside = ((nearest >= 0) & (nearest < size)).all(0)
        nearest = nearest.clamp_(min=torch.zeros_like(size), max=size - 1)
        flat = (nearest[0] * size[1] + nearest[1]) * size[2] + nearest[2]
        numbers = subject.index.reshape(-1)[flat].to(torch.int64)
        numbers.masked_fill_(~inside, NUMBERS.index(0))
        labels = TARGETS[numbers]
        if mirrored:
            labels = MIRROR[labels]
        image = random_intensities(numbers, random)
        image = scanner(image, labels, self.spacing, random)
        return image[None], labels


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


TARGETS = torch.tensor([FREESURFER[number][0] for number in NUMBERS])
MIRROR = torch.tensor(MIRRORED)


def random_affine(random: Random) -> Tensor:
    """A random rotation (at most 25 degrees about each axis), scaling and shear [3, 3]."""
    strength = random.uniform(0, 1)
    angles = [strength * random.uniform(-0.44, 0.44) for _ in range(3)]
    matrix = torch.eye(3)
    for axis, angle in enumerate(angles):
        turn = torch.eye(3)
        a, b = (axis + 1) % 3, (axis + 2) % 3
        turn[a, a] = turn[b, b] = float(np.cos(angle))
        turn[a, b], turn[b, a] = -float(np.sin(angle)), float(np.sin(angle))
        matrix = matrix @ turn
    size = random.uniform(0.85, 1.15)
    scales = torch.tensor([size * random.uniform(0.92, 1.08) for _ in range(3)])
    shear = torch.eye(3) + 0.03 * random.normal(3, 3).clamp_(-2, 2).fill_diagonal_(0)
    return matrix @ shear @ torch.diag(1 / scales)


def coordinates(
    subject: LabelMap, shape: Sequence[int], spacing: float, mirrored: bool, random: Random
) -> Tensor:
    """Where each voxel of the image lies in the label map, in its voxels: float32 [3, X, Y, Z]."""
    half = [size // 2 for size in shape]
    axes = [torch.linspace(-0.5, 0.5, n) * (size - 1) for n, size in zip(half, shape, strict=True)]
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij")) * spacing  # mm from the middle
    if mirrored:
        grid[0].neg_()
    room = torch.tensor(shape) * spacing - torch.tensor([150.0, 180.0, 140.0])
    shift = random.normal(3) * 8 + (torch.rand(3, generator=random.torch) - 0.5) * room.clamp_(0)
    matrix = random_affine(random)
    at = torch.einsum("ij,j...->i...", matrix, grid + shift[:, None, None, None])
    at += random.smooth(half, 5, 3) * random.uniform(0, 3.0)
    at += random.smooth(half, 12, 3) * random.uniform(0, 1.2)
    at = at / subject.spacing + subject.center[:, None, None, None]
    size = torch.tensor(subject.index.shape)[:, None, None, None]
    where = (2 * at / (size - 1) - 1).flip(0).movedim(0, -1)[None]
    amounts = torch.tensor([random.uniform(-shrink, grow) for _, shrink, grow in ATROPHY])
    if random.chance(0.4):
        amounts *= 0.3
    field = torch.einsum("k,k...->...", amounts, subject.atrophy)[None]
    moved = F.grid_sample(field, where, align_corners=True)[0]
    at += moved.clamp_(-LIMIT, LIMIT) / subject.spacing
    return resized(at[None], shape)[0]


def random_intensities(numbers: Tensor, random: Random) -> Tensor:
    """An image [X, Y, Z] of labels given as positions in ``NUMBERS``; white matter is about 1."""
    count = len(NUMBERS)
    base = torch.tensor([T1_WEIGHTED[LEFT.get(number, number)] for number in NUMBERS])
    left = torch.tensor([NUMBERS.index(LEFT.get(number, number)) for number in NUMBERS])
    brain = TARGETS >= 2
    if random.chance(0.8):
        contrast = random.uniform(0.45, 1.6)  # of gray and white matter
        fluid = base < 0.5
        means = torch.where(fluid, base, 1 - contrast * (1 - base))
        means = torch.where(fluid & brain, base * random.uniform(0.2, 1.8), means)
        means = means + 0.035 * random.normal(count)
        outside = base * (0.3 + 1.4 * torch.rand(count, generator=random.torch))
        means = torch.where(brain, means, outside)
    else:
        means = torch.rand(count, generator=random.torch) * 1.2
    means = means[left].clamp_(0)
    means[NUMBERS.index(0)] = random.uniform(0, 0.06) if random.chance(0.9) else 0.0
    spread = random.uniform(0.01, 0.05) + 0.15 * (~brain) * torch.rand(
        count, generator=random.torch
    )
    spread[NUMBERS.index(0)] = 0.01
    shape = numbers.shape
    texture = random.smooth(shape, 24)[0] * 0.7 + random.normal(*shape) * 0.7
    image = means[numbers] + spread[numbers] * texture
    # Fat and muscle have one number.
    soft = numbers == NUMBERS.index(FAT)
    patches = random.smooth(shape, 20)[0] > random.uniform(-0.8, 0.8)
    image[soft & patches] *= random.uniform(1.2, 3.0)
    return image


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
