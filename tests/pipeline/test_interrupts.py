"""Ctrl-C and SIGTERM end a command with one line, exit code 130, and no process left."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import TRAIN, write_source
from tests.pipeline.training.runs import weights
from tests.signals import heed_signals
from uncus.pipeline.cli import main
from uncus.pipeline.runs import Run

ROOT = Path(__file__).parents[2]


def interrupted(
    arguments: list[str], begun: Callable[[], object], sent: signal.Signals
) -> list[str]:
    """Send a signal once a command has ``begun``; what it then has written to stderr, as lines.

    A terminal sends Ctrl-C to all processes of the command, others send SIGTERM to the first.
    """
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "uncus", *arguments],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=heed_signals,
    )
    with process:
        for _ in range(1200):
            if begun():
                break
            assert process.poll() is None, process.communicate()
            time.sleep(0.05)
        (os.killpg if sent == signal.SIGINT else os.kill)(process.pid, sent)
        try:
            _, errors = process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    assert process.returncode == 130, errors
    for _ in range(100):  # the group is gone with its last process
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            break
        time.sleep(0.1)
    else:
        raise AssertionError("a process is left")
    return errors.strip().splitlines()


def said(lines: list[str]) -> list[str]:
    """The lines, but progress: bars and epochs."""
    return [line for line in lines if not re.search(r"\d/\d", line)]


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM], ids=["INT", "TERM"])
@pytest.mark.parametrize(
    "several",
    [
        [],
        pytest.param(["--jobs", "2"], marks=pytest.mark.slow),
        pytest.param(["--devices", "2"], marks=pytest.mark.slow),
    ],
    ids=["alone", "jobs", "devices"],
)
def test_an_interrupted_training_says_so_and_goes_on(
    several: list[str], sent: signal.Signals, cohort: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    options = [*TRAIN, "--epochs", "100000", *several]
    metrics = Run(out).path / "fold-0" / "metrics.csv"
    lines = interrupted(["train", str(cohort), str(out), *options], metrics.exists, sent)
    assert said(lines) == ["uncus: interrupted"]
    assert Run(out).is_begun() and not weights(out)


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM], ids=["INT", "TERM"])
def test_an_interrupted_preparation_says_so_and_goes_on(
    sent: signal.Signals, tmp_path: Path
) -> None:
    source, out = write_source(tmp_path / "source", subjects=60), tmp_path / "cohort"
    command = ["prepare", str(source), str(out), "--spacing", "2", "--workers", "2"]

    def begun() -> bool:
        return any(out.glob("sub-*/**/*.nii.gz"))

    assert said(interrupted(command, begun, sent)) == ["uncus: interrupted"]
    assert main(command) == 0
