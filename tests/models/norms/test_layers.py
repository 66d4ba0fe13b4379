"""The papers' newer norms against their formulas in float64, and their limits."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from uncus.models.build import ModelConfig, build_model
from uncus.models.norms.batch_channel import BatchChannelNorm
from uncus.models.norms.batch_group import BatchGroupNorm, groups_for_batch
from uncus.models.norms.filter_response import FilterResponseNorm
from uncus.models.norms.group_plus import GroupPlusNorm
from uncus.models.norms.positional import PositionalNorm, position_moments
from uncus.models.norms.registry import make_norm
from uncus.models.norms.thresholds import ThresholdedBefore
from uncus.models.swap import swap_norm
from uncus.models.weight_standardization import StandardizedConv3d, standardized

EPS = 1e-5


@pytest.fixture
def x() -> Tensor:
    random = torch.Generator().manual_seed(0)
    return 2 + 3 * torch.randn(3, 12, 4, 3, 5, dtype=torch.float64, generator=random)


def standardize(x: Tensor, axes: tuple[int, ...]) -> Tensor:
    mean = x.mean(axes, keepdim=True)
    return (x - mean) / (((x - mean) ** 2).mean(axes, keepdim=True) + EPS).sqrt()


def trained(layer: nn.Module) -> nn.Module:
    with torch.no_grad():
        for name, p in layer.double().named_parameters():
            p.copy_(torch.linspace(-1, 2, p.numel()) + (name == "bias"))
    return layer


def affine(layer: nn.Module, x: Tensor) -> Tensor:
    weight, bias = (layer.get_parameter(n).view(1, -1, 1, 1, 1) for n in ("weight", "bias"))
    return weight * x + bias


def test_positional_norm_is_its_formula_and_layer_norm_of_the_channels(x: Tensor) -> None:
    layer = trained(PositionalNorm(12))
    torch.testing.assert_close(layer(x), affine(layer, standardize(x, (1,))))
    theirs = F.layer_norm(x.movedim(1, -1), (12,), layer.weight, layer.bias).movedim(-1, 1)
    torch.testing.assert_close(layer(x), theirs)
    with pytest.raises(ValueError, match="1 channel would erase it"):
        PositionalNorm(1)


def test_the_moment_shortcut_gives_the_moments_back(x: Tensor) -> None:
    layer = PositionalNorm(12).double()
    torch.testing.assert_close(layer(x, position_moments(x)), x)


def test_a_block_with_moment_shortcut_starts_as_its_shortcut_and_uses_the_moments() -> None:
    for depth in (18, 50):
        config = ModelConfig(f"resnet{depth}", "positional", width=4, moment_shortcut=True)
        block = build_model(config, seed=0).layer2[1]
        x = torch.rand(1, 8 * block.expansion, 4, 4, 4)
        torch.testing.assert_close(block(x), x)
        last = block.norm3 if depth == 50 else block.norm2
        nn.init.ones_(last.weight)
        with_moments = block(x)
        block.moment_shortcut = False
        assert not torch.allclose(block(x), with_moments)


@pytest.mark.parametrize("groups", [1, 4, 12, 24])
def test_batch_group_norm_is_its_formula(groups: int, x: Tensor) -> None:
    layer = trained(BatchGroupNorm(12, groups)).train()
    x = x[..., :4]
    flat = x.reshape(3, groups, -1)
    torch.testing.assert_close(layer(x), affine(layer, standardize(flat, (0, 2)).reshape(x.shape)))
    mean, variance = flat.mean((0, 2)), flat.transpose(0, 1).reshape(groups, -1).var(1)
    times = max(12, groups) // groups
    torch.testing.assert_close(layer.group_running_mean, 0.1 * mean.repeat_interleave(times))
    running = 0.9 + 0.1 * variance.repeat_interleave(times)
    torch.testing.assert_close(layer.group_running_var, running)
    layer.eval()
    kept = (x.reshape(3, max(12, groups), -1) - layer.group_running_mean[:, None]) / (
        running[:, None] + EPS
    ).sqrt()
    torch.testing.assert_close(layer(x), affine(layer, kept.reshape(x.shape)))


def test_batch_group_norm_s_limits(x: Tensor) -> None:
    batch, limit = nn.BatchNorm3d(12).double(), BatchGroupNorm(12, 12).double()
    torch.testing.assert_close(limit(x), batch(x))
    torch.testing.assert_close(limit.eval()(x), batch.eval()(x))
    one = x[:1]
    torch.testing.assert_close(BatchGroupNorm(12, 4).double()(one), F.group_norm(one, 4))
    torch.testing.assert_close(BatchGroupNorm(12).double()(one), F.layer_norm(one, one.shape[1:]))


def test_batch_group_norm_chooses_groups_by_the_batch() -> None:
    batches = (1, 2, 4, 8, 16, 32, 64, 128, 200)
    chosen = [groups_for_batch(batch, 1024) for batch in batches]
    assert chosen == [1, 1, 2, 16, 64, 128, 256, 512, 512]
    assert groups_for_batch(8, 24) == 12
    with pytest.raises(ValueError, match="one value a group"):
        BatchGroupNorm(8, 8)(torch.ones(1, 8, 1, 1, 1))
    with pytest.raises(ValueError, match="nor is a multiple"):
        BatchGroupNorm(12, 8)
    with pytest.raises(ValueError, match="do not divide 4 channels"):
        BatchGroupNorm(4, 8)(torch.ones(1, 4, 3, 3, 3))


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


def test_group_plus_in_its_authors_form_and_what_it_breaks(x: Tensor) -> None:
    layer = trained(GroupPlusNorm(12, 4, literal=True))
    flat = x.reshape(3, 4, -1)
    grouped = ((flat - flat.mean(2, keepdim=True)) / (flat.std(2, keepdim=True) + EPS)).view_as(x)
    batched = (grouped - grouped.mean(0)) / (grouped.std(0) + EPS)
    s = layer.mixing.sigmoid()
    torch.testing.assert_close(layer(x), affine(layer, s * grouped + (1 - s) * batched))
    assert not any("running" in name for name in layer.state_dict())
    assert not torch.allclose(layer.eval()(x)[:2], layer(x[:2])), "it depends on batch-mates"
    _, two = layer._literally(x[:2])
    torch.testing.assert_close(two.abs().median().item(), 2**-0.5, atol=1e-3, rtol=0)
    with pytest.raises(ValueError, match="at batch 1 is not a number"):
        layer(x[:1])


def test_filter_response_norm_is_its_formula(x: Tensor) -> None:
    layer = trained(FilterResponseNorm(12, 1e-6))
    power = (x**2).mean((2, 3, 4), keepdim=True)
    y = affine(layer, x / (power + 1e-6 + layer.learned_eps.abs()).sqrt())
    torch.testing.assert_close(layer(x), torch.maximum(y, layer.threshold.view(1, -1, 1, 1, 1)))


def test_filter_response_norm_s_threshold_takes_the_relu_s_place_and_gives_it_back() -> None:
    network = build_model(ModelConfig("tiny", "frn"), seed=0)
    assert not [m for m in network.modules() if isinstance(m, nn.ReLU)]
    assert len([m for m in network.modules() if isinstance(m, ThresholdedBefore)]) == 4
    swap_norm(network, "group", 4)
    assert len([m for m in network.modules() if isinstance(m, nn.ReLU)]) == 4
    block = build_model(ModelConfig("resnet10", "frn"), seed=0).layer2[0]
    assert block.norm1.threshold is not None
    assert block.norm2.threshold is None
    assert block.downsample[1].threshold is None
    nn.init.constant_(block.norm1.threshold, -2.0)
    seen: list[Tensor] = []
    block.conv2.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    block(torch.randn(1, 16, 6, 6, 6))
    assert seen[0].min() < 0, "a ReLU cut what the threshold let through"


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


def test_groups_by_channels_per_group() -> None:
    assert make_norm("group", 12, channels_per_group=4).num_groups == 3
    config = ModelConfig("resnet10", width=8, channels_per_group=4)
    network = build_model(config)
    assert (network.norm1.num_groups, network.layer4[0].norm1.num_groups) == (2, 16)
    with pytest.raises(ValueError, match="channels_per_group=16 does not divide the 8 channels"):
        build_model(ModelConfig("resnet10", width=8, channels_per_group=16))


def test_standardized_weights_are_their_formula_and_keep_their_names() -> None:
    w = torch.randn(4, 3, 3, 3, 3, dtype=torch.float64, requires_grad=True)
    flat = w.flatten(1)
    expected = (flat - flat.mean(1, keepdim=True)) / (flat.std(1, keepdim=True) + 1e-5)
    torch.testing.assert_close(standardized(w).flatten(1), expected)
    plain = build_model(ModelConfig("tiny"), seed=0)
    network = build_model(ModelConfig("tiny", weight_standardization=True), seed=0)
    assert network.state_dict().keys() == plain.state_dict().keys()
    network.load_state_dict(plain.state_dict())
    layer = network.stages[0][0]
    assert type(layer) is StandardizedConv3d
    x = torch.randn(1, 1, 8, 8, 8)
    torch.testing.assert_close(
        layer(x), F.conv3d(x, standardized(layer.weight), None, 2, 1), atol=1e-5, rtol=1e-5
    )
    assert not torch.allclose(network.eval()(x), plain.eval()(x))


def test_what_a_layer_learned_moves_to_one_of_its_kind() -> None:
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
