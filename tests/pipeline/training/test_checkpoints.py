"""Checkpoints: a killed run continues to the same weights, and damaged files are rejected."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from tests.conftest import TRAIN, write_source
from tests.pipeline.training.runs import weights, write_gibbs
from uncus.pipeline.cli import main
from uncus.pipeline.runs import Run


class Payload:
    """A pickle of it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return self.path.touch, ()


@pytest.mark.parametrize("custom", [False, True], ids=["ours", "with a user's transforms"])
def test_a_killed_run_continues_to_the_same_weights(
    custom: bool, cohort: Path, tmp_path: Path
) -> None:
    options = [*TRAIN, "--folds", "1", "--epochs", "12", "--keep", "last"]
    if custom:
        options += ["--transforms", f"{write_gibbs(tmp_path)}:gibbs"]
    assert main(["train", str(cohort), str(tmp_path / "whole"), *options]) == 0
    broken = tmp_path / "broken"
    command = [sys.executable, "-m", "uncus", "train", str(cohort), str(broken), *options]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    metrics = broken / "fold-0" / "metrics.csv"
    deadline = time.monotonic() + 100
    while not metrics.exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert metrics.exists()
    assert not (broken / "model").exists(), "the run was finished before it was killed"
    # A process that is killed while saving leaves an incomplete temporary file.
    (broken / "fold-0" / "checkpoints" / "last.tmp").write_bytes(b"half")
    assert main(["train", str(cohort), str(broken), *options]) == 2
    assert main(["train", str(cohort), str(broken), *options, "--resume"]) == 0
    assert weights(broken) == weights(tmp_path / "whole")
    one, two = (pd.read_csv(p / "fold-0" / "metrics.csv") for p in (broken, tmp_path / "whole"))
    pd.testing.assert_frame_equal(one.drop(columns="seconds"), two.drop(columns="seconds"))


def test_early_stopping(tmp_path: Path) -> None:
    source, cohort = write_source(tmp_path / "source", subjects=80), tmp_path / "cohort"
    assert main(["prepare", str(source), str(cohort), "--spacing", "4", "--workers", "1"]) == 0
    options = [*TRAIN, "--folds", "1", "--epochs", "30", "--patience", "2", "--validation", "0.49"]
    assert main(["train", str(cohort), str(tmp_path / "run"), *options]) == 0
    curves = Run(tmp_path / "run").training_curves()["fold-0"]
    assert len(curves) < 30
    best = int(curves["score"].idxmax())
    assert len(curves) == best + 3


def test_an_incomplete_checkpoint_is_an_error(
    cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    options = [*TRAIN, "--folds", "1", "--epochs", "1"]
    assert main(["train", str(cohort), str(out), *options]) == 0
    (out / "model" / "fold-0.safetensors").unlink()
    last = out / "fold-0" / "checkpoints" / "last.ckpt"
    last.write_bytes(last.read_bytes()[:1000])
    assert main(["train", str(cohort), str(out), *options, "--resume"]) == 2
    assert str(last) in capsys.readouterr().err
    last.unlink()
    assert main(["train", str(cohort), str(out), *options, "--resume"]) == 0


def test_a_hostile_checkpoint_is_one_line_and_runs_no_code(
    run: Path, cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = Path(shutil.copytree(run, tmp_path / "run"))
    (out / "model" / "fold-0.safetensors").unlink()
    last = out / "fold-0" / "checkpoints" / "last.ckpt"
    state = torch.load(last, weights_only=True)
    hostile = [state | {name: value} for name in ("loops", "callbacks") for value in (5, [])]
    hostile += [{n: v for n, v in state.items() if n != gone} for gone in ("optimizer_states",)]
    hostile += [state | {"state_dict": {}}, state | {"more": Payload(tmp_path / "ran")}]
    for one in hostile:
        torch.save(one, last)
        assert main(["train", str(out), "--resume"]) == 2
        assert capsys.readouterr().err.splitlines()[-1].startswith(f"uncus: {last}: is not a ")
    assert not (tmp_path / "ran").exists()
    environment = {"cohort_fingerprint": 5, "resumed": 5}
    (out / "environment.json").write_text(json.dumps(environment))
    assert main(["train", str(out), "--resume"]) == 2
    assert "cohort (its content)" in capsys.readouterr().err


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_the_run_goes_on(cohort: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = [sys.executable, "-m", "uncus", "train", str(cohort), str(out), *TRAIN]
    # Files of at most 20 KB: a write then fails as on a full disk.
    limited = ["bash", "-c", 'ulimit -f 20; exec "$@"', "bash", *command]
    done = subprocess.run(limited, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "checkpoints/best.safetensors: cannot be written" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr and not list(out.rglob("*.tmp"))
    assert main([*command[3:], "--resume"]) == 0
