"""Where the voxels of an image lie in a label map: turned, warped and with atrophy."""

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from uncus.data.segmentation.synthesis.label_map import ATROPHY, LabelMap
from uncus.data.segmentation.synthesis.random_numbers import Random, resized

LIMIT = 8.0  # largest sum of the displacements of atrophy, mm


@dataclass(frozen=True)
class View:
    """What of a label map an image shows.

    Parameters
    ----------
    center: float32 [3], voxel of the label map that the image has in its middle.
    shift: float32 [3], mm by which it misses it.
    shape, spacing: of the image; mm.
    mirrored: left and right exchanged.
    angle: largest rotation about each axis, radians.
    warps: points along each axis of a smooth warp, and its largest standard deviation, mm.
    axes: float32 [3, 3], directions of the image's axes and what 1 mm of it is in the label map.
    """

    center: Tensor
    shift: Tensor
    shape: tuple[int, int, int]
    spacing: float
    mirrored: bool
    angle: float = 0.44
    warps: tuple[tuple[int, float], ...] = ((5, 3.0), (12, 1.2))
    axes: Tensor = field(default_factory=lambda: torch.eye(3))

    def coordinates(self, subject: LabelMap, random: Random) -> Tensor:
        """Where each voxel lies in the label map, in its voxels: float32 [3, X, Y, Z]."""
        half = [n // 2 for n in self.shape]
        ends = [(size - 1) / 2 for size in self.shape]
        axes = [torch.linspace(-end, end, n) for n, end in zip(half, ends, strict=True)]
        grid = torch.stack(torch.meshgrid(*axes, indexing="ij")) * self.spacing
        if self.mirrored:
            grid[0].neg_()
        matrix = self.axes @ random_affine(self.angle, random)
        at = torch.einsum("ij,j...->i...", matrix, grid + self.shift[:, None, None, None])
        for points, deviation in self.warps:
            at += random.smooth(half, points, 3) * random.uniform(0, deviation)
        at = at / subject.spacing + self.center[:, None, None, None]
        size = torch.tensor(subject.index.shape)[:, None, None, None]
        where = (2 * at / (size - 1) - 1).flip(0).movedim(0, -1)[None]
        amounts = torch.tensor([random.uniform(-shrink, grow) for _, shrink, grow in ATROPHY])
        if random.chance(0.4):
            amounts *= 0.3
        towards = torch.einsum("k,k...->...", amounts, subject.atrophy)[None]
        moved = F.grid_sample(towards, where, align_corners=True)[0]
        at += moved.clamp_(-LIMIT, LIMIT) / subject.spacing
        return resized(at[None], self.shape)[0]


def random_affine(angle: float, random: Random) -> Tensor:
    """A random rotation (at most ``angle`` about each axis), scaling and shear [3, 3]."""
    strength = random.uniform(0, 1)
    angles = [strength * random.uniform(-angle, angle) for _ in range(3)]
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
