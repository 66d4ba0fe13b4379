"""The benchmarks at their quick sizes: what they write and what they say of it."""

import json

import pytest
import torch

from uncus.models.base import count_parameters
from uncus.models.norms.registry import GroupNorm
from uncus.pipeline import bench, cli, timing
from uncus.pipeline.bench import PARTS, Bench, keep
from uncus.pipeline.benchmark import norm, step, tune
from uncus.pipeline.benchmark.aims import AIMS, aims
from uncus.pipeline.benchmark.journal import NAME, Journal
from uncus.pipeline.benchmark.page import markdown
from uncus.pipeline.prediction import openvino_engine


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """speed.json and speed.md of all that a CPU has, by one command."""
    out = tmp_path_factory.mktemp("speed")
    assert (
        cli.main(["bench", "--device", "cpu", "--quick", "--rounds", "2", "--out", str(out)]) == 0
    )
    assert {path.name for path in out.iterdir()} == {"speed.json", "speed.md"}
    return out


def parts_of(folder) -> dict:
    """What was measured on a CPU."""
    found = json.loads((folder / "speed.json").read_text())
    return {name: part["cpu"] for name, part in found.items() if name != "format"}


def test_norm_measures_everyone_on_every_shape(folder) -> None:
    part = parts_of(folder)["norm"]
    assert len(part["rows"]) == len(norm.QUICK) * len(norm.LAYOUTS)
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
    part = parts_of(folder)["norm"]
    row = part["rows"][0]
    seconds = (row["graph_ms"] or row["stream_ms"])["fused"]["median"] / 1e3
    moved = 8 * 2 * torch.Size(row["shape"]).numel()
    assert row["gb_s"] == pytest.approx(moved / seconds / 1e9)
    assert row["of_copy_bandwidth"] == pytest.approx(row["gb_s"] / part["copy_bandwidth_gb_s"])


def test_the_page_says_what_was_measured_and_what_was_not(folder) -> None:
    page = (folder / "speed.md").read_text()
    found = json.loads((folder / "speed.json").read_text())
    assert page == markdown(found)
    parts = parts_of(folder)
    assert parts.keys() == set(PARTS) - {"tune"}
    for part in parts.values():
        assert part["device"] in page
        assert part["versions"]["torch"] in page
        assert part["date"] in page
        assert part["command"] in page
    assert parts["norm"]["kernels"] is None
    assert "These are not the kernels" in page
    assert "No GPU has run this yet" in page
    both = {name: {"cpu": part, "gpu": {**part, "device": "H1"}} for name, part in parts.items()}
    assert "No GPU has run this yet" not in markdown(both)
    assert markdown(both).count("\nH1; ") == len(parts)
    assert markdown({}).count("Not measured yet") == len(PARTS)


def test_what_was_measured_elsewhere_is_kept(folder, tmp_path) -> None:
    (tmp_path / "speed.json").write_text('{"norm": {"rows": []}}')  # of another form
    part = parts_of(folder)["norm"]
    keep(tmp_path, "norm", "gpu", part)
    keep(tmp_path, "norm", "cpu", {**part, "device": "abacus"})
    found = json.loads((tmp_path / "speed.json").read_text())
    assert [one["device"] for one in found["norm"].values()] == [part["device"], "abacus"]


def test_aims_name_the_worst_of_what_was_measured(folder) -> None:
    measured = parts_of(folder)
    parts = {name: {"cpu": part, "gpu": part} for name, part in measured.items()}
    assert {row[3] for row in aims(parts)[1:]} == {"not measured"}  # quick runs show nothing
    ms = {"low": 1.0, "high": 1.0}
    for part in measured.values():
        part["command"] = "uncus bench"
    measured["norm"]["rows"] = [
        {"shape": [n, 8, size, size, size], "times_faster_than": times, "of_copy_bandwidth": share}
        for n, size, times, share in (
            (1, 9, {"eager": 5.0, "compiled": 1.5}, 0.65),
            (1, 8, {"eager": 4.5, "compiled": 1.4}, 0.9),
            (2, 4, {"eager": 2.0, "compiled": 1.2}, 0.9),
        )
    ]
    times = {"uncus": 10, "uncus, augmented": 10.4, "uncus graphs": 8, "monai": 20}
    measured["step"]["rows"] = [
        {
            "depth": depth,
            "batch": 1,
            "volume": [128, 128, 128],
            "network": network,
            "step_ms": {**ms, "median": time * depth},
            "peak_mib": 100 if network == "monai" else 70,
        }
        for depth in (18, 50)
        for network, time in {**times, "monai compiled": 9}.items()
    ]
    got = {row[0]: row[2:] for row in aims(parts)[1:]}
    assert len(got) == len(AIMS)
    assert list(got.values())[:7] == [
        ["4.5 x", "yes"],
        ["1.2 x", "no"],
        ["65%", "no"],
        ["2 x", "yes"],
        ["1.12 x", "yes"],
        ["0.7", "yes"],
        ["4%", "yes"],
    ]
    assert all(row[1] in {"yes", "no"} for row in list(got.values())[7:])
    only_cpu = {name: {"cpu": part} for name, part in measured.items()}
    assert [row[3] for row in aims(only_cpu)[1:8]] == ["not measured"] * 7


def test_a_run_that_was_cut_off_goes_on(folder, tmp_path, monkeypatch, capsys) -> None:
    """Killed in its third case, and once more in the middle of writing a line."""
    calls: list[dict] = []
    measured = norm.measure

    def killed(case, device, rounds):
        calls.append(case)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return measured(case, device, rounds)

    monkeypatch.setattr(norm, "measure", killed)
    again = ["bench", "norm", "--quick", "--rounds", "2", "--out", str(tmp_path)]
    assert cli.main(again) != 0
    assert not (tmp_path / "speed.json").exists()
    with (tmp_path / NAME).open("a") as file:
        file.write('{"facts": {"device"')
    assert cli.main(again) == 0
    cases = norm.cases(torch.device("cpu"), True)
    assert calls == [*cases[:3], *cases[2:]]
    assert not (tmp_path / NAME).exists()
    rows = parts_of(tmp_path)["norm"]["rows"]
    assert [row["shape"] for row in rows] == [case["shape"] for case in cases[1:]]


def test_other_facts_are_another_measurement(tmp_path) -> None:
    two, three = (Journal(tmp_path, {"rounds": rounds}) for rounds in (2, 3))
    two.add({"a": 1, "b": 2}, {"ms": 3})
    assert Journal(tmp_path, {"rounds": 2}).row({"b": 2, "a": 1}) == {"ms": 3}
    assert Journal(tmp_path, {"rounds": 3}).row({"a": 1, "b": 2}) is None
    three.add({"a": 1}, {"ms": 4})
    two.discard()
    assert Journal(tmp_path, {"rounds": 2}).rows == {}
    assert Journal(tmp_path, {"rounds": 3}).row({"a": 1}) == {"ms": 4}
    three.discard()
    assert not (tmp_path / NAME).exists()


def test_what_fails_is_told_and_tried_again(tmp_path, monkeypatch, capsys) -> None:
    measured = norm.measure
    calls: list[dict] = []
    memory = {"short": True}

    def short_of_memory(case, device, rounds):
        calls.append(case)
        if memory["short"] and case.get("layout") == "channels_last":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB")
        return measured(case, device, rounds)

    monkeypatch.setattr(norm, "measure", short_of_memory)
    command = ["bench", "norm", "--quick", "--rounds", "2", "--out", str(tmp_path)]
    assert cli.main(command) == 1
    assert "Tried to allocate 9 GiB" in capsys.readouterr().err
    assert "Tried to allocate 9 GiB" in (tmp_path / "speed.md").read_text()
    layouts = [row["layout"] for row in parts_of(tmp_path)["norm"]["rows"]]
    assert layouts == ["contiguous"] * len(norm.QUICK)
    calls.clear()
    memory["short"] = False
    assert cli.main(command) == 0
    assert {case["layout"] for case in calls} == {"channels_last"}
    assert "9 GiB" not in (tmp_path / "speed.md").read_text()
    rows = parts_of(tmp_path)["norm"]["rows"]
    assert len(rows) == len(norm.QUICK) * len(norm.LAYOUTS)
    assert not (tmp_path / NAME).exists()


def test_a_part_that_cannot_be_measured_does_not_cost_the_next(
    tmp_path, monkeypatch, capsys
) -> None:
    def broken(*arguments):
        raise RuntimeError("no copying here")

    monkeypatch.setattr(norm, "copy_bandwidth", broken)
    monkeypatch.setattr(bench, "PARTS", ("norm", "data"))
    assert cli.main(["bench", "--quick", "--rounds", "2", "--out", str(tmp_path)]) == 1
    assert "no copying here" in capsys.readouterr().err
    assert parts_of(tmp_path).keys() == {"data"}


def test_a_contestant_that_cannot_run_is_left_out(monkeypatch) -> None:
    contestants = norm._contestants

    class Refused(torch.nn.Module):
        def forward(self, x):
            raise RuntimeError("no C compiler")

    def with_one_more(shape, device):
        yield from contestants(shape, device)
        yield "compiled", Refused()

    monkeypatch.setattr(norm, "_contestants", with_one_more)
    cpu = torch.device("cpu")
    cases = norm.cases(cpu, True)[:2]
    part = norm.gather([(case, norm.measure(case, cpu, 2)) for case in cases])
    (row,) = part["rows"]
    assert row["left_out"] == {"compiled": "RuntimeError: no C compiler"}
    assert row["stream_ms"].keys() == {"fused", "eager", "autocast"}
    assert "no C compiler" in "\n".join(norm.remarks({**part, "kernels": None}))


def test_tuning_ends_where_no_single_change_is_faster() -> None:
    tried: list[tuple[int, int]] = []

    def cost(point: dict[str, int]) -> float:
        tried.append((point["a"], point["b"]))
        return 1 + (point["a"] - 4) ** 2 + 0.1 * (point["b"] - point["a"]) ** 2

    grid = {"a": (1, 2, 4, 8), "b": (1, 2, 4, 8)}
    assert tune.search(cost, {"a": 1, "b": 1}, grid) == {"a": 4, "b": 4}
    assert len(tried) == len(set(tried))
    assert tune.search(lambda point: 1.0, {"a": 2, "b": 8}, grid) == {"a": 2, "b": 8}


def test_tuning_needs_kernels(capsys) -> None:
    assert cli.main(["bench", "tune", "--device", "cpu"]) == 2
    assert "use a GPU" in capsys.readouterr().err


def test_a_step_is_held_against_the_rate_of_matrix_products(folder) -> None:
    part = parts_of(folder)["step"]
    ours = next(row for row in part["rows"] if row["network"] == "uncus")
    assert ours["flop"] > 1e6
    for row in part["rows"]:
        rate = ours["flop"] / row["step_ms"]["median"] / 1e9
        assert row["of_matrix_rate"] == pytest.approx(rate / part["matrix_tflop_s"])
        assert row["parameters"] == ours["parameters"]


def test_data_compares_the_same_epoch(folder) -> None:
    part = parts_of(folder)["data"]
    assert [row["source"].split()[0] for row in part["rows"]] == ["uncus", "monai", "monai"]
    for row in part["rows"]:
        assert row["scans_a_second"] == pytest.approx(1e3 / row["ms"]["median"])
    assert 0 < part["augment_ms"]["median"] < part["rows"][0]["ms"]["high"]


def test_predict_names_its_stages(folder) -> None:
    part = parts_of(folder)["predict"]
    stages = part["stages_ms"]
    assert {"read", "place on the grid", "network, torch", "Grad-CAM"} <= stages.keys()
    assert all(0 < ms["low"] <= ms["median"] for ms in stages.values())
    assert part["network_gflop"] > 0 and part["matrix_gflop_s"] > 0
    if "network, openvino" in stages:
        assert part["difference"] < openvino_engine.AGREE["openvino"]
        assert part["difference"] < part["bf16_difference"] < openvino_engine.AGREE["openvino-bf16"]
        slower = stages["network, openvino-bf16"]["median"] / stages["network, openvino"]["median"]
        assert part["bf16_times_slower"] == pytest.approx(slower)
        ratio = stages["network, torch"]["median"] / stages["network, openvino"]["median"]
        assert part["openvino_times_faster"] == pytest.approx(ratio)


@pytest.mark.parametrize("depth", [18, 50])
def test_the_two_networks_have_one_shape_and_only_group_norm(depth: int) -> None:
    ours, theirs = step.ours(depth, 8), step.monai(depth, 8)
    assert count_parameters(ours) == count_parameters(theirs)
    for network in (ours, theirs):
        norms = [type(m) for m in network.modules() if "Norm" in type(m).__name__]
        assert set(norms) == {GroupNorm}
        assert len(norms) == {18: 20, 50: 53}[depth]


def test_json_goes_to_stdout(capsys) -> None:
    assert Bench("norm", quick=True, rounds=2, as_json=True).run() == 0
    assert json.loads(capsys.readouterr().out)["norm"]["passes"] == 8


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
