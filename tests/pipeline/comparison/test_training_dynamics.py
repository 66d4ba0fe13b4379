"""Training dynamics, measured on functions with known results."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.conftest import TRAIN
from uncus.models.build import ModelConfig, build_model
from uncus.pipeline.cli import main
from uncus.pipeline.comparison.plots import dynamics
from uncus.pipeline.comparison.training_dynamics import (
    RATES,
    disturbed,
    periods,
    probe,
)


class Bowl:
    """``L(w) = c |w|^2 / 2`` : gradient c w, smoothness c everywhere."""

    def __init__(self, curvature: float) -> None:
        self.curvature = curvature
        self.model = nn.Linear(4, 1, bias=False)

    def outputs(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        return self.model(batch["volume"])

    def loss(self, output: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        return 0.5 * self.curvature * self.model.weight.square().sum()


@pytest.mark.parametrize("curvature", [0.5, 3.0])
def test_the_smoothness_of_a_quadratic_is_its_curvature(curvature: float) -> None:
    bowl = Bowl(curvature)
    start = bowl.model.weight.detach().clone()
    gradient = curvature * start.flatten()
    end = start - 0.1 * curvature * start
    batch = {"volume": torch.zeros(1, 4), "label": torch.zeros(1)}
    result = probe(bowl, batch, [start], [end], gradient)  # type: ignore[arg-type]
    assert result["beta"] == pytest.approx(curvature, rel=1e-4)
    norm = float(start.norm())
    assert result["change_high"] == pytest.approx(
        curvature * max(RATES) * 0.1 * curvature * norm, rel=1e-4
    )
    losses = [0.5 * curvature * (norm * (1 - r * 0.1 * curvature)) ** 2 for r in RATES]
    assert result["low"] == pytest.approx(min(losses), rel=1e-4)
    assert result["high"] == pytest.approx(max(losses), rel=1e-4)


def test_a_network_without_norms_passes_by_them() -> None:
    layer = nn.Sequential(nn.GroupNorm(2, 4))
    x = 3 + torch.randn(3, 4, 5, 5, 5)
    with disturbed(layer, "without norms", 1.0, torch.Generator()):
        assert torch.equal(layer(x), x)
    assert not torch.equal(layer(x), x)


def test_a_norm_helps_in_the_period_in_which_it_is_smoother() -> None:
    without = {"bands": {"beta": [2.0] * 6}}
    entry = {"bands": {"beta": [1.0, 1.0, 2.0, 2.0, 8.0, 8.0]}}
    assert periods(entry, without) == pytest.approx([0.5, 1, 4])
    assert periods(entry, {"bands": {}}) == []


def test_noise_is_drawn_per_sample_and_group_and_then_removed() -> None:
    layer = nn.Sequential(nn.GroupNorm(2, 4))
    x = torch.randn(3, 4, 5, 5, 5)
    plain = layer(x)
    with disturbed(layer, "noise", 1.0, torch.Generator().manual_seed(0)):
        added = layer(x) - plain
    assert torch.allclose(added, added[:, :, :1, :1, :1].expand_as(added), atol=1e-5)
    assert torch.allclose(added[:, 0], added[:, 1], atol=1e-5)
    assert not torch.allclose(added[:, 1], added[:, 2], atol=1e-2)
    assert torch.equal(layer(x), plain)


@pytest.mark.parametrize(("norm", "groups"), [("batch_group", None), ("batch_group", 64)])
def test_noise_after_norms_with_groups_across_the_batch(norm: str, groups: int | None) -> None:
    model = build_model(ModelConfig(backbone="tiny", norm=norm, groups=groups), seed=0).train()
    x = torch.randn(2, 1, 16, 16, 16)
    with disturbed(model, "noise", 1.0, torch.Generator().manual_seed(0)):
        added = model(x)
    assert added.isfinite().all()
    assert not torch.allclose(added, model(x), atol=1e-2)


def test_probing_restores_running_statistics() -> None:
    class One:
        model = build_model(ModelConfig(backbone="tiny", norm="batch"), seed=0).train()

        def outputs(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
            return self.model(batch["volume"])

        def loss(self, output: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
            return output.square().mean()

    one = One()
    weights = [p.detach().clone() for p in one.model.parameters()]
    before = {n: b.clone() for n, b in one.model.named_buffers()}
    batch = {"volume": torch.randn(2, 1, 8, 8, 8), "label": torch.zeros(2)}
    size = sum(w.numel() for w in weights)
    probe(one, batch, weights, [w + 0.01 for w in weights], torch.zeros(size))  # type: ignore[arg-type]
    assert before
    assert all(torch.equal(b, before[n]) for n, b in one.model.named_buffers())


@pytest.mark.slow
def test_the_command_measures_dynamics(cohort: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = [
        "--norms",
        "group",
        "batch",
        "--batch-sizes",
        "2",
        "4",
        "--seeds",
        "1",
        "--epochs",
        "1",
    ]
    options += [
        "--folds",
        "1",
        "--dynamics",
        "--dynamics-steps",
        "3",
        "--dynamics-batches",
        "2",
        "4",
    ]
    assert main(["compare", str(cohort), str(out), *TRAIN, *options]) == 0
    sizes = json.loads((out / "compare.json").read_text())["dynamics"]["sizes"]
    assert list(sizes) == ["2", "4"]
    lines = sizes["2"]
    assert list(lines) == ["group", "batch", "without norms"]
    assert lines["without norms"]["periods"] == pytest.approx([1, 1, 1])
    assert all(ratio > 0 for ratio in lines["group"]["periods"])
    bands = lines["batch"]["bands"]
    assert len(bands["beta"]) == 20
    assert all(low <= high for low, high in zip(bands["low"], bands["high"], strict=True))
    assert set(lines["group"]["noise"]) == {"0", "0.5", "1.001"}
    page = (out / "index.html").read_text()
    assert "effective beta-smoothness" in page
    assert "mathdefault" not in page, "TeX on an axis"


def test_the_figure_has_a_column_for_each_batch_size() -> None:
    bands = {name: [0.1, 0.2, 0.4] for name in ("low", "change_high", "beta")}
    entry = {"steps": 30, "bands": {"step": [0, 10, 20], "high": [1.0, 1.0, 1.0], **bands}}
    drawn = dynamics({"1": {"group": entry, "batch": entry}, "8": {"group": {"bands": {}}}})
    one = dynamics({"1": {"group": entry, "batch": entry}})
    assert drawn.startswith("<svg") and drawn.count("clip") > one.count("clip")
