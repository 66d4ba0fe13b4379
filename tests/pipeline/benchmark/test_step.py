"""A training step at the quick size."""

import pytest
import torch

from tests.pipeline.conftest import parts_of
from uncus.models.base import count_parameters
from uncus.models.build import build_model
from uncus.models.norms import GroupNorm
from uncus.pipeline import cli
from uncus.pipeline.benchmark import step

GPU, CPU = torch.device("cuda"), torch.device("cpu")


def test_a_step_is_compared_with_the_rate_of_matrix_products(speed_folder) -> None:
    part = parts_of(speed_folder)["step"]
    names = [row["network"] for row in part["rows"]]
    assert {"uncus", "monai", "uncus, augmented", "uncus, bare", "uncus again"} <= {*names}
    assert names == [name for name in step.IMPLEMENTATIONS if name in names]
    for row in part["rows"]:
        assert row["flop"] > 1e6
        rate = row["flop"] / row["step_ms"]["median"] / 1e9
        assert row["of_matrix_rate"] == pytest.approx(rate / part["matrix_tflop_s"])
        assert row["parameters"] == part["rows"][0]["parameters"]


def test_operations_are_those_of_the_convolutions() -> None:
    one, two = (step.operations(18, 8, batch, (16, 16, 16)) for batch in (1, 2))
    assert two == 2 * one
    # The stem, 7^3 taps of 1 channel to 8, at half the resolution: forward and its weights'
    # gradient, 2 operations per product.
    stem = 2 * 2 * 7**3 * 8 * 8**3
    assert stem < one < 100 * stem


@pytest.mark.parametrize("depth", [18, 50])
def test_both_networks_have_one_shape_and_only_group_norm(depth: int) -> None:
    ours, theirs = build_model(step.config(depth, 8), seed=0), step.monai(depth, 8)
    assert count_parameters(ours) == count_parameters(theirs)
    for network in (ours, theirs):
        norms = [type(m) for m in network.modules() if "Norm" in type(m).__name__]
        assert set(norms) == {GroupNorm}
        assert len(norms) == {18: 20, 50: 53}[depth]


def test_the_most_valuable_cases_come_first() -> None:
    rate, *cases = step.cases(GPU, quick=False)
    assert rate["matrix_product"] == "bfloat16"
    aimed = [(18, 1), (50, 1), (18, 2), (50, 2)]
    both = [(depth, batch, name) for depth, batch in aimed for name in ("uncus", "monai")]
    assert [(c["depth"], c["batch"], c["network"]) for c in cases[:8]] == both
    assert all(case["volume"] == [128, 128, 128] for case in cases[:40])
    sizes = [tuple(case["volume"]) for case in cases]
    assert sizes.index((96, 96, 96)) < sizes.index((160, 192, 160))
    names = [case["network"] for case in cases]
    assert names[8:20] == ["uncus, augmented", "uncus, bare"] * 4 + ["monai compiled"] * 4
    assert names.index("monai compiled") < names.index("uncus --memory low")
    assert len({str(case) for case in cases}) == len(cases)
    assert not any(
        "compile" in name or "graphs" in name
        for name in (case.get("network", "") for case in step.cases(CPU, quick=False))
    )


def test_a_peer_that_cannot_be_compiled_costs_its_row(monkeypatch, tmp_path, capsys) -> None:
    tiers = (step.TIERS[0], {"monai compiled": step.peer(compiled="no such mode")})
    monkeypatch.setattr(step, "TIERS", tiers)
    monkeypatch.setattr(step, "IMPLEMENTATIONS", tiers[0] | tiers[1])
    monkeypatch.setattr(step, "needs_gpu", lambda one: False)
    assert cli.main(["bench", "step", "--quick", "--rounds", "2", "--out", str(tmp_path)]) == 1
    part = parts_of(tmp_path)["step"]
    assert [row["network"] for row in part["rows"]] == ["uncus", "monai"]
    (failed,) = part["failed"]
    assert failed["case"]["network"] == "monai compiled" and "no such mode" in failed["why"]
    page = (tmp_path / "speed.md").read_text()
    assert "network monai compiled: RuntimeError: Unrecognized mode=no such mode" in page


def test_memory_is_compared_with_the_same_kind_of_memory() -> None:
    eager = {"peak_mib": 100.0, "reserved_mib": 150.0, "graphs": False}
    graphs = {"peak_mib": 10.0, "reserved_mib": 120.0, "graphs": True}
    assert step.memory_ratio(eager, {**eager, "peak_mib": 200.0}) == 0.5
    assert step.memory_ratio(graphs, eager) == 0.8
    assert step.memory_ratio({**eager, "peak_mib": None}, eager) is None


def test_options_that_are_faster_than_the_defaults_are_named() -> None:
    def row(network: str, low: float) -> dict:
        times = {"low": low, "median": low + 1, "high": low + 2}
        return {"network": network, "step_ms": times, "depth": 18, "batch": 1, "volume": [8]}

    rows = [
        row("uncus", 20),
        row("uncus --compile", 9),
        row("uncus --no-graphs", 19),
        row("monai", 5),
    ]
    line = "Faster than the defaults: `uncus --compile`, 2.10 times for ResNet-18 at batch 1."
    assert step._faster(rows) == [line]


def test_torch_is_left_as_it_was() -> None:
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    with step.algorithms_kept():
        step.choose_algorithms(step.Implementation(cudnn_benchmark=True))
        assert torch.are_deterministic_algorithms_enabled() and torch.backends.cudnn.benchmark
    assert before == (torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark)
