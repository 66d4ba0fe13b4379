"""Weight standardization: convolutions whose filters have mean 0 and standard deviation 1."""

import torch
from torch import Tensor, nn

from uncus.models.norms.parts import wide


class StandardizedConv3d(nn.Conv3d):
    """A convolution with weight standardization, WS (Qiao 2019, arXiv 1903.10520).

    ``w_hat_o = (w_o - mean(w_o)) / (std(w_o) + 1e-5)`` for each output filter o, over its input
    channels and kernel, with the unbiased standard deviation as in the authors' code. ``weight``
    is w, with the same name and values as in a plain convolution, so weights are interchangeable.
    """

    def forward(self, input: Tensor) -> Tensor:
        output: Tensor = self._conv_forward(input, standardized(self.weight), self.bias)
        return output


def standardized(weight: Tensor) -> Tensor:
    """``weight [outputs, inputs, ...]`` with mean 0 and standard deviation 1 in each output."""
    values = wide(weight)
    std, mean = torch.std_mean(values, dim=tuple(range(1, weight.ndim)), keepdim=True)
    return ((values - mean) / (std + 1e-5)).to(weight.dtype)


def standardize_convolutions(network: nn.Module) -> nn.Module:
    """Standardize the weights of every 3D convolution that a norm follows, in place.

    Those are the convolutions without bias, which a norm would undo; those with a bias
    (squeeze-and-excitation) stay plain, as in the paper. Parameters keep their names and values.

    Raises
    ------
    ValueError: a filter of one weight, which has no standard deviation. Then nothing is changed.
    """
    convolutions = [
        (parent, name, layer)
        for parent in network.modules()
        for name, layer in parent.named_children()
        if type(layer) is nn.Conv3d and layer.bias is None
    ]
    for _, name, layer in convolutions:
        if layer.weight[0].numel() < 2:
            raise ValueError(
                f"weight standardization: the filters of {name} have one weight each, hence no "
                "standard deviation; use a larger kernel (--stem-kernel 3)"
            )
    for parent, name, layer in convolutions:
        setattr(parent, name, _replacement(layer))
    return network


def _replacement(layer: nn.Conv3d) -> StandardizedConv3d:
    """The same convolution, with the same parameters, standardized."""
    with torch.device("meta"):
        new = StandardizedConv3d(layer.in_channels, layer.out_channels, 1, bias=False)
    new.__dict__.update(layer.__dict__)
    return new
