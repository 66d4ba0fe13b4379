"""Batch-channel normalization: its formula."""

import torch
from torch import Tensor

from tests.models.norms.formulas import EPS, affine, standardize, trained
from uncus.models.norms.batch_channel import BatchChannelNorm


def test_batch_channel_norm_is_its_formula(x: Tensor) -> None:
    layer = trained(BatchChannelNorm(12, 4)).train()
    shape = (1, 12, 1, 1, 1)
    axes = (0, 2, 3, 4)
    mean = (0.1 * x.mean(axes)).view(shape)
    variance = (0.9 + 0.1 * (x**2).mean(axes)).view(shape)
    leaf = x.clone().requires_grad_()

    def formula(x: Tensor) -> Tensor:
        first = (x - mean) / (variance + EPS).sqrt()
        first = layer.batch_weight.view(shape) * first + layer.batch_bias.view(shape)
        grouped = standardize(first.reshape(3, 4, -1), (2,)).reshape(x.shape)
        return affine(layer, grouped)

    expected, got = formula(leaf), layer(leaf)
    torch.testing.assert_close(got, expected)
    weights = torch.randn_like(x)
    mine, theirs = (torch.autograd.grad((y * weights).sum(), leaf)[0] for y in (got, expected))
    torch.testing.assert_close(mine, theirs)
    torch.testing.assert_close(layer.running_mean.view(shape), mean)
    torch.testing.assert_close(layer.eval()(x), expected)
