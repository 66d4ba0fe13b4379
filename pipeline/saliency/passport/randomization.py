"""Cascading randomization: a network whose last layers are as they were before any training."""

import copy
import math
from collections.abc import Iterator

from uncus.models.base import Classifier
from uncus.models.build import ModelConfig, build_model


def cascade(
    network: Classifier, config: ModelConfig, seed: int, stages: int
) -> Iterator[tuple[float, Classifier]]:
    """Draw the layers anew from the head to the input (Adebayo 2018, arXiv 1810.03292).

    Parameters
    ----------
    config: of ``network``.
    seed: of the new weights.
    stages: with 1, all layers at once; with more, first the head, then equal shares of the rest.

    Yields
    ------
    the share of the layers drawn anew, the last one 1; and the network.
    """
    trained, fresh = network.state_dict(), build_model(config, seed=seed).state_dict()
    layers = list(dict.fromkeys(name.rpartition(".")[0] for name in trained))
    last_first = ["head", *(name for name in reversed(layers) if name != "head")]
    for stage in range(stages):
        share = 1.0 if stages == 1 else stage / (stages - 1)
        count = max(1, math.ceil(share * len(last_first)))
        anew = set(last_first[:count])
        randomized = copy.deepcopy(network)
        randomized.load_state_dict(
            {k: (fresh if k.rpartition(".")[0] in anew else trained)[k] for k in trained}
        )
        yield count / len(last_first), randomized
