"""Maps that say nothing of where are told apart from those that do."""

import numpy as np
import pytest
import torch

from uncus.models.build import ModelConfig, build_model
from uncus.pipeline.saliency import SALIENCY
from uncus.pipeline.saliency.structure import lacks_structure

BRAIN = np.zeros((6, 6, 6), bool)
BRAIN[1:5, 1:5, 1:5] = True


@pytest.mark.parametrize("value", [0.0, 1.0, -3.0, 1e-20])
def test_a_map_that_is_the_same_everywhere_has_none(value: float) -> None:
    assert lacks_structure(np.full(BRAIN.shape, value, np.float32), BRAIN)
    # What lies outside the brain is not shown.
    assert lacks_structure(np.where(BRAIN, value, 7.0), BRAIN)


def test_one_voxel_is_structure_and_less_than_a_shade_is_not() -> None:
    one = np.zeros(BRAIN.shape)
    one[2, 2, 2] = 1e-9
    assert not lacks_structure(one, BRAIN)
    assert lacks_structure(1 + one, BRAIN)
    assert lacks_structure(one, np.zeros_like(BRAIN))


def test_grad_cam_from_one_feature_voxel_has_none_and_the_gradient_has() -> None:
    config = ModelConfig(backbone="sfcn", width=4, groups=2)
    network = build_model(config, seed=0).eval()
    volume = torch.randn(1, 1, 16, 16, 16, generator=torch.Generator().manual_seed(0))
    assert network.features(volume).shape[2:] == (1, 1, 1)
    brain = np.ones((16, 16, 16), bool)
    assert lacks_structure(SALIENCY["grad_cam"](network, volume, 1).numpy(), brain)
    assert not lacks_structure(SALIENCY["gradient"](network, volume, 1).numpy(), brain)
