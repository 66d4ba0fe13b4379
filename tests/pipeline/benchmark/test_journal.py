"""Interrupted benchmarks resume."""

import torch

from tests.pipeline.conftest import parts_of
from uncus.pipeline import cli
from uncus.pipeline.benchmark import norm
from uncus.pipeline.benchmark.journal import NAME, Journal


def test_an_interrupted_benchmark_resumes(speed_folder, tmp_path, monkeypatch, capsys) -> None:
    """Interrupted in its third case, and once more in the middle of writing a line."""
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


def test_results_under_other_conditions_are_not_reused(tmp_path) -> None:
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
