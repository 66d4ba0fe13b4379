"""The log of a run."""

import re
from pathlib import Path

import pytest

from tests.conftest import TRAIN
from uncus.pipeline.cli import main
from uncus.pipeline.run_files import log
from uncus.pipeline.runs import Run

TIME = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  ")


def lines_of(path: Path) -> list[str]:
    """The lines of a log without their times."""
    lines = path.read_text().splitlines()
    assert all(TIME.match(line) for line in lines)
    return [TIME.sub("", line, count=1) for line in lines]


def test_a_run_keeps_its_calls_epochs_and_messages(
    cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    command = ["train", str(cohort), str(out), *TRAIN, "--epochs", "2"]
    assert main(command) == 0
    printed = capsys.readouterr().out.splitlines()
    lines = lines_of(Run(out).log_path)
    assert [line.split("  ")[0] for line in lines if "epoch" in line and "fold-" in line] == [
        f"fold-{fold}: epoch {epoch}/2" for fold in (0, 1) for epoch in (1, 2)
    ]
    assert all(line in lines for line in printed) and "networks trained" in lines[-1]
    assert "(uncus " in "".join(lines[:2])
    (out / "model" / "fold-1.safetensors").unlink()
    (out / "fold-1" / "checkpoints" / "last.ckpt").write_bytes(b"damaged")
    assert main(["train", str(out), "--resume"]) == 2
    assert lines_of(Run(out).log_path)[-1].startswith("stopped: BadInput: ")
    assert lines_of(Run(out).log_path)[: len(lines)] == lines


def test_nothing_is_written_before_it_is_ready(tmp_path: Path) -> None:
    path, there = tmp_path / "train.log", [False]
    with pytest.raises(ValueError, match="no"), log.kept(path, lambda: there[0]):
        print("one")
        raise ValueError("no")
    assert not path.exists()
    with log.kept(path, lambda: there[0]):
        print("one", end=" ")
        print("line")
        there[0] = True
        print("two\nthree")
    assert lines_of(path) == ["one line", "two", "three"]


def test_a_log_that_cannot_be_written_stops_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with log.kept(tmp_path / "absent" / "train.log", lambda: True):
        print("goes on")
    assert capsys.readouterr().out == "goes on\n"
