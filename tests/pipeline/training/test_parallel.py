"""Networks side by side: the same weights as one after the other, and no hang when one dies."""

import os
import pickle
from pathlib import Path

import pytest

from tests.conftest import TRAIN
from uncus.data.errors import BadInput
from uncus.data.files import sha256
from uncus.pipeline.cli import main
from uncus.pipeline.training.task import Task


def weights(run: Path) -> list[str]:
    return [sha256(p) for p in sorted((run / "model").glob("fold-*.safetensors"))]


def test_jobs_change_nothing_and_a_killed_worker_is_told(
    cohort: Path,
    run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # One thread a worker, as in the run to compare with: more may add numbers in another order.
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    command = ["train", str(cohort), str(tmp_path / "run"), *TRAIN, "--jobs", "2"]
    with monkeypatch.context() as patch:
        # What the workers are sent ends them, as the kernel does when memory runs out.
        patch.setattr(Task, "__reduce__", lambda self: (os._exit, (9,)), raising=False)
        assert main(command) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "a training process was killed" in error
    assert "--resume" in error
    assert not weights(tmp_path / "run")

    assert main([*command, "--resume"]) == 0
    assert len(weights(run)) == 2
    assert weights(tmp_path / "run") == weights(run)


def test_what_a_worker_refuses_arrives_as_it_was() -> None:
    error = BadInput("a.ckpt", "is broken", "delete it")
    arrived = pickle.loads(pickle.dumps(error))
    assert type(arrived) is BadInput
    assert str(arrived) == str(error) == "a.ckpt: is broken; delete it"
