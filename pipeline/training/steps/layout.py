"""The memory layout that a network is trained in."""

import torch
from torch import nn


def gains_from_channels_last(model: nn.Module, precision: str, on_gpu: bool) -> bool:
    """Whether convolutions of ``model`` are faster with the channels last.

    Tensor cores read them so, in half precision (bf16 from compute capability 8.0 on) and in
    multiples of 8 channels; otherwise cuDNN reorders each tensor. The channel of the volumes does
    not matter.
    """
    if not on_gpu or precision != "bf16-mixed" or torch.cuda.get_device_capability() < (8, 0):
        return False
    layers = [layer for layer in model.modules() if isinstance(layer, nn.Conv3d)]
    channels = {n for layer in layers for n in (layer.in_channels, layer.out_channels)} - {1}
    return all(n % 8 == 0 for n in channels) and all(layer.groups == 1 for layer in layers)
