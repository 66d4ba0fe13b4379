"""The benchmarks at their quick sizes: what they write and what they say of it."""

import json

import pytest
import torch

from models.base import count_parameters
from models.norms import GroupNorm
from pipeline import bench_norm, bench_step, cli, engine, timing
from pipeline.bench import PARTS, Bench, markdown


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """speed.json and speed.md of all parts, measured one after the other."""
    out = tmp_path_factory.mktemp("speed")
    for what in PARTS:
        assert cli.main(["bench", what, "--quick", "--rounds", "2", "--out", str(out)]) == 0
    return out


def test_norm_measures_everyone_on_every_shape(folder) -> None:
    part = json.loads((folder / "speed.json").read_text())["norm"]
    assert len(part["rows"]) == len(bench_norm.QUICK) * len(bench_norm.LAYOUTS)
    for row in part["rows"]:
        assert {"fused", "eager", "autocast"} <= row["stream_ms"].keys()
        for time in row["stream_ms"].values():
            assert 0 < time["low"] <= time["median"] <= time["high"]
        times = row["graph_ms"] or row["stream_ms"]
        ratio = times["eager"]["median"] / times["fused"]["median"]
        assert row["times_faster_than"]["eager"] == pytest.approx(ratio)
        assert row["same_bits_again"]
        assert max(row["error"].values()) < 1e-2  # bf16
    assert part["copy_bandwidth_gb_s"] > 0


def test_bandwidth_counts_eight_passes(folder) -> None:
    part = json.loads((folder / "speed.json").read_text())["norm"]
    row = part["rows"][0]
    seconds = (row["graph_ms"] or row["stream_ms"])["fused"]["median"] / 1e3
    moved = 8 * 2 * torch.Size(row["shape"]).numel()
    assert row["gb_s"] == pytest.approx(moved / seconds / 1e9)
    assert row["of_copy_bandwidth"] == pytest.approx(row["gb_s"] / part["copy_bandwidth_gb_s"])


def test_the_page_says_what_was_measured_and_what_was_not(folder) -> None:
    page = (folder / "speed.md").read_text()
    parts = json.loads((folder / "speed.json").read_text())
    assert page == markdown(parts)
    for part in parts.values():
        assert part["device"] in page
        assert part["versions"]["torch"] in page
        assert part["date"] in page
        assert part["command"] in page
    assert parts["norm"]["implementation"] == "plain"
    assert "These are not the kernels" in page
    assert page.count("No GPU has run it yet") == 2
    measured = {name: {**part, "implementation": "kernels"} for name, part in parts.items()}
    assert "No GPU has run it yet" not in markdown(measured)
    assert markdown({}).count("Not measured yet") == len(PARTS)


def test_data_compares_the_same_epoch(folder) -> None:
    part = json.loads((folder / "speed.json").read_text())["data"]
    assert [row["source"].split()[0] for row in part["rows"]] == ["uncus", "monai", "monai"]
    for row in part["rows"]:
        assert row["scans_a_second"] == pytest.approx(1e3 / row["ms"]["median"])
    assert 0 < part["augment_ms"]["median"] < part["rows"][0]["ms"]["high"]


def test_predict_names_its_stages(folder) -> None:
    part = json.loads((folder / "speed.json").read_text())["predict"]
    stages = part["stages_ms"]
    assert {"read", "place on the grid", "network, torch", "Grad-CAM"} <= stages.keys()
    assert all(0 < ms["low"] <= ms["median"] for ms in stages.values())
    assert part["network_gflop"] > 0 and part["matrix_gflop_s"] > 0
    if "network, openvino" in stages:
        assert part["difference"] < engine.AGREE
        ratio = stages["network, torch"]["median"] / stages["network, openvino"]["median"]
        assert part["openvino_times_faster"] == pytest.approx(ratio)


@pytest.mark.parametrize("depth", [18, 50])
def test_the_two_networks_have_one_shape_and_only_group_norm(depth: int) -> None:
    ours, theirs = bench_step.ours(depth, 8), bench_step.monai(depth, 8)
    assert count_parameters(ours) == count_parameters(theirs)
    for network in (ours, theirs):
        norms = [type(m) for m in network.modules() if "Norm" in type(m).__name__]
        assert set(norms) == {GroupNorm}
        assert len(norms) == {18: 20, 50: 53}[depth]


def test_json_goes_to_stdout(capsys) -> None:
    assert Bench("norm", quick=True, rounds=2, as_json=True).run() == 0
    assert json.loads(capsys.readouterr().out)["passes"] == 8


def test_median_and_quartiles() -> None:
    got = timing.Timing.of([1.0, 2.0, 3.0, 4.0, 100.0])
    assert (got.median, got.rounds) == (3.0, 5)
    assert got.low < 3.0 < got.high
    calls: list[str] = []
    works = {name: (lambda name=name: calls.append(name)) for name in "ab"}
    timing.measure(works, torch.device("cpu"), rounds=2)
    assert calls == ["a", "b"] * 4  # two rounds of warming up, interleaved


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["norm", "--rounds", "1"], "quartiles need at least 2"),
        (["norm", "--device", "abacus"], "--device abacus"),
    ],
)
def test_refuses(arguments, message, capsys) -> None:
    assert cli.main(["bench", *arguments]) == 2
    assert message in capsys.readouterr().err
