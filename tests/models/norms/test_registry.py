"""The registry of norms: names and groups."""

import math

import pytest

from uncus.models.build import ModelConfig, build_model
from uncus.models.norms import make_norm
from uncus.models.norms.registry import divisors


def test_unknown_norm_names_the_closest() -> None:
    with pytest.raises(ValueError, match="'instnace'; did you mean 'instance'"):
        make_norm("instnace", 8)
    with pytest.raises(ValueError, match="there are group, batch"):
        make_norm("zzz", 8)


@pytest.mark.parametrize(
    ("groups", "message"), [(5, "fit the whole network: 1, 2, 3, 4, 6, 12"), (0, "1 or more")]
)
def test_groups_that_do_not_fit(groups: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_norm("group", 12, groups)


def test_groups_by_channels_per_group() -> None:
    assert make_norm("group", 12, channels_per_group=4).num_groups == 3
    config = ModelConfig("resnet10", width=8, channels_per_group=4)
    network = build_model(config)
    assert (network.norm1.num_groups, network.layer4[0].norm1.num_groups) == (2, 16)
    with pytest.raises(ValueError, match="channels_per_group=16 does not divide the 8 channels"):
        build_model(ModelConfig("resnet10", width=8, channels_per_group=16))


def test_divisors() -> None:
    assert divisors([16, 24, 40]) == [1, 2, 4, 8]
    assert divisors([7, 9]) == [1]
    assert divisors([math.factorial(5)])[-1] == 120
