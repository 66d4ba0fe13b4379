"""One network's answer for one volume, whatever computes its feature maps.

Not a MONAI inferer: those return the output alone, and Grad-CAM is computed from the feature map.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from uncus.models.base import Classifier

Trunk = Callable[[Tensor], Tensor]
"""Volumes [N, 1, X, Y, Z] -> feature maps [N, C, x, y, z], without a gradient."""


def torch_trunk(network: Classifier) -> Trunk:
    """Compute the network's features one volume at a time: an answer never depends on its batch."""

    @torch.inference_mode()
    def features(volumes: Tensor) -> Tensor:
        return torch.cat([network.features(volume[None]) for volume in volumes])

    return features


def views(volume: Tensor, flip: bool) -> Tensor:
    """``volume`` [1, 1, X, Y, Z], with ``flip`` also its left-right mirror image: [N, ...]."""
    return torch.cat([volume, volume.flip(2)]) if flip else volume


def predict(
    model: Classifier,
    volume: Tensor,
    flip: bool,
    covariates: Tensor | None = None,
    trunk: Trunk | None = None,
) -> tuple[Tensor, Tensor]:
    """Logits or standardized values [1, K] of ``volume`` [1, 1, X, Y, Z], float32; its feature map.

    Parameters
    ----------
    flip: average the outputs for the volume and its left-right mirror image.
    covariates: of the subject [1, P], NaN where unknown.
    trunk: computes the feature maps; by default torch does.
    """
    maps = (trunk or torch_trunk(model))(views(volume, flip))
    return answer(model, maps, covariates), maps[:1]


def answer(model: Classifier, maps: Tensor, covariates: Tensor | None = None) -> Tensor:
    """[1, K] of the feature maps [N, C, x, y, z] of a volume's `views`; see `predict`."""
    outputs = torch.cat([model.classify(one[None]).float() for one in maps])
    return model.adjust(outputs.mean(0, keepdim=True), covariates)
