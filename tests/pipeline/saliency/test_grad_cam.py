"""Grad-CAM against finite differences, autograd and the formulas of the papers."""

import math

import pytest
import torch
from torch import Tensor, nn

from tests.pipeline.saliency.networks import LesionFinder, planted, trained, volume
from uncus.models.base import Classifier
from uncus.pipeline.saliency import SALIENCY, Score
from uncus.pipeline.saliency.grad_cam import feature_gradient, onto_volume


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("backbone", ["tiny", "resnet10"])
def test_grad_cam_agrees_with_finite_differences(backbone: str, classes: int) -> None:
    """a_k, the mean of dS/dA over voxels, from the effect of a constant added to channel k."""
    model, x, score = trained(classes=classes, backbone=backbone), volume(), Score(1)
    feature_map, _ = feature_gradient(model, x, score)
    step, weights = 1e-6, []
    for k in range(feature_map.shape[1]):
        moved = feature_map.repeat(2, 1, 1, 1, 1)
        moved[0, k] += step
        moved[1, k] -= step
        plus, minus = score(model.classify(moved))
        weights.append(float((plus - minus).detach()) / (2 * step * feature_map[0, 0].numel()))
    cam = torch.einsum("k,kxyz->xyz", torch.tensor(weights).double(), feature_map[0]).relu()
    expected = onto_volume(cam, model, x)
    saliency = SALIENCY["grad_cam"](model, x, 1)
    torch.testing.assert_close(saliency, expected, rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("classes", [1, 2, 3])
@pytest.mark.parametrize("backbone", ["tiny", "resnet10", "sfcn"])
def test_the_closed_form_equals_autograd(backbone: str, classes: int) -> None:
    model, x, score = trained(classes=classes, backbone=backbone), volume(), Score(classes - 1)
    assert model.has_linear_head()
    feature_map, gradient = feature_gradient(model, x, score)
    leaf = feature_map.clone().requires_grad_()
    (expected,) = torch.autograd.grad(score(model.classify(leaf)).sum(), leaf)
    torch.testing.assert_close(gradient, expected)


def test_grad_cam_pp_is_the_formula_of_the_paper() -> None:
    """Equation 19, voxel by voxel; for Y = exp(S) all derivatives of Y are powers of g."""

    class Curved(LesionFinder):
        def classify(self, feature_map: Tensor) -> Tensor:
            weights = torch.linspace(0.5, 1.5, feature_map[0, 0].numel()).view(
                feature_map.shape[2:]
            )
            return super().classify(feature_map * weights)

    model = Curved(4)
    x, _ = planted((12, 8, 16))
    feature_map, gradient = feature_gradient(model, x, Score(1))
    a, g = feature_map[0].double(), gradient[0].double()
    cam = torch.zeros(a.shape[1:], dtype=torch.float64)
    for k in range(len(a)):
        weight = 0.0
        for v in range(a[k].numel()):
            slope = float(g[k].flatten()[v])
            if slope:
                alpha = slope**2 / (2 * slope**2 + float(a[k].sum()) * slope**3)
                weight += alpha * max(slope, 0.0)
        cam += weight * a[k]
    expected = onto_volume(cam.relu().float(), model, x)
    torch.testing.assert_close(SALIENCY["grad_cam_pp"](model, x, 1), expected)


@pytest.mark.parametrize(("stride", "offset"), [(1, 0.0), (4, 0.0), (32, 14.0), (32, 15.5)])
def test_a_map_over_features_is_centred_on_their_receptive_fields(
    stride: int, offset: float
) -> None:
    model = Classifier(1, 2, stride=stride, offset=offset)
    size = int(2 * offset) + 2 * stride + 1
    cam = torch.zeros(3, 1, 3)
    cam[1, 0, 2] = 1.0
    full = onto_volume(cam, model, torch.zeros(1, 1, size, 5, size))
    assert full.shape == (size, 5, size)
    centre = (full * torch.arange(size).view(-1, 1, 1)).sum() / full.sum()
    assert float(centre) == pytest.approx(offset + stride)
    peak = (offset + stride, offset + 2 * stride)
    assert full[math.floor(peak[0]), 2, math.ceil(peak[1])] == pytest.approx(1, abs=1 / stride)
    assert not full[: int(offset)].any()
    assert torch.equal(full[:, 0], full[:, 4])


def test_strided_convolutions_keep_the_position_of_a_spot() -> None:
    """The usual resizing to the volume's size would shift it by (stride - 1) / 2 voxels."""

    class Centre(Classifier):
        def __init__(self) -> None:
            super().__init__(1, 1, stride=8)
            self.convs = nn.Sequential(
                *(nn.Conv3d(1, 1, 3, stride=2, padding=1, bias=False) for _ in range(3))
            )
            for conv in self.convs:
                nn.init.constant_(conv.weight, 1 / 27)
            nn.init.ones_(self.head.weight)

        def features(self, x: Tensor) -> Tensor:
            feature_map: Tensor = self.convs(x)
            return feature_map

    x = torch.zeros(1, 1, 48, 48, 48)
    x[0, 0, 24, 16, 32] = 1
    saliency = SALIENCY["grad_cam"](Centre(), x, 0)
    index = torch.stack(torch.meshgrid(*[torch.arange(48.0)] * 3, indexing="ij"))
    centre = (index * saliency).sum((1, 2, 3)) / saliency.sum()
    assert (centre - torch.tensor([24.0, 16.0, 32.0])).abs().max() < 1e-3
