"""Gradients against finite differences, integrated gradients against sums along the path."""

import pytest
import torch
from torch import Tensor

from tests.pipeline.saliency.networks import SHAPE, Linear, trained, volume
from uncus.pipeline.saliency import SALIENCY, Score
from uncus.pipeline.saliency.gradients import integrated_gradients, path_rule
from uncus.pipeline.saliency.score import score_gradient, stem


@pytest.mark.parametrize("norm", ["group", "batch", "instance", "layer"])
@pytest.mark.parametrize("classes", [2, 3])
def test_gradient_agrees_with_finite_differences(norm: str, classes: int) -> None:
    model, x, score = trained(norm, classes), volume(), Score(1)
    gradient = score_gradient(model, x, score)
    assert torch.equal(SALIENCY["gradient"](model, x, 1), gradient[0, 0].abs())
    step = 1e-6
    for voxel in ((0, 0, 5, 6, 7), (0, 0, 10, 0, 15), (0, 0, 19, 11, 3), (0, 0, 2, 3, 4)):
        moved = x.repeat(2, 1, 1, 1, 1)
        moved[0][voxel[1:]] += step
        moved[1][voxel[1:]] -= step
        plus, minus = score(model(moved))
        assert float(gradient[voxel]) == pytest.approx(
            float((plus - minus).detach()) / (2 * step), rel=1e-4
        )


def test_integrated_gradients_are_means_of_gradients_along_the_path() -> None:
    """One voxel's share from 2,000 finite differences at equal steps."""
    model, x, score = trained("batch"), volume(), Score(0)
    shares = integrated_gradients(model.requires_grad_(False), x, score, steps=768)
    voxel, step, steps = (7, 6, 5), 1e-5, 2000
    total = 0.0
    for batch in ((torch.arange(steps, dtype=torch.float64) + 0.5) / steps).split(200):
        along = batch.view(-1, 1, 1, 1, 1) * x
        plus, minus = along.clone(), along.clone()
        plus[:, 0, *voxel] += step
        minus[:, 0, *voxel] -= step
        with torch.no_grad():
            total += float((score(model(plus)) - score(model(minus))).sum()) / (2 * step)
    expected = float(x[0, 0][voxel]) * total / steps
    assert float(shares[voxel]) == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize("norm", ["group", "batch", "instance", "layer"])
@pytest.mark.parametrize("given", [False, True])
def test_integrated_gradients_are_complete(norm: str, given: bool) -> None:
    """They sum to S(x) - S(baseline), even if a norm makes the network invariant to scale."""
    model, x, score = trained(norm).requires_grad_(False), volume(), Score(1)
    baseline = volume(5) if given else torch.zeros_like(x)
    difference = float(score(model(x)) - score(model(baseline)))
    for steps, error in ((128, 0.05), (768, 0.01)):
        shares = integrated_gradients(
            model, x, score, baseline=baseline if given else None, steps=steps
        )
        assert float(shares.sum()) == pytest.approx(difference, abs=error)
    if norm == "group" and not given:
        a = (torch.arange(128, dtype=torch.float64) + 0.5) / 128
        equal = sum(score_gradient(model, float(t) * x, score) for t in a) / 128 * x
        assert abs(float(equal.sum()) - difference) > 0.1, "equal steps miss the change"


@pytest.mark.parametrize("backbone", ["tiny", "sfcn", "resnet10"])
def test_gradients_summed_behind_the_first_convolution_are_the_same(backbone: str) -> None:
    model, score = trained(backbone=backbone).requires_grad_(False), Score(1)
    x = torch.nn.functional.interpolate(volume(), scale_factor=2.0)
    assert stem(model, x) is not None
    positions, weights = path_rule(8)
    steps = zip(positions, weights, strict=True)
    total = sum(w * score_gradient(model, a * x, score) for a, w in steps)
    torch.testing.assert_close(integrated_gradients(model, x, score, steps=8), (x * total)[0, 0])


def test_no_first_convolution_where_something_else_reads_the_volume() -> None:
    class Beside(Linear):
        def __init__(self) -> None:
            super().__init__(torch.ones(1, 1, *SHAPE, dtype=torch.float64))
            self.convolution = torch.nn.Conv3d(1, 1, 3, padding=1).double()

        def features(self, x: Tensor) -> Tensor:
            return self.convolution(x) + x**2

    assert stem(Beside(), volume()) is None


def test_integrated_gradients_of_linear_and_square() -> None:
    weights = torch.randn(1, 1, *SHAPE, dtype=torch.float64)
    x = volume()
    shares = SALIENCY["integrated_gradients"](Linear(weights), x, 1)
    torch.testing.assert_close(shares, (weights * x)[0, 0])

    class Square(Linear):
        def features(self, x: Tensor) -> Tensor:
            return x**2

    shares = SALIENCY["integrated_gradients"](Square(weights), x, 1)
    torch.testing.assert_close(shares, (weights * x**2)[0, 0])


@pytest.mark.parametrize("power", [0, 1, 2, 5])
def test_path_rule_integrates_powers(power: int) -> None:
    positions, weights = path_rule(64)
    integral = sum(w * a**power for a, w in zip(positions, weights, strict=True))
    assert integral == pytest.approx(1 / (power + 1), rel=1e-9)
    assert all(0 < a < 1 for a in positions)
    with pytest.raises(ValueError, match="at least 8"):
        path_rule(4)
