"""Infidelity and sensitivity (Yeh 2019, arXiv 1901.09392) by captum, where it is installed."""

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from uncus.models.base import Classifier
from uncus.pipeline.saliency.score import Score, batch_size, frozen

NOISE = 0.02
"""Largest change of a voxel, in standard deviations of the brain, that maps should withstand."""
CHANGES, COPIES = 20, 2


def available() -> bool:
    """Whether captum is installed."""
    return find_spec("captum") is not None


def captum_metrics(
    explain: Callable[[Tensor], Tensor],
    network: Classifier,
    volume: Tensor,
    score: Score,
    labels: NDArray[np.int64],
    seed: int,
) -> dict[str, float]:
    """Infidelity and sensitivity of a method for one volume [1, 1, X, Y, Z].

    Parameters
    ----------
    explain: volume -> map [X, Y, Z].
    labels: the volume's cubes, see :func:`uncus.pipeline.saliency.passport.removal.cubes`.

    Returns
    -------
    ``infidelity``: mean squared difference between the score's change and the one that the map
    foretells, when random halves of the cubes are removed, the map scaled as fits best;
    ``infidelity_shuffled``: the same with the map's cubes in random order. ``sensitivity``: largest
    change of the map, as a share of its norm, by noise of up to ``NOISE``.
    """
    from captum.metrics import infidelity, sensitivity_max

    count = int(labels.max()) + 1
    place = torch.from_numpy(labels).to(volume.device)

    def perturb(inputs: Tensor) -> tuple[Tensor, Tensor]:
        removed = torch.rand(len(inputs), count).to(volume.device) < 0.5
        hidden = (removed[:, place.clamp(min=0)] & (place >= 0))[:, None]
        return inputs * hidden, inputs.masked_fill(hidden, 0.0)

    def infidelity_of(saliency: Tensor) -> float:
        torch.manual_seed(seed)
        found: Any = infidelity(
            lambda x: score(network(x)),
            perturb,
            volume,
            saliency[None, None],
            n_perturb_samples=CHANGES,
            max_examples_per_batch=batch_size(volume),
            normalize=True,
        )
        return float(found[0])

    with torch.random.fork_rng(), frozen(network), torch.no_grad():
        saliency = explain(volume)
        torch.manual_seed(seed)
        means = torch.zeros(count).to(saliency)
        inside = place >= 0
        means = means.scatter_reduce(0, place[inside], saliency[inside], "mean", include_self=False)
        shuffled = torch.where(inside, means[torch.randperm(count)][place.clamp(min=0)], 0.0)
        whole = torch.where(inside, means[place.clamp(min=0)], 0.0)
        change: Any = sensitivity_max(
            lambda inputs: torch.stack([explain(one[None])[None] for one in inputs[0]]),
            volume,
            perturb_radius=NOISE,
            n_perturb_samples=COPIES,
            max_examples_per_batch=1,
        )
        return {
            "infidelity": infidelity_of(whole),
            "infidelity_shuffled": infidelity_of(shuffled),
            "sensitivity": float(change[0]),
        }
