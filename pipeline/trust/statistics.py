"""Numbers in which scans of one domain differ little: of the placed image, and of the features."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from uncus.models.base import Classifier

Vector = NDArray[np.float32]

BLOCKS = 6
"""Blocks on each axis, over which the image is averaged."""
QUANTILES = np.linspace(0.05, 0.95, 10)
LAYERS, CHANNELS = 4, 32
"""Convolutions from the first to the last, of which the first sees what the image's statistics do,
and channels of each; both spread evenly."""


def image_statistics(array: NDArray[np.float32]) -> dict[str, Vector]:
    """Statistics of a placed scan.

    Parameters
    ----------
    array: [X, Y, Z], z-scores inside the brain, 0 outside.

    Returns
    -------
    "regions", float32 [B]: means of blocks of the grid. "brain", float32 [17]: deciles inside the
    brain, its share of the grid, and its centre and standard deviation along each axis as shares of
    the grid.
    """
    shape = np.array(array.shape)
    pooled = nn.functional.adaptive_avg_pool3d(
        torch.from_numpy(np.ascontiguousarray(array, np.float32))[None, None],
        np.minimum(shape, BLOCKS).tolist(),
    )
    inside = np.argwhere(array != 0) / shape
    deciles = np.quantile(array[array != 0], QUANTILES)
    brain = [*deciles, len(inside) / array.size, *inside.mean(0), *inside.std(0)]
    return {"regions": pooled.numpy().ravel(), "brain": np.array(brain, np.float32)}


def convolutions(network: Classifier) -> list[nn.Conv3d]:
    """The convolutions whose channels are measured."""
    every = [module for module in network.modules() if isinstance(module, nn.Conv3d)]
    return [every[place] for place in spread(len(every), LAYERS)][1:] or every


def feature_count(network: Classifier) -> int:
    """F, the number of statistics of a network's features."""
    return sum(2 * min(one.out_channels, CHANNELS) for one in convolutions(network))


@contextmanager
def watched(network: Classifier) -> Iterator[dict[int, Vector]]:
    """Collect layer -> float32 [2 C], of the first volume that ``network`` computes within.

    Means and log standard deviations of a convolution's channels over the volume, before the norm,
    which would take away what differs between scanners.
    """
    seen: dict[int, Vector] = {}

    def collect(layer: int) -> object:
        def hook(_: nn.Module, __: object, output: Tensor) -> None:
            if layer not in seen:
                channels = spread(output.shape[1], CHANNELS)
                std, mean = torch.std_mean(output[0, channels].float().flatten(1), 1, correction=0)
                seen[layer] = torch.cat([mean, (std + 1e-6).log()]).cpu().numpy()

        return hook

    handles = [
        convolution.register_forward_hook(collect(layer))  # type: ignore[arg-type]
        for layer, convolution in enumerate(convolutions(network))
    ]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def joined(seen: dict[int, Vector]) -> Vector:
    """The statistics of all layers as one vector, float32 [F]."""
    return np.concatenate([seen[layer] for layer in sorted(seen)])


@torch.inference_mode()
def feature_statistics(network: Classifier, volume: Tensor) -> Vector:
    """Statistics of the features of a ``volume`` [1, 1, X, Y, Z]: float32 [F], see `watched`."""
    with watched(network) as seen:
        network.features(volume)
    return joined(seen)


def spread(count: int, most: int) -> list[int]:
    """At most ``most`` of the numbers below ``count``, the first and the last among them."""
    places: list[int] = np.unique(np.linspace(0, count - 1, most).round().astype(int)).tolist()
    return places
