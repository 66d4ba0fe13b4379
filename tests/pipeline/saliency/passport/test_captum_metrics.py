"""Infidelity and sensitivity of a linear network, whose gradient times input is exact."""

import numpy as np
import pytest
import torch

from tests.pipeline.saliency.networks import Linear
from uncus.pipeline.saliency.passport.captum_metrics import available, captum_metrics
from uncus.pipeline.saliency.passport.removal import cubes
from uncus.pipeline.saliency.score import Score

SHAPE = (12, 12, 12)


@pytest.mark.skipif(not available(), reason="captum is not installed")
def test_an_exact_map_is_faithful_and_one_in_random_order_is_not() -> None:
    torch.manual_seed(0)
    weights = torch.zeros(1, 1, *SHAPE)
    weights[..., :4, :4, :4] = 1
    volume = 1 + torch.rand(1, 1, *SHAPE)
    network, labels = Linear(weights).eval(), cubes(np.ones(SHAPE, bool))
    state = torch.get_rng_state()
    exact = captum_metrics(lambda x: (weights * x)[0, 0], network, volume, Score(1), labels, seed=0)
    assert exact["infidelity"] < 0.5 * exact["infidelity_shuffled"]
    assert 0 < exact["sensitivity"] < 0.05
    fixed = captum_metrics(lambda x: weights[0, 0], network, volume, Score(1), labels, seed=0)
    assert fixed["sensitivity"] == 0
    assert torch.equal(state, torch.get_rng_state())
