"""Formulas of normalization layers, and layers with parameters as if trained."""

import torch
from torch import Tensor, nn

EPS = 1e-5


def standardize(x: Tensor, axes: tuple[int, ...]) -> Tensor:
    mean = x.mean(axes, keepdim=True)
    return (x - mean) / (((x - mean) ** 2).mean(axes, keepdim=True) + EPS).sqrt()


def trained(layer: nn.Module) -> nn.Module:
    """Set gammas and betas other than 1 and 0."""
    with torch.no_grad():
        for name, p in layer.double().named_parameters():
            p.copy_(torch.linspace(-1, 2, p.numel()) + (name == "bias"))
    return layer


def affine(layer: nn.Module, x: Tensor) -> Tensor:
    weight, bias = (layer.get_parameter(n).view(1, -1, 1, 1, 1) for n in ("weight", "bias"))
    return weight * x + bias
