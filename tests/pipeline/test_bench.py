"""``uncus bench`` at its quick sizes."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.pipeline.conftest import parts_of
from uncus.pipeline import bench, cli
from uncus.pipeline.bench import Bench, store
from uncus.pipeline.benchmark import norm
from uncus.pipeline.benchmark.journal import NAME

ROOT = Path(__file__).parents[2]


def command(out: Path, *options: str) -> list[str]:
    """Arguments that measure the part norm quickly."""
    return ["bench", "norm", "--quick", "--rounds", "2", "--out", str(out), *options]


@pytest.fixture
def calls(monkeypatch) -> list[dict]:
    """The cases of the part norm that are measured, in order."""
    cases: list[dict] = []
    measured = norm.measure

    def recorded(case, device, rounds):
        cases.append(case)
        return measured(case, device, rounds)

    monkeypatch.setattr(norm, "measure", recorded)
    return cases


def test_results_of_other_devices_are_kept(speed_folder, tmp_path) -> None:
    (tmp_path / "speed.json").write_text('{"norm": {"rows": []}}')  # another format
    part = parts_of(speed_folder)["norm"]
    store(tmp_path, "norm", "gpu", part)
    store(tmp_path, "norm", "cpu", {**part, "device": "abacus"})
    results = json.loads((tmp_path / "speed.json").read_text())
    assert [one["device"] for one in results["norm"].values()] == [part["device"], "abacus"]


def test_failures_are_reported_and_retried_last(tmp_path, monkeypatch, capsys) -> None:
    measured = norm.measure
    calls: list[dict] = []
    memory = {"short": True}

    def short_of_memory(case, device, rounds):
        calls.append(case)
        if memory["short"] and case.get("layout") == "contiguous":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB")
        return measured(case, device, rounds)

    monkeypatch.setattr(norm, "measure", short_of_memory)
    assert cli.main(command(tmp_path)) == 1
    assert "Tried to allocate 9 GiB" in capsys.readouterr().err
    assert "Tried to allocate 9 GiB" in (tmp_path / "speed.md").read_text()
    layouts = [row["layout"] for row in parts_of(tmp_path)["norm"]["rows"]]
    assert layouts == ["channels_last"] * len(norm.QUICK)
    lines = (tmp_path / NAME).read_text().splitlines()
    last = next(line for line in lines if "channels_last" in line)
    (tmp_path / NAME).write_text("\n".join(line for line in lines if line != last) + "\n")
    calls.clear()
    memory["short"] = False
    assert cli.main(command(tmp_path)) == 0
    assert [case["layout"] for case in calls] == ["channels_last", "contiguous", "contiguous"]
    assert "9 GiB" not in (tmp_path / "speed.md").read_text()
    assert len(parts_of(tmp_path)["norm"]["rows"]) == len(norm.QUICK) * len(norm.LAYOUTS)
    assert not (tmp_path / NAME).exists()


def test_an_interrupted_benchmark_goes_on(speed_folder, tmp_path, monkeypatch) -> None:
    """Interrupted in its third case: the first two are reported, and not measured again."""
    cases = norm.cases(torch.device("cpu"), True)
    measured = norm.measure
    calls: list[dict] = []

    def killed(case, device, rounds):
        calls.append(case)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return measured(case, device, rounds)

    monkeypatch.setattr(norm, "measure", killed)
    assert cli.main(command(tmp_path)) == 130
    assert [row["shape"] for row in parts_of(tmp_path)["norm"]["rows"]] == [cases[1]["shape"]]
    assert "2 of 5 cases are measured so far" in (tmp_path / "speed.md").read_text()
    assert cli.main(command(tmp_path)) == 0
    assert calls == [*cases[:3], *cases[2:]]
    assert not (tmp_path / NAME).exists()
    assert len(parts_of(tmp_path)["norm"]["rows"]) == len(cases) - 1
    assert "so far" not in (tmp_path / "speed.md").read_text()


def test_a_killed_benchmark_goes_on(tmp_path, calls) -> None:
    arguments = [sys.executable, "-m", "uncus", *command(tmp_path), "--device", "cpu"]
    process = subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.DEVNULL)
    journal = tmp_path / NAME
    while process.poll() is None and not (journal.exists() and journal.stat().st_size):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    done = len(journal.read_text().splitlines())
    assert cli.main([*command(tmp_path), "--device", "cpu"]) == 0
    # It may have been killed in the middle of a line.
    assert len(calls) in {5 - done, 5 - done + 1}
    assert parts_of(tmp_path)["norm"]["measured"] == 5


def test_time_that_is_over_ends_a_call_before_its_next_case(
    tmp_path, calls, monkeypatch, capsys
) -> None:
    now = {"s": 1000.0}
    measured = norm.measure

    def slow(case, device, rounds):
        now["s"] += 100.0 if "shape" in case else 1.0
        return measured(case, device, rounds)

    monkeypatch.setattr(bench.time, "monotonic", lambda: now["s"])
    monkeypatch.setattr(norm, "measure", slow)
    assert cli.main(command(tmp_path, "--seconds", "250")) == 0
    assert len(calls) == 3  # 201 s; another 100 would end too late
    captured = capsys.readouterr()
    assert "201 of 250 s are over" in captured.err
    assert captured.out.count("16x12x12x12") == 2
    part = parts_of(tmp_path)["norm"]
    assert (part["measured"], part["cases"], len(part["rows"])) == (3, 5, 2)
    assert "--seconds" not in part["command"]
    assert cli.main(command(tmp_path, "--seconds", "1000")) == 0
    assert len(calls) == 5
    assert cli.main(command(tmp_path, "--seconds", "1000")) == 0
    assert len(calls) == 5, "what --seconds has measured is kept for the next call"
    assert cli.main(command(tmp_path)) == 0
    assert len(calls) == 5
    assert not (tmp_path / NAME).exists()


def test_only_what_is_stale_is_measured_again(tmp_path, calls, monkeypatch) -> None:
    """Settings of one layout change: its rows stand, marked, until they are measured again."""
    assert cli.main(command(tmp_path, "--seconds", "1000")) == 0
    before = parts_of(tmp_path)["norm"]
    assert before["stale"] == []
    depends = norm.depends

    def changed(case, device):
        return {**depends(case, device), "tile": case.get("layout") == "channels_last"}

    monkeypatch.setattr(norm, "depends", lambda case, device: {**changed(case, device), "more": 0})
    calls.clear()
    assert cli.main(command(tmp_path, "--seconds", "0.001")) == 0  # time for nothing
    part = parts_of(tmp_path)["norm"]
    assert (calls, part["rows"]) == ([], before["rows"])
    assert len(part["stale"]) == part["cases"] == 5
    assert "other code or kernel settings than now: copy_gb" in (tmp_path / "speed.md").read_text()
    monkeypatch.setattr(norm, "depends", depends)  # back again: nothing is lost
    assert cli.main(command(tmp_path, "--seconds", "0.001")) == 0
    assert parts_of(tmp_path)["norm"] == before
    monkeypatch.setattr(
        norm, "depends", lambda c, d: changed(c, d) if changed(c, d)["tile"] else depends(c, d)
    )
    assert cli.main(command(tmp_path, "--seconds", "1000")) == 0
    assert [case["layout"] for case in calls] == ["channels_last"] * len(norm.QUICK)
    assert parts_of(tmp_path)["norm"]["stale"] == []


def test_a_benchmark_that_has_begun_replaces_no_finished_one(speed_folder, tmp_path) -> None:
    part = parts_of(speed_folder)["norm"]
    store(tmp_path, "norm", "cpu", part)
    store(tmp_path, "norm", "cpu", {**part, "measured": 3, "device": "abacus"})
    assert parts_of(tmp_path)["norm"]["device"] == part["device"]
    store(tmp_path, "norm", "cpu", {**part, "measured": 3, "cases": 3, "device": "abacus"})
    assert parts_of(tmp_path)["norm"]["device"] == "abacus"


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
    assert json.loads(capsys.readouterr().out)["norm"]["measured"] == 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["norm", "--rounds", "1"], "quartiles need at least 2"),
        (["norm", "--device", "abacus"], "--device abacus"),
        (["norm", "--seconds", "-1"], "--seconds -1: must be above 0"),
    ],
)
def test_refuses(arguments, message, capsys) -> None:
    assert cli.main(["bench", *arguments]) == 2
    assert message in capsys.readouterr().err
