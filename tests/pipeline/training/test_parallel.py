"""Several networks at once: the same weights as one by one, and an error if one is killed."""

import os
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.conftest import TRAIN
from tests.pipeline.training.runs import small_task, weights
from uncus.data.design.targets import Target
from uncus.data.errors import BadInput
from uncus.pipeline.cli import main
from uncus.pipeline.runs import Run, members
from uncus.pipeline.training import parallel
from uncus.pipeline.training.parallel import Job, count_gpus, train_networks
from uncus.pipeline.training.task import Devices, Task


def test_weights_do_not_depend_on_jobs_and_a_killed_worker_is_an_error(
    cohort: Path,
    run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # One thread per worker, as in the other run: more may add numbers in another order.
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    command = ["train", str(cohort), str(tmp_path / "run"), *TRAIN, "--jobs", "2"]
    with monkeypatch.context() as patch:
        # Unpickling the task ends a worker, as the kernel does when memory runs out.
        patch.setattr(Task, "__reduce__", lambda self: (os._exit, (9,)), raising=False)
        assert main(command) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "a training process was killed" in error
    assert "--resume" in error
    assert not weights(tmp_path / "run")

    assert main([*command, "--resume"]) == 0
    assert len(weights(run)) == 2
    assert weights(tmp_path / "run") == weights(run)


@pytest.mark.slow
def test_a_script_trains_in_parallel_without_a_guard(cohort: Path, tmp_path: Path) -> None:
    script, run = tmp_path / "script.py", tmp_path / "run"
    script.write_text(
        "import uncus\nfrom uncus.pipeline.training.task import Devices\n"
        f"uncus.train({str(cohort)!r}, {str(run)!r}, target=('sex',), classes=('F=F', 'M=M'),\n"
        "    folds=2, jobs=2, model=uncus.ModelConfig('tiny'), devices=Devices('cpu'),\n"
        "    optimization=uncus.Optimization(epochs=1))\n"
    )
    subprocess.run([sys.executable, script], check=True, env={**os.environ, "PYTHONPATH": "."})
    assert len(weights(run)) == 2


def test_an_error_is_sent_from_a_worker_unchanged() -> None:
    error = BadInput("a.ckpt", "is broken", "delete it")
    received = pickle.loads(pickle.dumps(error))
    assert type(received) is BadInput
    assert str(received) == str(error) == "a.ckpt: is broken; delete it"


@pytest.mark.parametrize("at_once", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_cell_that_fails_is_given_up_alone(at_once: int, cohort: Path, tmp_path: Path) -> None:
    task = small_task(cohort, tmp_path / "run")
    constant = np.ones((len(task.table), 1), np.float32)
    bad = replace(task, labels=constant, target=Target.parse(("age",), (), True))
    good_run, bad_run = Run(tmp_path / "run"), Run(tmp_path / "bad")
    first, second = members(2, seed=0, seeds=1)
    jobs = [Job("bad", m.name, bad_run, m, bad) for m in (first, second)]
    jobs.append(Job("good", first.name, good_run, first, task))
    failed = train_networks(jobs, at_once)
    assert list(failed) == ["bad"] and "age: constant" in failed["bad"]
    assert good_run.weights(first).exists() and not bad_run.model_folder.exists()
    with pytest.raises(ValueError, match="age: constant"):
        train_networks([replace(job, cell="") for job in jobs[:2]], at_once)


def test_networks_are_distributed_over_all_gpus(
    cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, (member, _) = small_task(cohort, tmp_path / "run"), members(2, seed=0, seeds=1)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)

    def job(**devices: object) -> Job:
        changed = replace(task, devices=Devices(**devices))  # type: ignore[arg-type]
        return Job("", member.name, Run(tmp_path / "run"), member, changed)

    assert count_gpus([job(), job(accelerator="gpu")]) == 4
    for one in (job(accelerator="cpu"), job(devices="2"), job(devices="auto"), job(nodes=2)):
        assert count_gpus([job(), one]) == 0
    monkeypatch.setattr(parallel, "attempt", lambda job: job.task.devices)
    monkeypatch.setenv(parallel.GPU, "3")
    placed = parallel.train_pickled(pickle.dumps(job(channels_last=True)))
    assert placed == Devices(accelerator="gpu", devices="3,", channels_last=True)
    monkeypatch.setenv(parallel.GPU, "")
    assert parallel.train_pickled(pickle.dumps(job(devices="2"))) == Devices(devices="2")
