"""The norms against their formulas in float64 and against torch; what they refuse."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from uncus.models.norms.registry import (
    BatchNorm,
    GroupNorm,
    InstanceNorm,
    LayerNorm,
    divisors,
    make_norm,
)

EPS = 1e-5


@pytest.fixture
def x() -> Tensor:
    random = torch.Generator().manual_seed(0)
    return 2 + 3 * torch.randn(3, 12, 4, 3, 5, dtype=torch.float64, generator=random)


def trained(layer: nn.Module) -> nn.Module:
    """gamma and beta that are not 1 and 0."""
    with torch.no_grad():
        layer.get_parameter("weight").copy_(torch.linspace(-1, 2, 12))
        layer.get_parameter("bias").copy_(torch.linspace(3, -1, 12))
    return layer.double()


def affine(layer: nn.Module, x: Tensor) -> Tensor:
    shape = (1, 12, 1, 1, 1)
    return layer.get_parameter("weight").view(shape) * x + layer.get_parameter("bias").view(shape)


def standardize(x: Tensor, axes: tuple[int, ...]) -> Tensor:
    mean = x.mean(axes, keepdim=True)
    variance = ((x - mean) ** 2).mean(axes, keepdim=True)
    return (x - mean) / (variance + EPS).sqrt()


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


def test_instance_norm_is_group_norm_with_a_group_a_channel(x: Tensor) -> None:
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


def test_group_norm_refuses_one_value_a_group_where_torch_erases_it() -> None:
    assert nn.GroupNorm(8, 8)(torch.randn(2, 8, 1, 1, 1)).abs().max() < 0.01
    for mode in (True, False):
        with pytest.raises(ValueError, match=r"one value a group.*fewer groups"):
            make_norm("group", 8, 8).train(mode)(ONE_VOXEL)
    assert make_norm("group", 8, 4)(torch.randn(1, 8, 1, 1, 1)).any()
    assert make_norm("group", 8, 8)(torch.randn(1, 8, 2, 1, 1)).any()


def test_instance_norm_refuses_one_voxel() -> None:
    for mode in (True, False):
        with pytest.raises(ValueError, match=r"one voxel a channel.*--norm group"):
            make_norm("instance", 8).train(mode)(ONE_VOXEL)


def test_batch_norm_refuses_one_value_a_channel_in_training_only() -> None:
    layer = make_norm("batch", 8)
    with pytest.raises(ValueError, match=r"batch 1 and 1x1x1 voxels.*--norm group"):
        layer(ONE_VOXEL)
    assert layer(torch.randn(2, 8, 1, 1, 1)).any()
    assert layer.eval()(ONE_VOXEL).any()


def test_unknown_norm_names_the_nearest() -> None:
    with pytest.raises(ValueError, match="'instnace'; did you mean 'instance'"):
        make_norm("instnace", 8)
    with pytest.raises(ValueError, match="there are group, batch"):
        make_norm("zzz", 8)


@pytest.mark.parametrize(
    ("groups", "message"), [(5, "fit the whole network: 1, 2, 3, 4, 6, 12"), (0, "1 or more")]
)
def test_groups_that_do_not_fit(groups: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_norm("group", 12, groups)


def test_divisors() -> None:
    assert divisors([16, 24, 40]) == [1, 2, 4, 8]
    assert divisors([7, 9]) == [1]
    assert divisors([math.factorial(5)])[-1] == 120
