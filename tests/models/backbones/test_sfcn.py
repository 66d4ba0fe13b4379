"""SFCN: the paper's sizes, short axes, dropout before the head."""

import torch
from torch import nn

from uncus.models.backbones.sfcn import SFCN
from uncus.models.base import count_parameters


def test_size_is_the_paper_s() -> None:
    """About 3.0 million parameters (Peng 2021), here with 40 bins and no convolution biases."""
    network = SFCN(40)
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv3d)]
    assert [c.out_channels for c in convolutions] == [32, 64, 128, 256, 256, 64]
    assert 2.9e6 < count_parameters(network) < 3.0e6
    assert network.head.in_features == 64


def test_feature_map_of_the_paper_s_volume() -> None:
    """160 x 192 x 160 voxels end as 5 x 6 x 5; here at a quarter of the width."""
    with torch.no_grad():
        feature_map = SFCN(2, width=4).features(torch.zeros(1, 1, 160, 192, 160))
    assert feature_map.shape == (1, 8, 5, 6, 5)


def test_a_slab_survives() -> None:
    network = SFCN(2, width=4).eval()
    assert network.features(torch.randn(1, 1, 88, 10, 88)).shape == (1, 8, 3, 1, 3)
    assert network(torch.randn(1, 1, 88, 10, 88)).isfinite().all()


def test_dropout_is_before_the_head_and_off_in_evaluation() -> None:
    network = SFCN(2, width=8, dropout=0.5)
    feature_map = torch.rand(64, 16, 1, 1, 1)
    assert not torch.equal(network.classify(feature_map), network.classify(feature_map))
    network.eval()
    expected = network.head(feature_map.flatten(1))
    torch.testing.assert_close(network.classify(feature_map), expected)
