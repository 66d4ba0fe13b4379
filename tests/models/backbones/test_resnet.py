"""ResNet: the paper's shapes, volumes of any size, blocks that start as their shortcut."""

import pytest
import torch
from torch import nn

from uncus.models.backbones.resnet import BasicBlock, Bottleneck, ResNet, ZeroPadShortcut
from uncus.models.base import count_parameters
from uncus.models.norms import make_norm


@pytest.mark.parametrize(
    ("depth", "shortcut", "millions"),
    [(10, "B", 14.36), (18, "A", 32.99), (34, "A", 63.31), (50, "B", 46.21)],
)
def test_size_is_that_of_medicalnet_s_table(depth: int, shortcut: str, millions: float) -> None:
    """Chen 2019, without its segmentation head."""
    with torch.device("meta"):
        network = ResNet(depth, 1, width=64, stem_kernel=7, shortcut=shortcut)
    size = count_parameters(network) - count_parameters(network.head)
    assert size / 1e6 == pytest.approx(millions, abs=0.06)


def test_depth_is_the_number_of_weighted_layers() -> None:
    for depth in (10, 18, 34, 50):
        network = ResNet(depth, 2, width=4)
        layers = [m for n, m in network.named_modules() if isinstance(m, nn.Conv3d | nn.Linear)]
        shortcuts = [n for n, _ in network.named_modules() if n.endswith("downsample.0")]
        assert len(layers) - len(shortcuts) == depth


@pytest.mark.parametrize("stem_stride", [1, 2])
@pytest.mark.parametrize("shape", [(88, 10, 88), (16, 16, 16), (17, 5, 23), (8, 1, 8)])
def test_every_axis_survives(shape: tuple[int, int, int], stem_stride: int) -> None:
    network = ResNet(10, 2, width=4, stem_stride=stem_stride).eval()
    feature_map = network.features(torch.randn(1, 1, *shape))
    stride = 8 * stem_stride
    assert network.stride == stride
    assert feature_map.shape[2:] == tuple(-(-size // stride) for size in shape)
    assert network(torch.randn(1, 1, *shape)).isfinite().all()


def test_widths_and_stem() -> None:
    network = ResNet(50, 3, width=8, stem_kernel=7, stem_pool=True, stem_stride=2)
    assert network.conv1.weight.shape == (8, 1, 7, 7, 7)
    assert network.features(torch.randn(1, 1, 64, 33, 64)).shape == (1, 256, 2, 2, 2)
    assert network.stride == 32
    stages = [network.layer1, network.layer2, network.layer3, network.layer4]
    assert [stage[-1].norm3.num_features for stage in stages] == [32, 64, 128, 256]
    assert [len(stage) for stage in stages] == [3, 4, 6, 3]


@pytest.mark.parametrize("depth", [18, 50])
def test_a_new_block_is_its_shortcut(depth: int) -> None:
    network = ResNet(depth, 2, width=4, norm=lambda c: make_norm("group", c, 2))
    block = network.layer2[1]
    assert isinstance(block, BasicBlock | Bottleneck)
    x = torch.rand(1, 8 * block.expansion, 6, 6, 6)
    assert torch.equal(block(x), x)
    with torch.no_grad():
        (block.norm3 if isinstance(block, Bottleneck) else block.norm2).weight.fill_(1)
    assert not torch.allclose(block(x), x, atol=1e-2)


def test_a_block_is_its_formula() -> None:
    network = ResNet(18, 2, width=4, norm=lambda c: make_norm("group", c, 2))
    block = network.layer2[0]
    with torch.no_grad():
        block.norm2.weight.fill_(0.7)
    x = torch.randn(2, 4, 7, 6, 5)
    y = block.norm2(block.conv2(block.norm1(block.conv1(x)).relu()))
    conv, norm = block.downsample
    torch.testing.assert_close(block(x), (y + norm(conv(x))).relu())
    assert conv.kernel_size == (1, 1, 1)
    assert y.shape[2:] == (4, 3, 3)


def test_zero_padding_shortcut() -> None:
    x = torch.randn(2, 3, 5, 4, 1, requires_grad=True)
    y = ZeroPadShortcut(3, 8, 2)(x)
    assert torch.equal(y[:, :3], x[:, :, ::2, ::2, ::2])
    assert not y[:, 3:].any()
    y.sum().backward()  # no gradient passes MONAI's
    assert x.grad is not None
    assert x.grad.sum() == y[:, :3].numel()


def test_norm_attributes_are_called_norm() -> None:
    names = [name for name, _ in ResNet(50, 2, width=4).named_modules()]
    assert not [name for name in names if "bn" in name]
    assert {"norm1", "layer1.0.norm3", "layer4.2.norm2"} <= set(names)


@pytest.mark.parametrize(
    ("depth", "options", "message"),
    [(20, {}, "depth=20.*10, 18, 34, 50"), (18, {"shortcut": "C"}, "'A' .* or 'B'")],
)
def test_refusals(depth: int, options: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ResNet(depth, 2, **options)


def test_input_must_be_a_batch_of_volumes() -> None:
    network = ResNet(10, 2, width=4)
    for shape in ((1, 8, 8, 8), (1, 2, 8, 8, 8)):
        with pytest.raises(ValueError, match=r"takes volumes as \[batch, 1, X, Y, Z\]"):
            network(torch.zeros(shape))
