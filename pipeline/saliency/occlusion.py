"""Occlusion: what the score loses when a part of the volume is set to background.

Not MONAI's OcclusionSensitivity, whose boxes cover the background too, at a fixed size,
however many forward passes that takes.
"""

import itertools
import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from uncus.models.base import Classifier
from uncus.pipeline.saliency.score import Score, batch_size, frozen

BACKGROUND = 0.0
"""Value of a placed volume outside the brain, and its mean inside."""
OCCLUSIONS = 400
"""Most forward passes for one occlusion map."""
SMALLEST_BLOCK = 4
"""Voxels along an edge; smaller blocks hardly change the score."""

Block = tuple[slice, slice, slice]


def occlusion(
    model: Classifier,
    volume: Tensor,
    score: Score,
    feature_map: Tensor | None = None,
    *,
    most: int = OCCLUSIONS,
) -> Tensor:
    """Occlusion (Zeiler & Fergus 2014, arXiv 1311.2901): what the score loses.

    One cube of the volume after another is set to 0, the mean of the brain; a voxel's value is the
    mean of ``S(x) - S(x without the cube)`` over the cubes that contain it. Cubes overlap by half,
    and are the smallest for which at most ``most`` contain any brain.
    """
    shape = tuple(volume.shape[2:])
    blocks = choose_blocks(volume[0, 0] != BACKGROUND, most)
    masks = (block_mask(block, shape, volume.device) for block in blocks)
    total, times = torch.zeros(shape).to(volume), torch.zeros(shape).to(volume)
    for block, drop in zip(blocks, score_drops(model, volume, score, masks), strict=True):
        total[block] += drop
        times[block] += 1
    return total / times.clamp(min=1)


def occlude_regions(
    model: Classifier,
    volume: Tensor,
    class_index: int,
    regions: Tensor,
    *,
    regression: bool = False,
) -> tuple[Tensor, dict[int, float]]:
    """Occlusion of anatomical regions instead of cubes.

    Parameters
    ----------
    regions: integer labels ``[X, Y, Z]`` on the volume's grid; 0 is background.

    Returns
    -------
    Map ``[X, Y, Z]`` of each voxel's region's loss of score, and label -> that loss.

    Raises
    ------
    ValueError: regions on a different grid.
    """
    if regions.shape != volume.shape[2:]:
        raise ValueError(
            f"regions of shape {list(regions.shape)} for a volume of {list(volume.shape[2:])}; "
            "resample them onto the volume's grid"
        )
    labels = [int(label) for label in np.unique(regions.cpu().numpy()) if label != 0]
    regions = regions.to(volume.device)
    masks = (regions == label for label in labels)
    with frozen(model):
        drops = score_drops(model, volume.detach(), Score(class_index, regression), masks)
        lost = dict(zip(labels, (float(drop) for drop in drops), strict=True))
    saliency = torch.zeros(regions.shape).to(volume)
    for label, drop in lost.items():
        saliency[regions == label] = drop
    return saliency, lost


def choose_blocks(brain: Tensor, most: int) -> list[Block]:
    """The smallest cubes, overlapping by half, of which at most ``most`` contain brain.

    Parameters
    ----------
    brain: bool ``[X, Y, Z]``.
    """
    if not bool(brain.any()):
        raise ValueError("the volume is 0 everywhere, so there is no brain to occlude")
    # Brain voxels before each corner: the sum over a block is a difference of 8 of them.
    before = torch.nn.functional.pad(brain.cpu().long(), (1, 0, 1, 0, 1, 0))
    for axis in range(3):
        before = before.cumsum(axis)
    for edge in itertools.count(SMALLEST_BLOCK, 2):
        ends = [block_ends(size, edge) for size in brain.shape]
        inside = before
        for axis, (start, stop) in enumerate(ends):
            inside = inside.index_select(axis, stop) - inside.index_select(axis, start)
        chosen = inside.nonzero().tolist()
        if len(chosen) <= most:
            break
    return [
        tuple(slice(int(ends[a][0][i]), int(ends[a][1][i])) for a, i in enumerate(index))  # type: ignore[misc]
        for index in chosen
    ]


def block_ends(size: int, edge: int) -> tuple[Tensor, Tensor]:
    """Start and stop of blocks half an edge apart that cover an axis of ``size`` voxels."""
    step = edge // 2
    start = torch.arange(0, max(1, math.ceil((size - edge) / step) * step + 1), step)
    return start, (start + edge).clamp(max=size)


def block_mask(block: Block, shape: tuple[int, ...], device: torch.device) -> Tensor:
    """bool ``[X, Y, Z]``, True in the block."""
    mask = torch.zeros(shape, dtype=torch.bool, device=device)
    mask[block] = True
    return mask


@torch.no_grad()
def score_drops(
    model: Classifier, volume: Tensor, score: Score, masks: Iterator[Tensor]
) -> list[float]:
    """``S(x) - S(x with the mask set to background)`` for each mask ``[X, Y, Z]``, in batches."""
    whole = float(score(model(volume))[0])
    drops: list[float] = []
    while batch := list(itertools.islice(masks, batch_size(volume))):
        hidden = torch.stack(batch)[:, None]
        left = score(model(volume.masked_fill(hidden, BACKGROUND)))
        drops.extend((whole - left).tolist())
    return drops
