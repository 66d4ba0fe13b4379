"""Saliency against finite differences, known answers and planted lesions."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from uncus.models.base import Classifier
from uncus.models.build import ModelConfig, build_model
from uncus.pipeline.saliency import registry
from uncus.pipeline.saliency.registry import (
    SALIENCY,
    Score,
    choose_blocks,
    feature_gradient,
    integrated_gradients,
    occlude_regions,
    onto_volume,
    path_rule,
    score_gradient,
)

SHAPE = (20, 12, 16)


def trained(norm: str = "group", classes: int = 2, backbone: str = "tiny") -> Classifier:
    """A network in float64 with gammas and betas that are not 1 and 0."""
    config = ModelConfig(backbone, norm, groups=4, classes=classes, width=8)
    model = build_model(config, seed=0).double().eval()
    random = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                noise = torch.randn(parameter.shape, generator=random, dtype=torch.float64)
                parameter.add_(0.3 * noise)
    return model


def volume(seed: int = 0) -> Tensor:
    x = torch.randn(
        1, 1, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
    )
    x[:, :, :2] = 0
    return x


class Linear(Classifier):
    """Logits 0 and ``sum(w * x)``; its feature map is the volume."""

    def __init__(self, weights: Tensor) -> None:
        super().__init__(1, 2, stride=1)
        self.weights = weights

    def features(self, x: Tensor) -> Tensor:
        return x

    def classify(self, feature_map: Tensor) -> Tensor:
        one = (feature_map * self.weights).sum(dim=(1, 2, 3, 4))
        return torch.stack([torch.zeros_like(one), one], dim=1)


class LesionFinder(Classifier):
    """Class 1 has a lesion: bright patches. Feature 0 finds them, feature 1 finds dark ones."""

    def __init__(self, stride: int) -> None:
        super().__init__(2, 2, stride=stride)
        self.smooth = nn.Conv3d(1, 1, 3, padding=1, bias=False)
        with torch.no_grad():
            self.smooth.weight.fill_(1 / 27)
            self.head.weight.copy_(torch.tensor([[0.0, 2.0], [3.0, 0.0]]))
            self.head.bias.zero_()

    def features(self, x: Tensor) -> Tensor:
        s = self.stride
        y = self.smooth(x)[..., ::s, ::s, ::s]
        return torch.cat([(y - 0.5).relu(), (-y - 0.5).relu()], dim=1)


def planted(at: tuple[int, int, int], value: float = 3.0) -> tuple[Tensor, Tensor]:
    """A brain of noise with one bright cube of 5 voxels, and where that is."""
    x = 0.2 * torch.randn(1, 1, 24, 20, 28, generator=torch.Generator().manual_seed(3))
    lesion = torch.zeros(x.shape[2:], dtype=torch.bool)
    lesion[tuple(slice(a - 2, a + 3) for a in at)] = True
    x[0, 0][lesion] += value
    return x, lesion


# The score


def test_score_is_the_log_odds_of_the_class() -> None:
    logits = torch.randn(5, 4, dtype=torch.float64)
    p = logits.softmax(1)
    for k in range(4):
        torch.testing.assert_close(Score(k)(logits), (p[:, k] / (1 - p[:, k])).log())
        torch.testing.assert_close(Score(k)(logits + 7), Score(k)(logits))
    two = logits[:, :2]
    torch.testing.assert_close(Score(1)(two), two[:, 1] - two[:, 0])
    assert torch.equal(Score(2, regression=True)(logits), logits[:, 2])
    assert torch.equal(Score(0)(logits[:, :1]), logits[:, 0])


def test_regression_explains_its_column() -> None:
    model, x = trained(classes=3), volume()
    one = SALIENCY["gradient"](model, x, 2, regression=True)
    volumes = x.clone().requires_grad_()
    model(volumes)[0, 2].backward()
    assert volumes.grad is not None
    torch.testing.assert_close(one, volumes.grad[0, 0].abs())
    assert not torch.allclose(one, SALIENCY["gradient"](model, x, 2))


# Gradients


@pytest.mark.parametrize("norm", ["group", "batch", "instance", "layer"])
@pytest.mark.parametrize("classes", [2, 3])
def test_gradient_agrees_with_finite_differences(norm: str, classes: int) -> None:
    model, x, score = trained(norm, classes), volume(), Score(1)
    gradient = score_gradient(model, x, score)
    assert torch.equal(SALIENCY["gradient"](model, x, 1), gradient[0, 0].abs())
    step = 1e-6
    for place in ((0, 0, 5, 6, 7), (0, 0, 10, 0, 15), (0, 0, 19, 11, 3), (0, 0, 2, 3, 4)):
        moved = x.repeat(2, 1, 1, 1, 1)
        moved[0][place[1:]] += step
        moved[1][place[1:]] -= step
        plus, minus = score(model(moved))
        assert float(gradient[place]) == pytest.approx(
            float((plus - minus).detach()) / (2 * step), rel=1e-4
        )


def test_integrated_gradients_are_means_of_gradients_along_the_path() -> None:
    """One voxel's share by brute force: 2,000 finite differences at equal steps."""
    model, x, score = trained("batch"), volume(), Score(0)
    found = integrated_gradients(model.requires_grad_(False), x, score, steps=768)
    place, step, steps = (7, 6, 5), 1e-5, 2000
    total = 0.0
    for batch in ((torch.arange(steps, dtype=torch.float64) + 0.5) / steps).split(200):
        along = batch.view(-1, 1, 1, 1, 1) * x
        plus, minus = along.clone(), along.clone()
        plus[:, 0, *place] += step
        minus[:, 0, *place] -= step
        with torch.no_grad():
            total += float((score(model(plus)) - score(model(minus))).sum()) / (2 * step)
    expected = float(x[0, 0][place]) * total / steps
    assert float(found[place]) == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize("norm", ["group", "batch", "instance", "layer"])
@pytest.mark.parametrize("given", [False, True])
def test_integrated_gradients_are_complete(norm: str, given: bool) -> None:
    """They sum to S(x) - S(baseline), also where a norm makes the network blind to scale."""
    model, x, score = trained(norm).requires_grad_(False), volume(), Score(1)
    baseline = volume(5) if given else torch.zeros_like(x)
    difference = float(score(model(x)) - score(model(baseline)))
    for steps, error in ((128, 0.05), (768, 0.01)):
        found = integrated_gradients(
            model, x, score, baseline=baseline if given else None, steps=steps
        )
        assert float(found.sum()) == pytest.approx(difference, abs=error)
    if norm == "group" and not given:
        a = (torch.arange(128, dtype=torch.float64) + 0.5) / 128
        equal = sum(score_gradient(model, float(t) * x, score) for t in a) / 128 * x
        assert abs(float(equal.sum()) - difference) > 0.1, "equal steps miss what happens"


def test_integrated_gradients_of_linear_and_square() -> None:
    weights = torch.randn(1, 1, *SHAPE, dtype=torch.float64)
    x = volume()
    found = SALIENCY["integrated_gradients"](Linear(weights), x, 1)
    torch.testing.assert_close(found, (weights * x)[0, 0])

    class Square(Linear):
        def features(self, x: Tensor) -> Tensor:
            return x**2

    found = SALIENCY["integrated_gradients"](Square(weights), x, 1)
    torch.testing.assert_close(found, (weights * x**2)[0, 0])


@pytest.mark.parametrize("power", [0, 1, 2, 5])
def test_path_rule_integrates_powers(power: int) -> None:
    positions, weights = path_rule(64)
    found = sum(w * a**power for a, w in zip(positions, weights, strict=True))
    assert found == pytest.approx(1 / (power + 1), rel=1e-9)
    assert all(0 < a < 1 for a in positions)
    with pytest.raises(ValueError, match="at least 8"):
        path_rule(4)


# Class activation maps


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("backbone", ["tiny", "resnet10"])
def test_grad_cam_agrees_with_finite_differences(backbone: str, classes: int) -> None:
    """a_k is the mean of dS/dA over voxels: what adding a constant to channel k does, by voxel."""
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
    found = SALIENCY["grad_cam"](model, x, 1)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("classes", [1, 2, 3])
@pytest.mark.parametrize("backbone", ["tiny", "resnet10", "sfcn"])
def test_the_closed_form_is_what_autograd_finds(backbone: str, classes: int) -> None:
    model, x, score = trained(classes=classes, backbone=backbone), volume(), Score(classes - 1)
    assert model.has_linear_head()
    feature_map, gradient = feature_gradient(model, x, score)
    leaf = feature_map.clone().requires_grad_()
    (want,) = torch.autograd.grad(score(model.classify(leaf)).sum(), leaf)
    torch.testing.assert_close(gradient, want)


def test_grad_cam_pp_is_the_formula_of_the_paper() -> None:
    """With Y = exp(S) all derivatives of Y are powers of g: equation 19, voxel by voxel."""

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


@pytest.mark.parametrize("at", [(4, 4, 4), (12, 8, 20), (20, 16, 24)])
@pytest.mark.parametrize(
    ("method", "stride"),
    # A voxel's gradient lies on the voxels that are looked at, anywhere around a lesion.
    [(m, s) for m in SALIENCY for s in (1, 4) if (m, s) != ("gradient", 4)],
)
def test_a_planted_lesion_gets_the_maximum(
    method: str, at: tuple[int, int, int], stride: int
) -> None:
    """Not inverted, not shifted, axes not mixed up; and nothing of it for the other class."""
    x, lesion = planted(at)
    model = LesionFinder(stride)
    found = SALIENCY[method](model, x, 1)
    peak = torch.stack(torch.unravel_index(found.argmax(), found.shape))
    reach = 4 if method == "occlusion" else 2  # half a cube reaches past the lesion
    assert (peak - torch.tensor(at)).abs().max() <= reach
    inside, outside = found[lesion].mean(), found[~lesion].clamp(min=0).mean()
    assert inside > 5 * outside
    if method not in {"gradient"}:
        other = SALIENCY[method](model, x, 0)
        assert other[lesion].max() <= 1e-6


@pytest.mark.parametrize(("stride", "offset"), [(1, 0.0), (4, 0.0), (32, 14.0), (32, 15.5)])
def test_a_map_over_features_lies_where_the_features_look(stride: int, offset: float) -> None:
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


def test_strided_convolutions_put_a_spot_back_where_it_was() -> None:
    """The usual stretching to the volume's size would move it by (stride - 1) / 2 voxels."""

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
    found = SALIENCY["grad_cam"](Centre(), x, 0)
    index = torch.stack(torch.meshgrid(*[torch.arange(48.0)] * 3, indexing="ij"))
    centre = (index * found).sum((1, 2, 3)) / found.sum()
    assert (centre - torch.tensor([24.0, 16.0, 32.0])).abs().max() < 1e-3


# Occlusion


def test_occlusion_of_a_linear_network_is_the_mean_of_its_blocks() -> None:
    weights = torch.randn(1, 1, *SHAPE, dtype=torch.float64)
    x = volume()
    found = SALIENCY["occlusion"](Linear(weights), x, 1)
    total, times = torch.zeros(SHAPE).double(), torch.zeros(SHAPE).double()
    for block in choose_blocks(x[0, 0] != 0, registry.OCCLUSIONS):
        total[block] += (weights * x)[0, 0][block].sum()
        times[block] += 1
    torch.testing.assert_close(found, total / times.clamp(min=1))


@pytest.mark.parametrize("shape", [(40, 48, 40), (88, 10, 88), (7, 3, 5), (96, 112, 96)])
@pytest.mark.parametrize("most", [50, 400])
def test_blocks_cover_the_brain_and_are_few(shape: tuple[int, int, int], most: int) -> None:
    axes = [torch.linspace(-1, 1, size) for size in shape]
    brain = sum(g**2 for g in torch.meshgrid(*axes, indexing="ij")) < 1.2
    blocks = choose_blocks(brain, most)
    assert len(blocks) <= most
    covered = torch.zeros(shape, dtype=torch.bool)
    for block in blocks:
        assert brain[block].any()
        covered[block] = True
    assert covered[brain].all()
    if shape == (40, 48, 40) and most == 400:
        assert len(blocks) > 100, "larger blocks than needed"
        assert max(s.stop - s.start for s in blocks[0]) <= 12


def test_occlusion_asks_no_more_than_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    model = LesionFinder(4)
    forward = model.forward

    def counting(x: Tensor) -> Tensor:
        asked.append(len(x))
        return forward(x)

    monkeypatch.setattr(model, "forward", counting)
    SALIENCY["occlusion"](model, planted((12, 8, 16))[0], 1)
    assert 100 < sum(asked) <= registry.OCCLUSIONS + 1
    assert max(asked) == registry.batch_size(planted((12, 8, 16))[0])


def test_empty_volume_is_refused() -> None:
    with pytest.raises(ValueError, match="0 everywhere"):
        SALIENCY["occlusion"](LesionFinder(4), torch.zeros(1, 1, 8, 8, 8), 1)


def test_regions() -> None:
    weights = torch.randn(1, 1, *SHAPE, dtype=torch.float64)
    x = volume()
    labels = torch.zeros(SHAPE, dtype=torch.int16)
    labels[4:8] = 17
    labels[10:12, 3:6] = 53
    found, lost = occlude_regions(Linear(weights), x, 1, labels)
    assert set(lost) == {17, 53}
    for label, value in lost.items():
        assert value == pytest.approx(float((weights * x)[0, 0][labels == label].sum()))
        assert torch.all(found[labels == label] == value)
    assert not found[labels == 0].any()
    with pytest.raises(ValueError, match="resample them"):
        occlude_regions(Linear(weights), x, 1, labels[:4])


@pytest.mark.parametrize("method", ["integrated_gradients", "occlusion"])
def test_large_volumes_go_one_by_one_to_the_same_map(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, x = trained(), volume()
    together = SALIENCY[method](model, x, 1)
    monkeypatch.setattr(registry, "VOXELS_AT_ONCE", x.numel() + 1)
    assert registry.batch_size(x) == 1
    torch.testing.assert_close(SALIENCY[method](model, x, 1), together)


# Refusals


def test_nan_is_refused() -> None:
    model = trained()
    with torch.no_grad():
        model.head.weight[0, 0] = float("nan")
    for method in SALIENCY.values():
        with pytest.raises(ValueError, match="NaN"):
            method(model, volume(), 1)


@pytest.mark.parametrize("index", [-1, 2])
def test_no_such_class(index: int) -> None:
    with pytest.raises(ValueError, match=f"class_index={index}: the network has 2 outputs"):
        SALIENCY["grad_cam"](trained(), volume(), index)


def test_entries_say_what_they_are() -> None:
    claims: dict[str, Any] = {name: entry.gradient for name, entry in SALIENCY.items()}
    assert claims["gradient"]
    assert claims["integrated_gradients"]
    assert not claims["occlusion"]
    assert not claims["grad_cam"]
