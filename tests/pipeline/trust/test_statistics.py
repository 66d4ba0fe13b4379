"""Statistics of images and features: of the first volume alone, for any network and grid."""

import numpy as np
import pytest
import torch

from uncus.models.build import ModelConfig, build_model
from uncus.models.inference import predict
from uncus.pipeline.trust.statistics import (
    feature_count,
    feature_statistics,
    image_statistics,
    joined,
    spread,
    watched,
)


@pytest.mark.parametrize("backbone", ["tiny", "sfcn", "resnet10"])
def test_features_are_those_of_the_first_volume(backbone: str) -> None:
    network = build_model(ModelConfig(backbone, width=16), seed=0).eval()
    volume = torch.randn(1, 1, 20, 8, 18)
    alone = feature_statistics(network, volume)
    with watched(network) as seen:
        predict(network, volume, flip=True)
    assert np.array_equal(alone, joined(seen)) and alone.shape == (feature_count(network),)
    assert not np.allclose(alone, feature_statistics(network, volume.flip(2)))
    with watched(network) as seen:
        pass
    assert not seen and not any(one._forward_hooks for one in network.modules())


def test_images_of_any_grid() -> None:
    array = np.zeros((24, 5, 30), np.float32)
    array[6:18, :, 3:15] = np.random.default_rng(0).normal(size=(12, 5, 12))
    found = image_statistics(array)
    assert found["regions"].shape == (6 * 5 * 6,) and found["brain"].shape == (17,)
    assert found["brain"][10] == pytest.approx(12 * 12 / (24 * 30))
    assert found["brain"][4:6].mean() == pytest.approx(np.median(array[array != 0]), abs=0.05)
    assert image_statistics(array[:, :, ::-1])["brain"][13] > found["brain"][13]


def test_places_are_spread() -> None:
    assert spread(10, 4) == [0, 3, 6, 9] and spread(3, 4) == [0, 1, 2] and spread(1, 4) == [0]
