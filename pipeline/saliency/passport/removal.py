"""Deletion and insertion: does the score change most where a map says the evidence is?

After RISE (Petsiuk 2018, arXiv 1806.07421), by cubes rather than single voxels: networks react to
the speckle of single voxels whatever their place, so that random order would look too good.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from uncus.models.base import Classifier
from uncus.pipeline.saliency.occlusion import BACKGROUND, OCCLUSIONS, SMALLEST_BLOCK
from uncus.pipeline.saliency.score import Score, batch_size


@dataclass(frozen=True)
class Curves:
    """Scores as a map's cubes are removed or inserted, the largest first.

    Attributes
    ----------
    deletion: score with the first k of ``steps`` shares removed, k = 0 .. steps.
    insertion: score with only these left.
    """

    deletion: tuple[float, ...]
    insertion: tuple[float, ...]

    @property
    def gain(self) -> float:
        """Mean of the insertion curve minus that of the deletion curve, in units of the score."""
        return float(np.mean(self.insertion) - np.mean(self.deletion))

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"deletion": list(self.deletion), "insertion": list(self.insertion)}


def cubes(brain: NDArray[np.bool_], most: int = OCCLUSIONS) -> NDArray[np.int64]:
    """Label every voxel [X, Y, Z] with its cube, counted from 0; -1 outside the brain.

    The cubes do not overlap; they are the smallest of which at most ``most`` contain brain.
    """
    for edge in itertools.count(SMALLEST_BLOCK):
        index = np.stack([axis // edge for axis in np.indices(brain.shape)])
        flat = np.ravel_multi_index(tuple(index), tuple(int(n) + 1 for n in index.max((1, 2, 3))))
        known, labels = np.unique(flat[brain], return_inverse=True)
        if len(known) <= most:
            break
    found = np.full(brain.shape, -1)
    found[brain] = labels
    return found


def order(saliency: NDArray[Any], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """The cubes by their mean saliency, the largest first."""
    inside = labels >= 0
    sums = np.bincount(labels[inside], weights=saliency[inside])
    return np.argsort(-sums / np.bincount(labels[inside]), kind="stable")


@torch.no_grad()
def curves(
    network: Classifier,
    volume: Tensor,
    score: Score,
    labels: NDArray[np.int64],
    orders: Sequence[NDArray[np.int64]],
    steps: int,
) -> list[Curves]:
    """The curves of each of ``orders`` of the cubes, see :func:`order`.

    Parameters
    ----------
    volume: [1, 1, X, Y, Z]; what is removed becomes ``BACKGROUND``.
    """
    count = int(labels.max()) + 1
    shares = [round(count * k / steps) for k in range(1, steps)]
    states = [np.zeros(count, bool), np.ones(count, bool)]  # which cubes are removed
    for ranked in orders:
        for some in shares:
            removed = np.zeros(count, bool)
            removed[ranked[:some]] = True
            states += [removed, ~removed]
    place = torch.from_numpy(labels).to(volume.device)
    scores: list[float] = []
    size = batch_size(volume)
    for first in range(0, len(states), size):
        some_states = torch.from_numpy(np.stack(states[first : first + size])).to(volume.device)
        hidden = some_states[:, place.clamp(min=0)] & (place >= 0)
        scores += score(network(volume.masked_fill(hidden[:, None], BACKGROUND))).tolist()
    whole, nothing, *rest = scores
    each = 2 * len(shares)
    return [
        Curves(
            (whole, *rest[k * each : (k + 1) * each : 2], nothing),
            (nothing, *rest[k * each + 1 : (k + 1) * each : 2], whole),
        )
        for k in range(len(orders))
    ]
