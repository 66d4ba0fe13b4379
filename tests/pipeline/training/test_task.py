"""The task of a run: its scans and labels, and whether its network can be trained."""

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.pipeline.training.runs import small_task
from uncus.models.build import ModelConfig
from uncus.pipeline.cli import main
from uncus.pipeline.runs import Run
from uncus.pipeline.training.optimization import Optimization
from uncus.pipeline.training.task import Devices, optimizer_steps, why_untrainable


def test_a_task_is_sent_to_a_worker_without_its_volumes(cohort: Path, tmp_path: Path) -> None:
    task = small_task(cohort, tmp_path / "run")
    pickled = pickle.dumps(task)
    assert len(pickled) < task.cohort.volumes.nbytes / 2
    received = pickle.loads(pickled)
    for part in ("train", "test"):
        one, two = task.dataset(0, part), received.dataset(0, part)
        assert len(one) == len(two) > 0
        for scan in range(len(one)):
            assert all((one[scan][name] == two[scan][name]).all() for name in ("volume", "label"))


def test_batch_norm_cannot_be_trained_on_one_value_per_channel(
    cohort: Path, tmp_path: Path
) -> None:
    model = ModelConfig("resnet10", norm="batch", width=8, stem_pool=True)
    task = replace(small_task(cohort, tmp_path / "run"), model=model)
    assert len(task.rows(0, "train")) == 4
    assert why_untrainable(task) == ""
    three = replace(task, optimization=Optimization(epochs=5, batch_size=3, accumulate=2))
    assert "one value per channel" in why_untrainable(three)  # in the last batch, of one scan
    assert optimizer_steps(three, 0) == 5
    assert optimizer_steps(task, 0) == 3 * 2


def test_a_regression_is_standardized_over_training_subjects(cohort: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    options = ["--target", "age", "--regression", "--backbone", "tiny", "--folds", "2"]
    options += ["--epochs", "1", "--accelerator", "cpu"]
    assert main(["train", str(cohort), str(out), *options]) == 0
    run = Run(out)
    ages = run.scans().set_index("participant_id")["age"].astype(float)
    assert "sub-03" not in ages.index  # its age is missing
    for entry in run.card["members"]:
        train = run.splits().subjects(entry["fold"], "train")
        assert entry["mean"] == pytest.approx([ages[sorted(train)].mean()], rel=1e-5)
        assert entry["std"] == pytest.approx([ages[sorted(train)].std(ddof=0)], rel=1e-5)
    table = run.predictions()
    assert table["pred_age"].between(30, 100).all()


def test_a_regression_of_several_columns_with_missing_values(source: Path, tmp_path: Path) -> None:
    table = pd.read_csv(source / "participants.tsv", sep="\t")
    table["volume"] = np.arange(12) * 10.0
    cohort = tmp_path / "cohort"
    table["filename"] = [f"{n}/anat/{n}_T1w.nii.gz" for n in table["participant_id"]]
    table.to_csv(source / "scans_table.tsv", sep="\t", index=False, na_rep="n/a")
    listed = str(source / "scans_table.tsv")
    assert main(["prepare", listed, str(cohort), "--spacing", "4", "--workers", "1"]) == 0
    options = ["--target", "age", "volume", "--regression", "--backbone", "tiny", "--folds", "1"]
    options += ["--epochs", "1", "--accelerator", "cpu"]
    assert main(["train", str(cohort), str(tmp_path / "run"), *options]) == 0
    assert "sub-03" in set(Run(tmp_path / "run").scans()["participant_id"])


def test_processes_are_limited() -> None:
    assert Devices(devices="256", workers=256).workers == 256
    for number in (257, 10**9, 10**4000):
        with pytest.raises(ValueError, match=r"--devices .*: must be 256 at most"):
            Devices(devices=str(number))
        with pytest.raises(ValueError, match=r"--workers .*: must be 256 at most"):
            Devices(workers=number)
