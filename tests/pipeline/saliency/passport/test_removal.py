"""Deletion and insertion on a network whose evidence is known: the sum over one cube."""

import numpy as np
import pytest
import torch
from torch import Tensor

from uncus.models.base import Classifier
from uncus.pipeline.saliency.passport import removal
from uncus.pipeline.saliency.score import Score

BRAIN = np.ones((16, 16, 16), bool)
BRAIN[:4] = False


class CornerSum(Classifier):
    """Logit of class 1: the mean over the cube [4:8, 4:8, 4:8]."""

    def __init__(self) -> None:
        super().__init__(1, 2, stride=1)
        with torch.no_grad():
            self.head.weight.copy_(torch.tensor([[0.0], [1.0]]))
            self.head.bias.zero_()

    def features(self, x: Tensor) -> Tensor:
        return x[:, :, 4:8, 4:8, 4:8]


def test_cubes_cover_the_brain_and_nothing_else() -> None:
    labels = removal.cubes(BRAIN)
    assert ((labels >= 0) == BRAIN).all()
    counts = np.bincount(labels[BRAIN])
    assert len(counts) == 48 and set(counts) == {64}
    assert removal.cubes(BRAIN, most=10).max() < 10


def test_the_order_is_by_mean_saliency() -> None:
    labels = removal.cubes(BRAIN)
    saliency = np.where(labels == 7, 2.0, np.where(labels == 3, 1.0, 0.0))
    assert removal.order(saliency, labels)[:2].tolist() == [7, 3]


def test_curves_of_a_network_that_looks_at_one_cube() -> None:
    network, volume = CornerSum().eval(), torch.ones(1, 1, 16, 16, 16)
    labels = removal.cubes(BRAIN)
    evidence = np.zeros(BRAIN.shape)
    evidence[4:8, 4:8, 4:8] = 1
    right = removal.order(evidence, labels)
    best, worst = removal.curves(network, volume, Score(1), labels, [right, right[::-1]], steps=4)
    assert best.deletion == (1, 0, 0, 0, 0) and best.insertion == (0, 1, 1, 1, 1)
    assert worst.deletion == (1, 1, 1, 1, 0) and worst.insertion == (0, 0, 0, 0, 1)
    assert best.gain == pytest.approx(0.6) and worst.gain == pytest.approx(-0.6)
    random = np.random.default_rng(0)
    orders = [random.permutation(labels.max() + 1) for _ in range(40)]
    found = removal.curves(network, volume, Score(1), labels, orders, steps=4)
    assert abs(np.mean([one.gain for one in found])) < 0.2
