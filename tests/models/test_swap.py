"""Swapping the norms of any network, with their learned parameters."""

from collections.abc import Callable
from copy import deepcopy
from functools import cache
from typing import Any

import pytest
import torch
from monai.networks import nets
from torch import Tensor, nn

from uncus.models.norms import NORMS, BatchNorm, GroupNorm, make_norm
from uncus.models.swap import ChannelsLast, check_norms, find_norms, is_norm, swap_norm

VOLUME = torch.randn(1, 1, 64, 32, 32, generator=torch.Generator().manual_seed(0))


OPTIONS: dict[str, Any] = {"spatial_dims": 3, "in_channels": 1}
MONAI: dict[str, Callable[[], nn.Module]] = {
    "resnet18": lambda: nets.resnet18(
        spatial_dims=3, n_input_channels=1, num_classes=2, norm=("group", {"num_groups": 4})
    ),
    "senet": lambda: nets.SENet(
        **OPTIONS, block="se_resnet_bottleneck", layers=(1, 1, 1, 1), groups=1, reduction=16
    ),
    "efficientnet-b0": lambda: nets.EfficientNetBN("efficientnet-b0", pretrained=False, **OPTIONS),
    "densenet": lambda: nets.DenseNet(**OPTIONS, out_channels=2, block_config=(2, 2)),
    "unet": lambda: nets.UNet(
        **OPTIONS, out_channels=2, channels=(8, 16), strides=(2,), norm="instance"
    ),
}


@cache
def built(name: str) -> nn.Module:
    return MONAI[name]()


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", MONAI)
def test_every_norm_of_monai_s_networks(name: str, norm: str) -> None:
    network = deepcopy(built(name))
    before = find_norms(network)
    if name == "resnet18":  # built with group norm, but it keeps 19 batch norms
        assert sum(isinstance(layer, nn.BatchNorm3d) for layer in before.values()) == 19
        with pytest.raises(ValueError, match=r"layers are not 'group' norm: .*BatchNorm3d"):
            check_norms(network, "group")
    assert swap_norm(network, norm, 4) is network
    after = find_norms(network)
    assert after.keys() == before.keys()
    assert {type(layer) for layer in after.values()} == {NORMS[norm].module}
    assert not [m for m in network.modules() if isinstance(m, nn.BatchNorm3d | nn.InstanceNorm3d)]
    check_norms(network, norm, 4)
    with torch.no_grad():
        assert network.eval()(VOLUME).isfinite().all()


def trained(layer: nn.Module) -> nn.Module:
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn(parameter.shape))
    return layer


@pytest.mark.parametrize(
    "layer",
    [
        nn.BatchNorm1d(8),
        nn.BatchNorm2d(8, eps=1e-3),
        nn.BatchNorm3d(8),
        nn.SyncBatchNorm(8),
        nn.InstanceNorm3d(8, affine=True),
        nn.GroupNorm(2, 8),
        GroupNorm(8, 8),
        BatchNorm(8),
    ],
    ids=lambda layer: type(layer).__module__.split(".")[0] + type(layer).__name__,
)
@pytest.mark.parametrize("norm", NORMS)
def test_gamma_beta_and_eps_are_kept(layer: nn.Module, norm: str) -> None:
    trained(layer)
    network = swap_norm(nn.Sequential(nn.Conv3d(1, 8, 1), layer), norm, 4)
    new = network[1]
    assert type(new) is NORMS[norm].module
    assert torch.equal(new.weight, layer.get_parameter("weight"))
    assert torch.equal(new.bias, layer.get_parameter("bias"))
    assert new.eps == layer.eps
    if norm == "group":
        assert new.num_groups == 4


def test_batch_norm_to_batch_norm_is_the_same_network() -> None:
    network = nn.Sequential(nn.Conv3d(1, 8, 3), nn.BatchNorm3d(8, momentum=0.3))
    network(VOLUME[..., :8])
    network.eval()
    expected = network(VOLUME)
    assert torch.equal(swap_norm(network, "batch")(VOLUME), expected)
    assert network[1].momentum == 0.3


def test_state_of_the_layer_is_kept() -> None:
    layer = nn.BatchNorm3d(8).double().eval()
    layer.weight.requires_grad_(False)
    new = swap_norm(nn.Sequential(layer), "group", 2)[0]
    assert new.weight.dtype == torch.float64
    assert not new.weight.requires_grad
    assert new.bias.requires_grad
    assert not new.training


def test_without_gamma_and_beta_they_start_at_1_and_0() -> None:
    new = swap_norm(nn.InstanceNorm3d(8), "group", 2)
    assert isinstance(new, GroupNorm)
    assert torch.equal(new.weight, torch.ones(8))
    assert torch.equal(new.bias, torch.zeros(8))


def test_a_layer_of_the_requested_kind_stays() -> None:
    layer = GroupNorm(4, 8)
    network = nn.Sequential(layer)
    assert swap_norm(network, "group", 4)[0] is layer
    assert swap_norm(network, "group", 2)[0] is not layer


def test_a_norm_used_twice_stays_one() -> None:
    shared = nn.BatchNorm3d(8)
    network = swap_norm(nn.Sequential(shared, nn.ReLU(), shared), "group", 2)
    assert network[0] is network[2]
    assert isinstance(network[0], GroupNorm)


def test_channels_last_norms_keep_their_axis() -> None:
    """torch's LayerNorm normalizes the last axis; group norm's channels are the second."""
    layer = trained(nn.LayerNorm(8))
    x = torch.randn(2, 5, 8)
    network = swap_norm(nn.Sequential(layer), "group", 2)
    assert isinstance(network[0], ChannelsLast)
    expected: Tensor = nn.functional.group_norm(
        x.movedim(-1, 1), 2, layer.weight, layer.bias
    ).movedim(1, -1)
    torch.testing.assert_close(network(x), expected)
    check_norms(network, "group", 2)
    swap_norm(network, "layer")
    check_norms(network, "layer")


def test_rejected_swaps_change_nothing() -> None:
    network = nn.Sequential(nn.BatchNorm3d(16), nn.BatchNorm3d(12))
    with pytest.raises(ValueError, match=r"groups=8 .* 12 channels of 1; .*network: 1, 2, 4$"):
        swap_norm(network, "group", 8)
    assert all(type(layer) is nn.BatchNorm3d for layer in network)
    with pytest.raises(ValueError, match="gamma for each voxel"):
        swap_norm(nn.Sequential(nn.LayerNorm((8, 4, 4, 4))), "group", 2)
    with pytest.raises(ValueError, match="unknown number of channels"):
        swap_norm(nn.Sequential(nn.LazyBatchNorm3d()), "group", 2)
    with pytest.raises(ValueError, match="did you mean 'group'"):
        swap_norm(network, "gruop")


def test_check_norms_counts_groups_and_unknown_norms() -> None:
    with pytest.raises(ValueError, match="with 2 groups"):
        check_norms(nn.Sequential(GroupNorm(2, 8)), "group", 4)

    class FancyNorm(nn.Module):
        """A norm of an unknown library."""

    assert is_norm(FancyNorm())
    with pytest.raises(ValueError, match=r"1 layers are not 'batch' norm: 0 \(FancyNorm\)"):
        check_norms(nn.Sequential(FancyNorm()), "batch")


def test_groups_of_efficientnet() -> None:
    """EfficientNet-b0 allows 8 groups, not 16; the message lists those that fit."""
    network = MONAI["efficientnet-b0"]()
    with pytest.raises(ValueError, match=r"numbers that fit the whole network: 1, 2, 4, 8$"):
        swap_norm(network, "group", 16)


def test_all_learned_parameters_are_kept_within_a_kind() -> None:
    for name in ("batch_group", "group_plus", "frn", "batch_channel"):
        layer = make_norm(name, 8, 2).train()
        layer(torch.randn(2, 8, 3, 3, 3))
        with torch.no_grad():
            for p in layer.parameters():
                p.normal_()
        other = make_norm(name, 8, 2)
        other.load_state_dict(layer.state_dict())
        x = torch.randn(2, 8, 3, 3, 3)
        assert torch.equal(other.eval()(x), layer.eval()(x))
        swapped = swap_norm(nn.Sequential(layer), name, 4)[0]
        for key, value in layer.state_dict().items():
            if not (name == "frn" and key == "threshold"):
                assert torch.equal(swapped.state_dict()[key], value), key
    batch = nn.BatchNorm3d(8)
    batch(torch.randn(2, 8, 3, 3, 3))
    moved = swap_norm(nn.Sequential(batch), "batch_channel", 2)[0]
    assert torch.equal(moved.running_mean, batch.running_mean)
