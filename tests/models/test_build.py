"""Networks from their configuration; errors with the closest name."""

import json
import subprocess
import sys
from typing import Any

import pytest
import torch

from uncus.models.build import BACKBONES, ModelConfig, build_model, medicalnet
from uncus.models.swap import find_norms


@pytest.mark.parametrize("backbone", BACKBONES)
def test_defaults_build_and_predict(backbone: str) -> None:
    config = ModelConfig(backbone=backbone)
    network = build_model(config, seed=0).eval()
    assert network(torch.randn(1, 1, 40, 12, 40)).shape == (1, 2)
    groups = {layer.num_groups for layer in find_norms(network).values()}
    assert groups == {8}


@pytest.mark.parametrize("backbone", BACKBONES)
def test_width_and_classes_reach_the_network(backbone: str) -> None:
    narrow, wide = (build_model(ModelConfig(backbone, "group", 4, 5, width)) for width in (8, 16))
    assert narrow.head.out_features == wide.head.out_features == 5
    sizes = [sum(p.numel() for p in network.parameters()) for network in (narrow, wide)]
    assert sizes[1] > 2 * sizes[0]


def test_resnet_options_reach_the_network() -> None:
    config = ModelConfig("resnet10", stem_stride=1, stem_kernel=5, stem_pool=True, shortcut="A")
    network = build_model(config)
    assert network.stride == 16
    assert network.conv1.kernel_size == (5, 5, 5)
    assert not any("downsample.0" in name for name, _ in network.named_modules())
    assert network.dropout.p == config.dropout > 0


def test_json_round_trip() -> None:
    config = ModelConfig("resnet34", "instance", 4, 3, 8, 0, 1, 7, True, "A")
    again = ModelConfig.from_dict(json.loads(json.dumps(config.as_dict())))
    assert again == config
    assert isinstance(again.dropout, float)
    assert ModelConfig.from_dict({}) == ModelConfig()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backbone": "resnet81"}, "unknown backbone 'resnet81'; did you mean 'resnet18'"),
        ({"backbone": "vgg"}, "there are tiny, resnet10"),
        ({"norm": "goup"}, "unknown norm 'goup'; did you mean 'group'"),
        ({"norm": None}, "norm=None: must be of type str"),
        ({"groups": 0}, "groups=0: must be 1 to"),
        ({"groups": 8.0}, "groups=8.0: must be of type int"),
        ({"groups": True}, "groups=True: must be of type int"),
        ({"groups": 4, "channels_per_group": 4}, "give one of the two"),
        ({"moment_shortcut": True}, "moment_shortcut requires --norm positional, not group"),
        ({"group_plus_literal": True}, "group_plus_literal requires --norm group_plus"),
        ({"classes": 0}, "classes=0"),
        ({"width": 1}, "width=1"),
        ({"width": "16"}, "width='16': must be of type int"),
        ({"dropout": 1.0}, "dropout=1.0: must be at least 0 and less than 1"),
        ({"dropout": float("nan")}, "dropout=nan"),
        ({"stem_kernel": 4}, "stem_kernel=4: must be odd"),
        ({"stem_stride": 3}, "stem_stride=3: must be 1 to 2"),
        ({"stem_pool": 1}, "stem_pool=1: must be of type bool"),
        ({"shortcut": "C"}, "unknown shortcut 'C'; there are A, B"),
        ({"backbone": "sfcn", "stem_kernel": 7}, "only the resnets have it, not sfcn"),
        ({"widht": 8}, "unknown model option 'widht'; did you mean 'width'"),
        ({"norm": "${oc.env:HOME}"}, "unknown norm"),
    ],
)
def test_invalid_options_are_rejected(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as error:
        ModelConfig.from_dict(options)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_groups_that_do_not_fit_name_the_layer_and_those_that_do() -> None:
    with pytest.raises(ValueError) as error:
        build_model(ModelConfig("resnet18", groups=12))
    assert str(error.value) == (
        "resnet18 of width 16: groups=12 does not divide the 16 channels of norm1; "
        "numbers that fit the whole network: 1, 2, 4, 8, 16"
    )
    for groups in (1, 2, 4, 8, 16):
        build_model(ModelConfig("resnet18", groups=groups))


def test_a_seed_leaves_the_caller_s_random_state_unchanged() -> None:
    torch.manual_seed(1)
    build_model(ModelConfig("tiny"), seed=5)
    first = torch.rand(1)
    torch.manual_seed(1)
    assert torch.equal(first, torch.rand(1))
    one, two = (build_model(ModelConfig("tiny")).head.weight for _ in range(2))
    assert not torch.equal(one, two)


@pytest.mark.parametrize("depth", [10, 18, 34, 50])
def test_medicalnet_s_options(depth: int) -> None:
    config = medicalnet(depth)
    assert config.width == 64
    assert config.stem_kernel == 7
    assert config.shortcut == ("A" if depth in {18, 34} else "B")


def test_a_network_without_values_imports_no_compiler() -> None:
    code = """
import sys
import torch
from uncus.models.build import ModelConfig, build_model
with torch.device("meta"):
    build_model(ModelConfig(backbone="sfcn", width=8))
print("sympy" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"]
