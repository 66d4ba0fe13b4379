"""Training augmentation of a whole batch, on the device of the batch.

Random parameters are drawn separately from applying them, from one generator per (seed, epoch,
scan), so that an interrupted run continues with the same volumes, on any device. MONAI's random
transforms draw and apply scan by scan, and interpolate once each.
"""

from collections.abc import Sequence
from functools import reduce
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from monai.transforms.compose import Compose
from monai.transforms.transform import RandomizableTransform
from torch import Tensor

from uncus.data.augment import Augment
from uncus.data.noise import normal, to_device

Batch = dict[str, Any]
Three = tuple[float, float, float]

ROUNDING = 1e-3
"""Largest rounding error of the background 0 in resampling, in standard deviations of the brain."""


def generator(seed: int, epoch: int, scan: int) -> np.random.Generator:
    """The random numbers of scan number ``scan`` in ``epoch`` of the training with ``seed``."""
    return np.random.default_rng((seed, epoch, scan))


class BatchTransform(RandomizableTransform):
    """A random change to the volumes of a batch.

    It takes a dictionary with ``volume``, [N, 1, X, Y, Z] with background 0, and ``scan``, [N]
    numbers of the scans, and returns it with other volumes of the same shape.

    Parameters
    ----------
    limit: the largest change, in the unit that each class names.
    seed: fixes the random numbers, together with the epoch and the scan.

    Attributes
    ----------
    drawn: parameters of each volume, from the last :meth:`randomize`.
    """

    def __init__(self, limit: float = 0.0, seed: int = 0) -> None:
        super().__init__(prob=1.0)
        self.limit, self.seed, self.epoch = limit, seed, 0
        self.drawn: list[Any] = []

    def set_epoch(self, epoch: int) -> None:
        """Draw other parameters than in other epochs."""
        self.epoch = epoch

    def set_random_state(
        self, seed: int | None = None, state: np.random.RandomState | None = None
    ) -> "BatchTransform":
        """Set the seed; see MONAI's Randomizable."""
        super().set_random_state(seed, state)
        self.seed = self.seed if seed is None else seed
        return self

    def draw(self, rng: np.random.Generator) -> Any:
        """Draw the parameters of one volume."""
        raise NotImplementedError

    def randomize(self, data: Batch) -> None:
        """Draw the parameters of all volumes of a batch."""
        self.drawn = [
            self.draw(generator(self.seed, self.epoch, scan)) for scan in data["scan"].tolist()
        ]

    @classmethod
    def apply(cls, transforms: Sequence[Any], volumes: Tensor) -> Tensor:
        """Apply transforms of one kind at once, as drawn; ``volumes`` may be changed."""
        raise NotImplementedError

    def __call__(self, data: Batch, randomize: bool = True) -> Batch:
        """The batch with changed volumes, its background 0."""
        if randomize:
            self.randomize(data)
        return {**data, "volume": changed([self], data["volume"])}


class SpatialTransform(BatchTransform):
    """A linear map; several are applied by a single interpolation.

    Parameters
    ----------
    spacing: voxel size in mm.
    """

    def __init__(
        self, limit: float = 0.0, spacing: Sequence[float] = (1.0, 1.0, 1.0), seed: int = 0
    ) -> None:
        super().__init__(limit, seed)
        self.spacing = tuple(spacing)

    def matrix(self, drawn: Any) -> np.ndarray:
        """float64 [4, 4] about the volume's center, in mm, from output to input."""
        raise NotImplementedError

    @classmethod
    def apply(cls, transforms: Sequence["SpatialTransform"], volumes: Tensor) -> Tensor:
        """Resample each volume by the product of its matrices, the first one innermost."""
        matrices = [
            reduce(lambda inner, outer: outer @ inner, of_one_volume)
            for of_one_volume in zip(
                *([t.matrix(drawn) for drawn in t.drawn] for t in transforms), strict=True
            )
        ]
        return resample(volumes, matrices, transforms[0].spacing)


class IntensityTransform(BatchTransform):
    """A gain and an offset; several are applied in a single pass, all gains before all offsets."""

    def gain(self, volumes: Tensor) -> Tensor | None:
        """The factor, to broadcast over ``volumes``; None for 1. It may be changed."""
        return None

    def offset(self, volumes: Tensor) -> Tensor | None:
        """The summand, to broadcast over ``volumes``; None for 0."""
        return None

    @classmethod
    def apply(cls, transforms: Sequence["IntensityTransform"], volumes: Tensor) -> Tensor:
        """Multiply by the product of the gains, then add the offsets."""
        gains = [gain for t in transforms if (gain := t.gain(volumes)) is not None]
        offsets = [offset for t in transforms if (offset := t.offset(volumes)) is not None]
        if gains:
            # The largest first, to take up the product.
            gains.sort(key=Tensor.numel, reverse=True)
            volumes.mul_(reduce(Tensor.mul_, gains))
        for offset in offsets:
            volumes.add_(offset)
        return volumes


class RandFlipBatch(SpatialTransform):
    """Flip left and right, ``limit`` being the probability."""

    def draw(self, rng: np.random.Generator) -> bool:
        """Whether to flip."""
        return bool(rng.random() < self.limit)

    def matrix(self, drawn: bool) -> np.ndarray:
        """A reflection."""
        from monai.transforms.utils import create_scale  # which imports scikit-image

        return np.asarray(create_scale(3, [-1.0 if drawn else 1.0, 1.0, 1.0]))


class Pose(NamedTuple):
    """A drawn rotation about x, y and z (radians), relative change of size, and shift (mm)."""

    angles: Three = (0.0, 0.0, 0.0)
    scales: Three = (0.0, 0.0, 0.0)
    shift: Three = (0.0, 0.0, 0.0)


class RandAffineBatch(SpatialTransform):
    """Rotate, scale and shift.

    Parameters
    ----------
    rotate, scale, translate: the most, in degrees, relative and in mm; each one number, or three
        for x, y and z.
    spacing: voxel size in mm.
    """

    def __init__(
        self,
        rotate: Sequence[float] = (0.0,),
        scale: Sequence[float] = (0.0,),
        translate: Sequence[float] = (0.0,),
        spacing: Sequence[float] = (1.0, 1.0, 1.0),
        seed: int = 0,
    ) -> None:
        super().__init__(spacing=spacing, seed=seed)
        self.limits = (np.deg2rad(rotate).tolist(), list(scale), list(translate))

    def draw(self, rng: np.random.Generator) -> Pose:
        """Uniformly within the limits."""
        return Pose(*(tuple((rng.uniform(-1, 1, 3) * np.asarray(m)).tolist()) for m in self.limits))

    def matrix(self, drawn: Pose) -> np.ndarray:
        """Rotation and scaling act in mm, so that anisotropic voxels are not sheared."""
        from monai.transforms.utils import create_rotate, create_scale, create_translate

        moved = create_translate(3, drawn.shift) @ create_rotate(3, drawn.angles)
        return np.asarray(moved @ create_scale(3, [1 + s for s in drawn.scales]))


class Contrast(NamedTuple):
    """A drawn factor and summand."""

    contrast: float = 1.0
    brightness: float = 0.0


class RandContrastBatch(IntensityTransform):
    """Change contrast (relative) and brightness (in standard deviations) by at most ``limit``."""

    def draw(self, rng: np.random.Generator) -> Contrast:
        """Uniformly within the limits."""
        contrast = 1 + float(rng.uniform(-self.limit, self.limit))
        return Contrast(contrast, float(rng.uniform(-self.limit, self.limit)))

    def gain(self, volumes: Tensor) -> Tensor:
        """[N, 1, 1, 1, 1]."""
        return columns(volumes, [(d.contrast,) for d in self.drawn])[0]

    def offset(self, volumes: Tensor) -> Tensor:
        """[N, 1, 1, 1, 1]."""
        return columns(volumes, [(d.brightness,) for d in self.drawn])[0]


class RandBiasFieldBatch(IntensityTransform):
    """Multiply by the exponential of a polynomial of degree 2 in coordinates from -1 to 1.

    Its nine coefficients are at most ``limit``.
    """

    def draw(self, rng: np.random.Generator) -> tuple[float, ...]:
        """Coefficients of x, y, z, x^2, y^2, z^2, xy, xz, yz."""
        return tuple(rng.uniform(-self.limit, self.limit, 9).tolist())

    def gain(self, volumes: Tensor) -> Tensor:
        """[N, 1, X, Y, Z]."""
        x, y, z = coordinates(volumes)
        cx, cy, cz, cxx, cyy, czz, cxy, cxz, cyz = columns(volumes, self.drawn)
        # Terms that are constant along z are computed in the plane.
        plane = (cx + cxx * x + cxy * y) * x + (cy + cyy * y) * y
        slope = cz + cxz * x + cyz * y
        return (plane + czz * z * z).addcmul_(slope, z).exp_()


class Noise(NamedTuple):
    """A drawn standard deviation, and the seed of the noise."""

    std: float = 0.0
    seed: int = 0


class RandNoiseBatch(BatchTransform):
    """Add normal noise with a standard deviation of at most ``limit``."""

    def draw(self, rng: np.random.Generator) -> Noise:
        """A standard deviation, uniformly within the limit, and a seed."""
        return Noise(float(rng.uniform(0, self.limit)), int(rng.integers(2**31)))

    @classmethod
    def apply(cls, transforms: Sequence["RandNoiseBatch"], volumes: Tensor) -> Tensor:
        """Add the noise."""
        for drawn in (t.drawn for t in transforms):
            if any(one.std > 0 for one in drawn):
                noise = normal([one.seed for one in drawn], volumes[0].numel(), volumes.device)
                (std,) = columns(volumes, [(one.std,) for one in drawn])
                volumes.add_(noise.view(volumes.shape).mul_(std))
        return volumes


class Augmentation(Compose):
    """MONAI's Compose of batch transforms, with one generator a scan and one interpolation.

    Parameters
    ----------
    transforms: spatial ones first.
    seed: fixes the random numbers, together with the epoch and the scan.
    """

    def __init__(self, transforms: Sequence[BatchTransform], seed: int = 0) -> None:
        super().__init__(transforms)
        self.seed, self.epoch = seed, 0

    @classmethod
    def of(cls, ranges: Augment, spacing: Sequence[float], seed: int) -> "Augmentation":
        """The augmentation within ``ranges`` of volumes with ``spacing`` (mm)."""
        return cls(
            [
                RandFlipBatch(ranges.flip, spacing),
                RandAffineBatch(ranges.rotate, ranges.scale, ranges.translate, spacing),
                RandContrastBatch(ranges.intensity),
                RandBiasFieldBatch(ranges.bias),
                RandNoiseBatch(ranges.noise),
            ],
            seed,
        )

    def set_epoch(self, epoch: int) -> None:
        """Draw other parameters than in other epochs."""
        self.epoch = epoch

    def randomize(self, data: Any = None) -> None:
        """Draw the parameters of all transforms for all volumes of a batch."""
        generators = [generator(self.seed, self.epoch, scan) for scan in data["scan"].tolist()]
        for transform in self.transforms:
            transform.drawn = [transform.draw(rng) for rng in generators]

    def __call__(self, data: Batch, randomize: bool = True) -> Batch:  # type: ignore[override]
        """The batch with changed volumes; see :class:`BatchTransform`."""
        if randomize:
            self.randomize(data)
        return {**data, "volume": changed(self.transforms, data["volume"])}


def changed(transforms: Sequence[BatchTransform], volumes: Tensor) -> Tensor:
    """``volumes`` [N, 1, X, Y, Z] changed by ``transforms`` as drawn, their background 0.

    Consecutive transforms of one kind are applied together.
    """
    background = None
    for kind, group in groupby(transforms, kind_of):
        members: list[Any] = list(group)
        if kind is SpatialTransform:
            volumes = kind.apply(members, volumes)
            # Next to the brain, resampling leaves rounding errors where there is background.
            background = volumes.abs() <= ROUNDING
        else:
            if background is None:
                volumes, background = volumes.clone(), volumes == 0
            volumes = kind.apply(members, volumes)
    return volumes if background is None else volumes.masked_fill_(background, 0)


def kind_of(transform: BatchTransform) -> Any:
    """The class of transforms that ``transform`` is applied together with."""
    kinds = (SpatialTransform, IntensityTransform)
    return next((kind for kind in kinds if isinstance(transform, kind)), type(transform))


def resample(volumes: Tensor, matrices: Sequence[np.ndarray], spacing: Sequence[float]) -> Tensor:
    """Resample each volume [N, 1, X, Y, Z] by its matrix, with background 0 outside.

    ``matrices``: [4, 4] each, about the volume's center, in mm, from output to input.
    """
    from monai.networks.utils import to_norm_affine

    size = volumes.shape[2:]
    center, to_mm = np.eye(4), np.diag([*spacing, 1.0])
    center[:3, 3] = (np.asarray(size) - 1) / 2
    in_voxels = [np.linalg.inv(to_mm) @ np.asarray(m, np.float64) @ to_mm for m in matrices]
    affines = np.stack([center @ one @ np.linalg.inv(center) for one in in_voxels])
    # On the CPU: many tiny operations, each a kernel launch on a GPU.
    between_corners = to_norm_affine(torch.from_numpy(affines), size, size, align_corners=True)
    reverse = [2, 1, 0, 3]  # grid_sample orders a point's coordinates from the last axis
    theta = to_device(between_corners[:, reverse][:, :3].to(volumes.dtype), volumes.device)
    x, y, z, shift = theta[..., None, None, None].unbind(2)
    along_x, along_y, along_z = coordinates(volumes)
    grid = (x * along_x + y * along_y) + (z * along_z + shift)  # [N, 3, X, Y, Z]
    return F.grid_sample(volumes, grid.movedim(1, -1), padding_mode="zeros", align_corners=True)


def coordinates(volumes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Coordinates from -1 to 1 along each axis, as [X, 1, 1], [1, Y, 1] and [1, 1, Z]."""
    x, y, z = (
        torch.linspace(-1, 1, n, device=volumes.device, dtype=volumes.dtype)
        for n in volumes.shape[2:]
    )
    return x[:, None, None], y[None, :, None], z[None, None, :]


def columns(volumes: Tensor, rows: Sequence[Sequence[float]]) -> tuple[Tensor, ...]:
    """The columns of ``rows`` (one row per volume), shaped to broadcast over the volumes."""
    values = to_device(torch.tensor(rows, dtype=volumes.dtype), volumes.device)
    return values.view(len(rows), -1, 1, 1, 1, 1).unbind(1)
