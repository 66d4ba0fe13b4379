"""GN+, with running statistics and as in its authors' code."""

import pytest
import torch
from torch import Tensor

from tests.models.norms.formulas import EPS, affine, standardize, trained
from uncus.models.norms.group_plus import GroupPlusNorm


def test_group_plus_norm_is_its_formula(x: Tensor) -> None:
    layer = trained(GroupPlusNorm(12, 4)).train()
    grouped = standardize(x.reshape(3, 4, -1), (2,)).reshape(x.shape)
    s = layer.mixing.sigmoid()
    expected = affine(layer, s * grouped + (1 - s) * standardize(grouped, (0, 2, 3, 4)))
    torch.testing.assert_close(layer(x), expected)
    mean = grouped.mean((0, 2, 3, 4))
    torch.testing.assert_close(layer.normalized_running_mean, 0.1 * mean)
    layer.eval()
    shape = (1, 12, 1, 1, 1)
    running = (grouped - layer.normalized_running_mean.view(shape)) / (
        layer.normalized_running_var.view(shape) + EPS
    ).sqrt()
    torch.testing.assert_close(layer(x), affine(layer, s * grouped + (1 - s) * running))


def test_group_plus_as_in_its_authors_code(x: Tensor) -> None:
    layer = trained(GroupPlusNorm(12, 4, literal=True))
    flat = x.reshape(3, 4, -1)
    grouped = ((flat - flat.mean(2, keepdim=True)) / (flat.std(2, keepdim=True) + EPS)).view_as(x)
    batched = (grouped - grouped.mean(0)) / (grouped.std(0) + EPS)
    s = layer.mixing.sigmoid()
    torch.testing.assert_close(layer(x), affine(layer, s * grouped + (1 - s) * batched))
    assert not any("running" in name for name in layer.state_dict())
    assert not torch.allclose(layer.eval()(x)[:2], layer(x[:2])), "it depends on the other samples"
    _, two = layer._authors(x[:2])
    torch.testing.assert_close(two.abs().median().item(), 2**-0.5, atol=1e-3, rtol=0)
    with pytest.raises(ValueError, match="undefined at batch 1"):
        layer(x[:1])
