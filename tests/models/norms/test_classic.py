"""Group, layer, instance and batch norm against their formulas and torch's layers."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.models.norms.formulas import EPS, affine, standardize, trained
from uncus.models.norms import BatchNorm, GroupNorm, InstanceNorm, LayerNorm, make_norm


@pytest.mark.parametrize("groups", [1, 2, 3, 4, 6, 12])
def test_group_norm_is_its_formula_and_torch_s(groups: int, x: Tensor) -> None:
    layer = trained(make_norm("group", 12, groups))
    grouped = x.reshape(3, groups, 12 // groups, 4, 3, 5)
    expected = affine(layer, standardize(grouped, (2, 3, 4, 5)).reshape(x.shape))
    torch.testing.assert_close(layer(x), expected)
    torch.testing.assert_close(layer(x), F.group_norm(x, groups, layer.weight, layer.bias, EPS))


def test_layer_norm_is_group_norm_with_one_group(x: Tensor) -> None:
    layer = trained(LayerNorm(12))
    torch.testing.assert_close(layer(x), affine(layer, standardize(x, (1, 2, 3, 4))))
    torch.testing.assert_close(layer(x), trained(GroupNorm(1, 12))(x))
    plain = F.layer_norm(x, x.shape[1:], eps=EPS)
    torch.testing.assert_close(LayerNorm(12).double()(x), plain)


def test_instance_norm_is_group_norm_with_one_channel_per_group(x: Tensor) -> None:
    layer = trained(InstanceNorm(12))
    torch.testing.assert_close(layer(x), affine(layer, standardize(x, (2, 3, 4))))
    torch.testing.assert_close(layer(x), trained(GroupNorm(12, 12))(x))
    theirs = trained(nn.InstanceNorm3d(12, affine=True))
    torch.testing.assert_close(layer(x), theirs(x))


def test_batch_norm_in_training_and_with_running_statistics(x: Tensor) -> None:
    layer = trained(BatchNorm(12)).train()
    torch.testing.assert_close(layer(x), affine(layer, standardize(x, (0, 2, 3, 4))))
    mean, variance = x.mean((0, 2, 3, 4)), x.var((0, 2, 3, 4), unbiased=True)
    torch.testing.assert_close(layer.running_mean, 0.1 * mean)
    torch.testing.assert_close(layer.running_var, 0.9 + 0.1 * variance)
    layer.eval()
    shape = (1, 12, 1, 1, 1)
    running = (x - 0.1 * mean.view(shape)) / (0.9 + 0.1 * variance.view(shape) + EPS).sqrt()
    torch.testing.assert_close(layer(x), affine(layer, running))


@pytest.mark.parametrize("axes", [0, 1, 2, 3])
@pytest.mark.parametrize("name", ["group", "batch", "layer"])
def test_any_number_of_axes(name: str, axes: int) -> None:
    shape = (4, 8, *(3, 4, 5)[:axes])
    assert make_norm(name, 8, 2)(torch.randn(shape)).shape == shape


ONE_VOXEL = torch.ones(1, 8, 1, 1, 1)


def test_group_norm_rejects_one_value_per_group_which_torch_erases() -> None:
    assert nn.GroupNorm(8, 8)(torch.randn(2, 8, 1, 1, 1)).abs().max() < 0.01
    for mode in (True, False):
        with pytest.raises(ValueError, match=r"one value per group.*fewer groups"):
            make_norm("group", 8, 8).train(mode)(ONE_VOXEL)
    assert make_norm("group", 8, 4)(torch.randn(1, 8, 1, 1, 1)).any()
    assert make_norm("group", 8, 8)(torch.randn(1, 8, 2, 1, 1)).any()


def test_instance_norm_rejects_one_voxel() -> None:
    for mode in (True, False):
        with pytest.raises(ValueError, match=r"one voxel per channel.*--norm group"):
            make_norm("instance", 8).train(mode)(ONE_VOXEL)


def test_batch_norm_rejects_one_value_per_channel_in_training_only() -> None:
    layer = make_norm("batch", 8)
    with pytest.raises(ValueError, match=r"batch 1 and 1x1x1 voxels.*--norm group"):
        layer(ONE_VOXEL)
    assert layer(torch.randn(2, 8, 1, 1, 1)).any()
    assert layer.eval()(ONE_VOXEL).any()
