"""Training augmentation, applied to a whole batch on the device of the batch.

Random parameters are drawn separately from applying them, from one generator per (seed, epoch,
scan), so that an interrupted run continues with the same volumes, on any device.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
import torch.nn.functional as F
from monai.networks.utils import to_norm_affine
from monai.transforms.utils import create_rotate, create_scale, create_translate

from uncus.data.noise import normal, to_device

ROUNDING = 1e-3
"""Largest rounding error of the background 0 in resampling, in standard deviations of the brain."""


@dataclass(frozen=True)
class Augment:
    """Ranges of the random changes to training volumes, each symmetric and drawn uniformly.

    Ranges along or about the axes are one number, or three for x, y and z: a thin slab is best not
    rotated out of its plane.
    """

    flip: float = 0.5
    """Probability of a left-right flip."""
    rotate: tuple[float, ...] = (5.0,)
    """Largest rotation about each axis, in degrees; one number, or three for x, y and z."""
    scale: tuple[float, ...] = (0.05,)
    """Largest relative change of size along each axis; one number or three."""
    translate: tuple[float, ...] = (3.0,)
    """Largest shift along each axis, in mm; one number or three."""
    intensity: float = 0.1
    """Largest change of contrast (relative) and brightness (in standard deviations)."""
    bias: float = 0.1
    """Largest coefficient of a smooth multiplicative bias field (second-order polynomial)."""
    noise: float = 0.05
    """Largest standard deviation of added noise, in standard deviations of the brain."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            values = value if isinstance(value, tuple) else (value,)
            if isinstance(value, tuple) and len(value) not in (1, 3):
                raise ValueError(
                    f"augmentation {field.name}: {len(value)} numbers; "
                    "give one for all axes, or three for x, y and z"
                )
            if not all(0 <= v < 90 and (v <= 1 or field.name not in SHARES) for v in values):
                limit = "at most 1" if field.name in SHARES else "below 90"
                raise ValueError(
                    f"augmentation {field.name}={value}: must be 0 (off) or positive, {limit}"
                )


SHARES = frozenset({"flip", "scale", "intensity"})
"""At most 1, so that sizes and contrasts stay positive."""


@dataclass(frozen=True)
class Draw:
    """The parameters of one volume's augmentation."""

    flip: bool
    angles: tuple[float, float, float]
    """Radians about x, y, z."""
    scales: tuple[float, float, float]
    shift: tuple[float, float, float]
    """mm along x, y, z."""
    contrast: float
    brightness: float
    bias: tuple[float, ...]
    """Coefficients of the nine monomials of degree 1 and 2."""
    noise: float
    noise_seed: int


def draw(augment: Augment, seed: int, epoch: int, scan: int) -> Draw:
    """Draw the parameters for scan number ``scan`` in ``epoch`` of the run with ``seed``."""
    rng = np.random.default_rng((seed, epoch, scan))

    def three(limits: Sequence[float]) -> tuple[float, float, float]:
        x, y, z = (rng.uniform(-1, 1, 3) * np.asarray(limits)).tolist()
        return x, y, z

    return Draw(
        flip=bool(rng.random() < augment.flip),
        angles=three(np.deg2rad(augment.rotate).tolist()),
        scales=three(augment.scale),
        shift=three(augment.translate),
        contrast=1 + float(rng.uniform(-augment.intensity, augment.intensity)),
        brightness=float(rng.uniform(-augment.intensity, augment.intensity)),
        bias=tuple(rng.uniform(-augment.bias, augment.bias, 9).tolist()),
        noise=float(rng.uniform(0, augment.noise)),
        noise_seed=int(rng.integers(2**31)),
    )


def voxel_affine(one: Draw, spacing: Sequence[float]) -> np.ndarray:
    """The affine [4, 4] from output to input voxels, about the volume's center.

    Rotation and scaling act in mm, so that anisotropic voxels are not sheared.
    """
    to_mm = np.diag([*spacing, 1.0])
    flip = create_scale(3, [-1.0 if one.flip else 1.0, 1.0, 1.0])
    moves = (
        create_translate(3, one.shift)
        @ create_rotate(3, one.angles)
        @ create_scale(3, [1 + s for s in one.scales])
        @ flip
    )
    return np.linalg.inv(to_mm) @ np.asarray(moves, dtype=np.float64) @ to_mm


def apply(volumes: torch.Tensor, draws: Sequence[Draw], spacing: Sequence[float]) -> torch.Tensor:
    """Augment ``volumes`` [N, 1, X, Y, Z] (background 0, ``spacing`` in mm) to the same shape."""
    changed = resample(volumes, draws, spacing)
    # Next to the brain, resampling leaves rounding errors where there is background.
    background = changed.abs() <= ROUNDING
    contrast, brightness, noise = columns(
        volumes, [(d.contrast, d.brightness, d.noise) for d in draws]
    )
    changed.mul_(bias_fields(volumes, draws).mul_(contrast)).add_(brightness)
    if any(d.noise > 0 for d in draws):
        drawn = normal([d.noise_seed for d in draws], volumes[0].numel(), volumes.device)
        changed.add_(drawn.view(volumes.shape).mul_(noise))
    return changed.masked_fill_(background, 0)


def resample(
    volumes: torch.Tensor, draws: Sequence[Draw], spacing: Sequence[float]
) -> torch.Tensor:
    """Resample each volume by its affine, with background 0 outside."""
    size = volumes.shape[2:]
    center = np.eye(4)
    center[:3, 3] = (np.asarray(size) - 1) / 2
    affines = np.stack([center @ voxel_affine(d, spacing) @ np.linalg.inv(center) for d in draws])
    # On the CPU: many tiny operations, each a kernel launch on a GPU.
    between_corners = to_norm_affine(torch.from_numpy(affines), size, size, align_corners=True)
    reverse = [2, 1, 0, 3]  # grid_sample orders a point's coordinates from the last axis
    theta = to_device(between_corners[:, reverse][:, :3].to(volumes.dtype), volumes.device)
    x, y, z, shift = theta[..., None, None, None].unbind(2)
    along_x, along_y, along_z = coordinates(volumes)
    grid = (x * along_x + y * along_y) + (z * along_z + shift)  # [N, 3, X, Y, Z]
    return F.grid_sample(volumes, grid.movedim(1, -1), padding_mode="zeros", align_corners=True)


def bias_fields(volumes: torch.Tensor, draws: Sequence[Draw]) -> torch.Tensor:
    """Bias fields [N, 1, X, Y, Z]: exp of a polynomial of degree 2 in coordinates -1 to 1."""
    x, y, z = coordinates(volumes)
    cx, cy, cz, cxx, cyy, czz, cxy, cxz, cyz = columns(volumes, [d.bias for d in draws])
    # Terms that are constant along z are computed in the plane.
    plane = (cx + cxx * x + cxy * y) * x + (cy + cyy * y) * y
    slope = cz + cxz * x + cyz * y
    return (plane + czz * z * z).addcmul_(slope, z).exp_()


def coordinates(volumes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Coordinates from -1 to 1 along each axis, as [X, 1, 1], [1, Y, 1] and [1, 1, Z]."""
    x, y, z = (
        torch.linspace(-1, 1, n, device=volumes.device, dtype=volumes.dtype)
        for n in volumes.shape[2:]
    )
    return x[:, None, None], y[None, :, None], z[None, None, :]


def columns(volumes: torch.Tensor, rows: Sequence[Sequence[float]]) -> tuple[torch.Tensor, ...]:
    """The columns of ``rows`` (one row per volume), shaped to broadcast over the volumes."""
    values = to_device(torch.tensor(rows, dtype=volumes.dtype), volumes.device)
    return values.view(len(rows), -1, 1, 1, 1, 1).unbind(1)
