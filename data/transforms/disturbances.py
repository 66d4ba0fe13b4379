"""What scanners and placing do to a scan, at graded levels, applied to a prepared volume.

Each function takes a volume [1, 1, X, Y, Z] of a prepared cohort (z-scores inside the brain, 0
outside), a level above 0, a generator and the voxel size (mm), and returns a volume of the same
kind. The generator decides the direction (of a shift, which slices, where a bias field is bright):
generators of the same seed give one direction, and the level how far. After noise, bias field,
contrast and blur, intensities are normalized again as in preparation, so that only what preparation
cannot undo is left; after a shift, a rotation and missing slices they are not.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from uncus.data.noise import normal
from uncus.data.transforms.augmentation import (
    Pose,
    RandAffineBatch,
    RandBiasFieldBatch,
    changed,
)
from uncus.data.transforms.normalization import NormalizeBrain

Random = np.random.Generator
FWHM = 2 * np.sqrt(2 * np.log(2))
"""Full width at half maximum of a Gaussian, in its standard deviations."""


@dataclass(frozen=True)
class Disturbance:
    """An entry of ``DISTURBANCES``.

    Attributes
    ----------
    title, unit: of its levels, for people.
    levels: ascending, above 0.
    """

    title: str
    unit: str
    levels: tuple[float, ...]
    apply: Callable[[Tensor, float, Random, Sequence[float]], Tensor]

    def __call__(self, volume: Tensor, level: float, seed: int, spacing: Sequence[float]) -> Tensor:
        """The volume at a level, 0 for as it is, in the direction that ``seed`` gives."""
        if level == 0:
            return volume
        return self.apply(volume, level, np.random.default_rng(seed), spacing)


def noise(volume: Tensor, level: float, random: Random, spacing: Sequence[float]) -> Tensor:
    """Rician noise (Gudbjartsson & Patz 1995): of two normal parts with this SD each."""
    seeds = random.integers(2**31, size=2).tolist()
    real, imaginary = level * normal(seeds, volume.numel(), volume.device).view(2, *volume.shape)
    return normalized(torch.hypot(signal(volume) + real, imaginary), volume != 0)


def bias(volume: Tensor, level: float, random: Random, spacing: Sequence[float]) -> Tensor:
    """A smooth field that makes the brain brighter or darker by up to ``level`` percent."""
    field, inside = RandBiasFieldBatch(), volume != 0
    field.drawn = [tuple(random.uniform(-1, 1, 9).tolist())]
    shape = field.gain(volume).log()
    shape = shape - shape[inside].mean()
    most = float(shape[inside].abs().max())
    gain = (shape / max(most, 1e-6) * np.log1p(level / 100)).exp()
    return normalized(signal(volume) * gain, inside)


def contrast(volume: Tensor, level: float, random: Random, spacing: Sequence[float]) -> Tensor:
    """Intensities to the power 1 + ``level`` percent, or for half of the scans its inverse."""
    gamma, bright = 1 + level / 100, signal(volume)
    exponent = gamma if random.random() < 0.5 else 1 / gamma
    return normalized((bright / bright.max().clamp(min=1e-6)) ** exponent, volume != 0)


def blur(volume: Tensor, level: float, random: Random, spacing: Sequence[float]) -> Tensor:
    """Smoothed inside the brain by a Gaussian whose full width at half maximum is ``level`` mm."""
    from monai.networks.layers.simplelayers import GaussianFilter  # imports many networks

    smooth = GaussianFilter(3, [level / FWHM / size for size in spacing])
    inside = volume != 0
    share = smooth(inside.to(volume.dtype)).clamp(min=1e-6)
    return normalized(smooth(volume) / share, inside)


def shift(volume: Tensor, level: float, random: Random, spacing: Sequence[float]) -> Tensor:
    """Moved by ``level`` mm; interpolated once more."""
    return moved(volume, Pose(shift=direction(level, random)), spacing)


def rotation(volume: Tensor, level: float, random: Random, spacing: Sequence[float]) -> Tensor:
    """Turned about x, y and z, by ``level`` degrees together; interpolated once more."""
    return moved(volume, Pose(angles=direction(np.deg2rad(level), random)), spacing)


def slices(volume: Tensor, level: float, random: Random, spacing: Sequence[float]) -> Tensor:
    """``level`` percent of the axial slices of the brain, at least one, are missing."""
    there = (volume != 0).amax((0, 1, 2, 3)).nonzero()[:, 0]
    lost = random.permutation(len(there))[: int(np.ceil(len(there) * level / 100))]
    return volume.index_fill(4, there[torch.from_numpy(lost)], 0)


DISTURBANCES: Mapping[str, Disturbance] = {
    "noise": Disturbance("noise", "SD", (0.1, 0.2, 0.4, 0.8), noise),
    "bias": Disturbance("bias field", "%", (10, 20, 40, 80), bias),
    "contrast": Disturbance("contrast (gamma)", "%", (10, 20, 40, 80), contrast),
    "blur": Disturbance("blur", "mm", (2, 4, 8, 12), blur),
    "shift": Disturbance("shift", "mm", (1, 2, 4, 8), shift),
    "rotation": Disturbance("rotation", "degrees", (2, 4, 8, 16), rotation),
    "slices": Disturbance("missing slices", "%", (5, 10, 20, 40), slices),
}
"""Name -> a disturbance; an entry here is all that is needed to add one."""


def signal(volume: Tensor) -> Tensor:
    """Intensities from 0 on: above the darkest voxel of the brain, in SD."""
    inside = volume != 0
    return (volume - volume[inside].min()).masked_fill(~inside, 0)


def normalized(image: Tensor, inside: Tensor) -> Tensor:
    """As in preparation."""
    array = NormalizeBrain().normalize(image[0, 0].cpu().numpy(), inside[0, 0].cpu().numpy())
    return torch.from_numpy(array)[None, None].to(image.device)


def direction(length: float, random: Random) -> tuple[float, float, float]:
    """A vector of this length, each direction as likely."""
    x, y, z = random.standard_normal(3)
    factor = length / np.sqrt(x * x + y * y + z * z)
    return float(factor * x), float(factor * y), float(factor * z)


def moved(volume: Tensor, pose: Pose, spacing: Sequence[float]) -> Tensor:
    """Resampled."""
    affine = RandAffineBatch(spacing=spacing)
    affine.drawn = [pose]
    return changed([affine], volume)
