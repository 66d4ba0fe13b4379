"""uncus train: what a run contains, and that it is reproducible."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import uncus
from tests.conftest import TRAIN
from tests.pipeline.training.runs import weights
from uncus.data import files
from uncus.data.errors import BadInput
from uncus.pipeline.cli import main
from uncus.pipeline.runs import Run, members
from uncus.pipeline.training.task import Devices

ROOT = Path(__file__).parents[2]


def test_a_run_contains_out_of_fold_predictions(run: Path) -> None:
    names = {"config.json", "environment.json", "splits.tsv", "scans.tsv", "predictions.tsv"}
    assert names <= {path.name for path in run.iterdir()}
    trained = Run(run)
    trained.verify()
    table = trained.predictions()
    assert sorted(table["participant_id"]) == sorted(trained.scans()["participant_id"])
    assert np.allclose(table[["p_CN", "p_AD"]].sum(axis=1), 1)
    splits = trained.splits()
    for row in table.itertuples():
        assert row.participant_id in splits.subjects(int(row.fold), "test")
    curves = trained.training_curves()["fold-0"]
    assert curves["epoch"].tolist() == [0, 1, 2]
    assert {"loss", "val_loss", "score", "lr"} <= set(curves)
    assert trained.card["training"]["classes"] == {"CN": 6, "AD": 6}


def test_weights_depend_on_the_seed_alone(cohort: Path, run: Path, tmp_path: Path) -> None:
    assert main(["train", str(cohort), str(tmp_path / "again"), *TRAIN]) == 0
    assert weights(tmp_path / "again") == weights(run)
    options = ["--config", str(run / "config.json"), "--epochs", "1", "--seed", "7"]
    assert main(["train", *options, str(cohort), str(tmp_path / "other")]) == 0
    assert weights(tmp_path / "other") != weights(run)


@pytest.mark.parametrize(
    "options",
    [
        ["--balance", "weights", "--label-smoothing", "0.1", "--accumulate", "2"],
        ["--balance", "sampling", "--batch-size", "1", "--clip", "0"],
        ["--seeds", "2", "--flip-average", "--validation", "0", "--precision", "bf16"],
        ["--norm", "batch", "--batch-size", "4", "--holdout", "age >= 70", "--stratify", "age"],
    ],
)
def test_training_with_options(cohort: Path, tmp_path: Path, options: list[str]) -> None:
    out = tmp_path / "run"
    # On some CPUs oneDNN's gradients are wrong in bf16, which is an error.
    with torch.backends.mkldnn.flags(enabled="bf16" not in options):
        assert main(["train", str(cohort), str(out), *TRAIN, "--epochs", "1", *options]) == 0
    run = Run(out)
    table = run.predictions()
    assert np.isfinite(table[["p_CN", "p_AD"]].to_numpy()).all()
    seeds = run.config["seeds"]
    assert len(members(2, 0, seeds)) == len(weights(out))
    tested = table[table["part"] == "test"]
    assert len(tested) == seeds * sum(len(run.splits().subjects(f, "test")) for f in (0, 1))
    held_out = run.splits().subjects(0, "holdout")
    assert (table["part"] == "holdout").sum() == 2 * seeds * len(held_out)


def test_train_from_python_is_the_command(cohort: Path, run: Path, tmp_path: Path) -> None:
    made = uncus.train(
        cohort,
        str(tmp_path / "run"),
        target=("diagnosis",),
        classes=("CN=CN", "AD=AD"),
        folds=2,
        model=uncus.ModelConfig(backbone="tiny", width=16),
        optimization=uncus.Optimization(epochs=3, lr=0.01),
        devices=Devices(accelerator="cpu"),
    )
    assert made == tmp_path / "run"
    assert weights(made) == weights(run)
    with pytest.raises(BadInput, match="add --resume"):
        uncus.train(cohort, made, target=("diagnosis",))


def test_jobs_of_a_fold_each_make_the_same_run(
    cohort: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    command = ["train", str(cohort), str(out)]
    assert main([*command, *TRAIN, "--only", "fold-1"]) == 0
    assert "1 of 2 networks trained" in capsys.readouterr().out
    assert main([*command, "--finish"]) == 2
    assert "fold-0 is not trained" in capsys.readouterr().err
    assert main([*command, *TRAIN, "--lr", "0.5", "--only", "fold-0"]) == 2
    assert "started with other options: optimization" in capsys.readouterr().err
    with files.locked(Run(out).member_folder(members(2, 0, 1)[0]), "network"):
        # Another process, since a process may take its own lock twice.
        other = [sys.executable, "-m", "uncus", *command, "--only", "fold-0", "seed-0"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(other, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "another process is working on this network" in done.stderr
    assert main([*command, "--only", "fold-0", "seed-0"]) == 0
    assert not Run(out).is_sealed()
    assert main([*command, "--finish"]) == 0
    Run(out).verify()
    assert weights(out) == weights(run)
    assert Run(out).predictions().equals(Run(run).predictions())
    one, two = Run(run).config, Run(out).config
    assert two == {**one, "given": two["given"]}


@pytest.mark.slow
def test_the_script_for_slurm_trains_a_run(cohort: Path, run: Path, tmp_path: Path) -> None:
    uncus = tmp_path / "bin" / "uncus"
    uncus.parent.mkdir()
    uncus.write_text(f'#!/bin/sh\nexec {sys.executable} -m uncus "$@"\n')
    uncus.chmod(0o755)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment |= {"PATH": f"{uncus.parent}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    # What SLURM adds to a job of an array, for two of four tasks.
    slurm = {"SLURM_JOB_ID": "78", "SLURM_ARRAY_JOB_ID": "77", "SLURM_NTASKS": "4"}
    slurm |= {"SLURM_JOB_NAME": "uncus", "SLURM_PROCID": "0", "SLURM_JOB_NODELIST": "node[1-2]"}
    script = ROOT / "docs" / "train_folds.sbatch"
    arguments = [str(cohort), str(tmp_path / "run")]
    jobs = [
        subprocess.Popen(
            ["bash", script, *arguments, *TRAIN],
            env={**environment, **slurm, "SLURM_ARRAY_TASK_ID": str(task)},
        )
        for task in (0, 1)
    ]
    assert [job.wait(timeout=300) for job in jobs] == [0, 0]
    finish = f"uncus train {arguments[0]} {arguments[1]} --finish"
    subprocess.run(["bash", "-c", finish], env=environment, check=True)
    assert weights(tmp_path / "run") == weights(run)
