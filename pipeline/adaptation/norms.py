"""Running statistics of norms, estimated anew on the scans of the new site."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from uncus.models.base import Classifier
from uncus.models.swap import find_norms
from uncus.pipeline.adaptation.site import Site
from uncus.pipeline.training.data_loading import EpochSampler, loader

PRIOR = 16
"""Scans that the old statistics count as."""
PASSES = 2
"""Over the scans, since batch-channel norm's statistics also decide what the next layer gets."""


def statistics(network: Classifier, site: Site) -> None:
    """Running statistics of the new site, mixed with the old ones as if these were of 16 scans.

    Adaptive batch normalization (Li 2016, arXiv 1603.04779), with the prior of Schneider 2020
    (arXiv 2006.16971) for few scans: ``(n new + 16 old) / (n + 16)``. Batches are of the size that
    the network was trained at, since the norms' statistics are those of such batches. Nothing
    changes in a network without running statistics.
    """
    layers: list[Any] = with_statistics(network)
    old = {name: value.clone() for layer in layers for name, value in running(network, layer)}
    size = min(site.batch_size, len(site.scans))
    order = EpochSampler(len(site.scans), site.seed)
    batches = loader(site.scans, size, drop_last=True, sampler=order)
    network.eval()
    for layer in layers:
        layer.train()
    momenta = [layer.momentum for layer in layers]
    with torch.no_grad():
        for _ in range(PASSES if layers else 0):
            for number, batch in enumerate(batches):
                for layer in layers:
                    layer.momentum = 1 / (number + 1)  # the mean of all batches so far
                network.features(batch["volume"])
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
    network.eval()
    share = len(site.scans) / (len(site.scans) + PRIOR)
    for layer in layers:
        for name, value in running(network, layer):
            value.copy_(torch.lerp(old[name], value, share))


def with_statistics(network: nn.Module) -> list[nn.Module]:
    """The norms of a network that keep running statistics."""
    return [layer for layer in find_norms(network).values() if any(True for _ in own(layer))]


def why_none(network: nn.Module) -> str:
    """Why there are no statistics to estimate; "" where there are."""
    if with_statistics(network):
        return ""
    kinds = sorted({type(layer).__name__ for layer in find_norms(network).values()})
    return (
        f"its norms ({', '.join(kinds)}) keep no running statistics: there is nothing to estimate"
    )


def running(network: nn.Module, layer: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """A name that is unique in the network, and the value, of each of a layer's statistics."""
    for name, value in own(layer):
        yield f"{id(layer)}.{name}", value


def own(layer: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """A layer's running means and variances, by name."""
    for name, value in layer.named_buffers(recurse=False):
        if name.endswith(("running_mean", "running_var")):
            yield name, value


def affine(network: nn.Module) -> list[nn.Parameter]:
    """The parameters of all norms."""
    return [one for layer in find_norms(network).values() for one in layer.parameters()]
