"""The cascade draws layers anew from the head to the input, and leaves the network as it is."""

import pytest
import torch

from uncus.models.build import ModelConfig, build_model
from uncus.pipeline.saliency.passport.randomization import cascade


@pytest.mark.parametrize("backbone", ["tiny", "resnet10"])
@pytest.mark.parametrize("standardized", [False, True])
def test_layers_are_drawn_anew_from_the_head_on(backbone: str, standardized: bool) -> None:
    config = ModelConfig(backbone=backbone, width=8, groups=4, weight_standardization=standardized)
    network = build_model(config, seed=1)
    with torch.no_grad():
        for parameter in network.parameters():  # as if trained: no norm is as at the start
            parameter.add_(0.1)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    stages = list(cascade(network, config, seed=2, stages=3))
    changed = [
        {name for name, value in one.state_dict().items() if not torch.equal(value, before[name])}
        for _, one in stages
    ]
    assert changed[0] == {"head.weight", "head.bias"}
    assert changed[0] < changed[1] < changed[2] == set(before)
    first = next(name for name in before if not name.startswith("head"))
    assert first not in changed[1]
    shares = [share for share, _ in stages]
    assert shares == sorted(shares) and shares[-1] == 1
    fresh = build_model(config, seed=2).state_dict()
    assert all(torch.equal(v, fresh[n]) for n, v in stages[-1][1].state_dict().items())
    assert all(torch.equal(v, before[n]) for n, v in network.state_dict().items())


def test_one_stage_draws_all_layers() -> None:
    config = ModelConfig(backbone="tiny", width=8, groups=4)
    ((share, network),) = cascade(build_model(config, seed=0), config, seed=3, stages=1)
    assert share == 1
    fresh = build_model(config, seed=3).state_dict()
    assert all(torch.equal(v, fresh[n]) for n, v in network.state_dict().items())
