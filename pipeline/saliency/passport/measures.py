"""What the passport measures on one scan, by a network that was not trained on its subject."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from uncus.models.base import Classifier
from uncus.models.build import ModelConfig
from uncus.pipeline.saliency.occlusion import BACKGROUND
from uncus.pipeline.saliency.passport import captum_metrics, removal
from uncus.pipeline.saliency.passport.lesions import localization
from uncus.pipeline.saliency.passport.randomization import cascade
from uncus.pipeline.saliency.passport.similarity import Map, similarity
from uncus.pipeline.saliency.registry import Saliency
from uncus.pipeline.saliency.score import Score
from uncus.pipeline.saliency.structure import lacks_structure

NOISE = 0.05
"""Standard deviation of the noise on a copy of a scan, in those of the brain."""


@dataclass(frozen=True)
class Case:
    """A scan to explain, and what its maps are compared with.

    Parameters
    ----------
    name: of the scan.
    volume: [1, 1, X, Y, Z], as the network takes it.
    network: not trained on the scan's subject.
    config: of the network.
    score: what is explained.
    other: another trained network of the run, if there is one.
    shuffled: a network trained on shuffled labels, if there is one.
    second: another scan of the subject on the same grid, [1, 1, X, Y, Z].
    lesion: where the disease is known to be, bool [X, Y, Z].
    seed: of all random numbers for this scan.
    """

    name: str
    volume: Tensor = field(repr=False)
    network: Classifier = field(repr=False)
    config: ModelConfig
    score: Score
    other: Classifier | None = field(default=None, repr=False)
    shuffled: Classifier | None = field(default=None, repr=False)
    second: Tensor | None = field(default=None, repr=False)
    lesion: NDArray[np.bool_] | None = field(default=None, repr=False)
    seed: int = 0

    @property
    def brain(self) -> NDArray[np.bool_]:
        """The voxels that are not background, [X, Y, Z]."""
        return in_brain(self.volume)


@dataclass(frozen=True)
class Effort:
    """How thoroughly each scan is measured.

    Parameters
    ----------
    methods: by name.
    stages: of the cascading randomization; 1 draws all layers anew at once.
    steps: shares of the brain that are removed one after another.
    orders: random orders that a map's order is compared with.
    captum: measure infidelity and sensitivity too.
    """

    methods: Mapping[str, Saliency]
    stages: int = 4
    steps: int = 10
    orders: int = 5
    captum: bool = False


def measure(case: Case, effort: Effort) -> dict[str, Any]:
    """All measures of one scan.

    Returns
    -------
    ``methods``: method -> its measures, ``structure`` False alone where its map has none.
    ``agreement``: "method|method" -> the similarity of their maps. ``random``: the curves of random
    orders.
    """
    labels = removal.cubes(case.brain)
    random = np.random.default_rng(case.seed)
    orders = [random.permutation(labels.max() + 1) for _ in range(effort.orders)]
    maps = {name: explain(method, case) for name, method in effort.methods.items()}
    known = {n: one for n, one in maps.items() if not lacks_structure(one, case.brain)}
    ordered = [removal.order(one, labels) for one in known.values()]
    found = removal.curves(
        case.network, case.volume, case.score, labels, [*ordered, *orders], effort.steps
    )
    measured: dict[str, Any] = {name: {"structure": name in known} for name in maps}
    for name, curve in zip(known, found, strict=False):
        measured[name] |= {"removal": {**curve.as_dict(), "gain": curve.gain}}
        measured[name] |= compared(case, effort, name, known[name])
        if effort.captum:
            method = effort.methods[name]
            measured[name]["captum"] = captum_metrics.captum_metrics(
                lambda volume, method=method: method(  # type: ignore[misc]
                    case.network,
                    volume,
                    case.score.class_index,
                    regression=case.score.regression,
                ),
                case.network,
                case.volume,
                case.score,
                labels,
                case.seed,
            )
    return {
        "methods": measured,
        "agreement": {
            f"{a}|{b}": similarity(known[a], known[b], case.brain)["spearman"]
            for a, b in itertools.combinations(known, 2)
        },
        "random": [{**c.as_dict(), "gain": c.gain} for c in found[len(known) :]],
    }


def compared(case: Case, effort: Effort, name: str, saliency: Map) -> dict[str, Any]:
    """A map's likeness to those of other networks, and where it lies."""
    method, brain = effort.methods[name], case.brain
    result: dict[str, Any] = {"cascade": []}
    untrained = saliency
    for share, network in cascade(case.network, case.config, case.seed, effort.stages):
        untrained = explain(method, case, network)
        result["cascade"].append({"share": share, **similarity(saliency, untrained, brain)})
    if case.other is not None:
        trained = explain(method, case, case.other)
    else:
        trained = explain(method, case, volume=noisy(case.volume, case.seed))
    result["trained"] = similarity(saliency, trained, brain)
    if case.shuffled is not None:
        result["shuffled"] = similarity(saliency, explain(method, case, case.shuffled), brain)
    if case.second is not None:
        again = explain(method, case, volume=case.second)
        both = brain & in_brain(case.second)
        result["second"] = similarity(saliency, again, both)
    if case.lesion is not None:
        result["lesion"] = localization(saliency, case.lesion, brain)
        result["lesion_untrained"] = localization(untrained, case.lesion, brain)
    return result


def explain(
    method: Saliency,
    case: Case,
    network: Classifier | None = None,
    volume: Tensor | None = None,
) -> Map:
    """The map [X, Y, Z] of the case by ``method``, for its own or another network or volume."""
    saliency = method(
        network or case.network,
        case.volume if volume is None else volume,
        case.score.class_index,
        regression=case.score.regression,
    )
    return saliency.cpu().numpy()


def in_brain(volume: Tensor) -> NDArray[np.bool_]:
    """The voxels [X, Y, Z] of a volume [1, 1, X, Y, Z] that are not background."""
    return np.asarray(volume[0, 0].cpu().numpy() != BACKGROUND)


def noisy(volume: Tensor, seed: int) -> Tensor:
    """A copy with noise of ``NOISE`` in the brain."""
    drawn = torch.randn(volume.shape, generator=torch.Generator().manual_seed(seed))
    return torch.where(volume != 0, volume + NOISE * drawn.to(volume.device), volume)
