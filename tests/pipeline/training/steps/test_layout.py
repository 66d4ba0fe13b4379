"""Channels last where tensor cores gain by it, and nowhere else."""

from typing import Any

import pytest
import torch

from uncus.models.backbones.resnet import DEPTHS
from uncus.models.build import ModelConfig, build_model
from uncus.pipeline.training.steps.layout import gains_from_channels_last

HALF: Any = {"precision": "bf16-mixed", "on_gpu": True}


@pytest.fixture(autouse=True)
def hopper(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *device: (9, 0))


@pytest.mark.parametrize("depth", DEPTHS)
def test_the_networks_of_the_papers_gain(depth: int) -> None:
    assert gains_from_channels_last(build_model(ModelConfig(f"resnet{depth}", width=64)), **HALF)


def test_others_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build_model(ModelConfig("resnet10", width=16))
    assert gains_from_channels_last(model, **HALF)
    assert not gains_from_channels_last(model, precision="32-true", on_gpu=True)
    assert not gains_from_channels_last(model, precision="bf16-mixed", on_gpu=False)
    narrow = build_model(ModelConfig("resnet10", width=12, groups=4))
    assert not gains_from_channels_last(narrow, **HALF)
    grouped = build_model(ModelConfig("efficientnet-b0", width=64))
    assert not gains_from_channels_last(grouped, **HALF)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *device: (7, 5))
    assert not gains_from_channels_last(model, **HALF)
