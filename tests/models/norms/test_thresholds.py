"""Thresholds of filter response norms in place of ReLUs."""

import torch
from torch import Tensor, nn

from uncus.models.build import ModelConfig, build_model
from uncus.models.norms.thresholds import ThresholdedBefore
from uncus.models.swap import swap_norm


def test_thresholds_replace_relus_and_swapping_restores_them() -> None:
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
    inputs_of_conv2: list[Tensor] = []
    block.conv2.register_forward_pre_hook(lambda _, inputs: inputs_of_conv2.append(inputs[0]))
    block(torch.randn(1, 16, 6, 6, 6))
    assert inputs_of_conv2[0].min() < 0, "a ReLU follows the threshold"
