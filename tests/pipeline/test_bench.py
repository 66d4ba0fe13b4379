"""``uncus bench`` at its quick sizes."""

import json

import pytest
import torch

from tests.pipeline.conftest import parts_of
from uncus.pipeline import bench, cli
from uncus.pipeline.bench import Bench, store
from uncus.pipeline.benchmark import norm
from uncus.pipeline.benchmark.journal import NAME


def test_results_of_other_devices_are_kept(speed_folder, tmp_path) -> None:
    (tmp_path / "speed.json").write_text('{"norm": {"rows": []}}')  # another format
    part = parts_of(speed_folder)["norm"]
    store(tmp_path, "norm", "gpu", part)
    store(tmp_path, "norm", "cpu", {**part, "device": "abacus"})
    results = json.loads((tmp_path / "speed.json").read_text())
    assert [one["device"] for one in results["norm"].values()] == [part["device"], "abacus"]


def test_failures_are_reported_and_retried(tmp_path, monkeypatch, capsys) -> None:
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


def test_a_failing_part_does_not_stop_the_next(tmp_path, monkeypatch, capsys) -> None:
    def broken(*arguments):
        raise RuntimeError("no copying here")

    monkeypatch.setattr(norm, "copy_bandwidth", broken)
    monkeypatch.setattr(bench, "PARTS", ("norm", "data"))
    assert cli.main(["bench", "--quick", "--rounds", "2", "--out", str(tmp_path)]) == 1
    assert "no copying here" in capsys.readouterr().err
    assert parts_of(tmp_path).keys() == {"data"}


def test_json_goes_to_stdout(capsys) -> None:
    assert Bench("norm", quick=True, rounds=2, as_json=True).run() == 0
    assert json.loads(capsys.readouterr().out)["norm"]["passes"] == 8


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
