"""Feature maps of one scan, computed once for all networks that differ only in what follows."""

from typing import NamedTuple

import torch
from torch import Tensor

from uncus.models.base import Classifier
from uncus.models.build import ModelConfig
from uncus.models.inference import Trunk
from uncus.pipeline.trust.statistics import Vector, joined, watched


class Features(NamedTuple):
    """What a trunk computes of a scan, and of its mirror image where that is averaged.

    Parameters
    ----------
    network: one that the trunk belongs to.
    config: its architecture.
    maps: [N, C, x, y, z], the feature maps of N volumes.
    statistics: float32 [F], of the first volume's features, see `watched`.
    """

    network: Classifier
    config: ModelConfig
    maps: Tensor
    statistics: Vector


class SharedFeatures:
    """The features of one scan by all trunks so far."""

    def __init__(self) -> None:
        self.known: list[Features] = []

    def of(
        self, network: Classifier, config: ModelConfig, trunk: Trunk, volumes: Tensor
    ) -> Features:
        """The features of ``volumes`` [N, 1, X, Y, Z], the same in each call."""
        for one in self.known:
            alike = one.config.trunk == config.trunk and len(one.maps) == len(volumes)
            if alike and same_trunk(one.network, network):
                return one
        with watched(network) as seen:
            maps = trunk(volumes)
            if not seen:  # another engine computed the feature map
                network.features(volumes[:1])
        self.known.append(Features(network, config, maps, joined(seen)))
        return self.known[-1]


def same_trunk(one: Classifier, other: Classifier) -> bool:
    """Whether two networks of one architecture have equal weights before the head."""
    weights, others = (
        {
            name: value
            for name, value in network.state_dict().items()
            if name.partition(".")[0] not in {"head", "covariates"}
        }
        for network in (one, other)
    )
    return weights.keys() == others.keys() and all(
        torch.equal(value, others[name]) for name, value in weights.items()
    )
