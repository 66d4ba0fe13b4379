"""MONAI's networks as Classifiers: the same outputs and weights, volumes of any size."""

import pytest
import torch
from monai.networks import nets

from uncus.models.backbones import monai
from uncus.models.base import count_parameters


def test_densenet121_of_width_64_is_monai_s() -> None:
    theirs = nets.DenseNet121(spatial_dims=3, in_channels=1, out_channels=2).eval()
    ours = monai.densenet121(2, width=64, dropout=0.0).eval()
    ours.body[0].load_state_dict(theirs.features.state_dict())
    ours.head.load_state_dict(theirs.class_layers.out.state_dict())
    x = torch.randn(1, 1, 64, 32, 32)  # even at every pooling, so rounding up changes nothing
    torch.testing.assert_close(ours(x), theirs(x), atol=1e-5, rtol=1e-4)
    assert count_parameters(ours) == count_parameters(theirs)


def test_seresnet50_of_width_64_is_monai_s() -> None:
    theirs = nets.SEResNet50(spatial_dims=3, in_channels=1, num_classes=2).eval()
    ours = monai.seresnet50(2, width=64, dropout=0.0).eval()
    for index in range(5):
        ours.body[index].load_state_dict(getattr(theirs, f"layer{index}").state_dict())
    ours.head.load_state_dict(theirs.last_linear.state_dict())
    x = torch.randn(1, 1, 40, 33, 40)
    torch.testing.assert_close(ours(x), theirs(x), atol=1e-4, rtol=1e-3)


def test_efficientnet_of_width_32_has_monai_s_weights() -> None:
    theirs = nets.EfficientNetBN(
        "efficientnet-b0", pretrained=False, spatial_dims=3, in_channels=1, num_classes=2
    )
    ours = monai.efficientnet(2, width=32, dropout=0.0)
    assert sorted(p.shape for p in ours.parameters()) == sorted(
        p.shape for p in theirs.parameters()
    )


NETWORKS = {"densenet121": monai.densenet121, "efficientnet": monai.efficientnet}
NETWORKS["seresnet50"] = monai.seresnet50


@pytest.mark.parametrize("name", NETWORKS)
def test_a_slab_survives_and_width_scales(name: str) -> None:
    sizes = []
    for width in (8, 16):
        network = NETWORKS[name](2, width=width, dropout=0.0).eval()
        feature_map = network.features(torch.randn(1, 1, 48, 5, 40))
        assert feature_map.shape[1] == network.head.in_features
        assert feature_map.shape[3] == 1
        assert network.classify(feature_map).isfinite().all()
        sizes.append(count_parameters(network))
    assert 2 < sizes[1] / sizes[0] < 5
