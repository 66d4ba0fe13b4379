"""What is measured on one scan: likeness to other networks, a second scan and a noisy copy."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from uncus.models.build import ModelConfig, build_model
from uncus.pipeline.saliency import SALIENCY, Score
from uncus.pipeline.saliency.passport.measures import Case, Effort, measure

CONFIG = ModelConfig(backbone="tiny", width=8, groups=4)
VOLUME = torch.randn(1, 1, 16, 16, 16, generator=torch.Generator().manual_seed(0))
VOLUME[:, :, :4] = 0
EFFORT = Effort({"gradient": SALIENCY["gradient"]}, stages=1, steps=3, orders=1)


@pytest.fixture
def case() -> Case:
    network = build_model(CONFIG, seed=0).eval()
    return Case("sub-1", VOLUME, network, CONFIG, Score(1), seed=7)


def test_the_same_network_or_scan_gives_the_same_map_and_others_another(case: Case) -> None:
    other = build_model(CONFIG, seed=1).eval()
    same = replace(case, other=case.network, shuffled=other, second=VOLUME.clone())
    found = measure(same, EFFORT)["methods"]["gradient"]
    assert found["trained"]["spearman"] == pytest.approx(1)
    assert found["second"]["spearman"] == pytest.approx(1)
    assert found["shuffled"]["spearman"] < 0.9
    assert found["cascade"][-1]["spearman"] < 0.9
    again = measure(replace(same, second=VOLUME.flip(3)), EFFORT)["methods"]["gradient"]
    assert again["second"]["spearman"] < 0.9


def test_a_single_network_is_compared_with_a_noisy_copy_of_the_scan(case: Case) -> None:
    found = measure(case, EFFORT)["methods"]["gradient"]
    assert 0.3 < found["trained"]["spearman"] < 1
    assert "second" not in found and "shuffled" not in found and "lesion" not in found


def test_a_map_without_structure_is_not_measured_further(case: Case) -> None:
    blind = build_model(CONFIG, seed=0).eval()
    with torch.no_grad():
        blind.head.weight.zero_()
    found = measure(replace(case, network=blind), EFFORT)
    assert found["methods"]["gradient"] == {"structure": False}
    assert len(found["random"]) == 1 and np.isfinite(found["random"][0]["gain"])
