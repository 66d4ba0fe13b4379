"""Training: what a run leaves, that it repeats itself, survives a kill, and never leaks."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from tests.conftest import TRAIN
from uncus.data.design.splits import Splits
from uncus.data.files import sha256
from uncus.data.prepared_cohort import PreparedCohort
from uncus.models.build import ModelConfig, build_model
from uncus.models.swap import find_norms
from uncus.models.weights import read_weights
from uncus.pipeline.cli import main
from uncus.pipeline.runs import Run, members
from uncus.pipeline.training.optimization import Optimization, parameter_groups


def weights(run: Path) -> list[str]:
    return [sha256(p) for p in sorted((run / "model").glob("fold-*.safetensors"))]


def test_run_holds_everything_and_predicts_out_of_fold(run: Path) -> None:
    names = {p.name for p in run.iterdir()}
    assert names >= {
        "config.json",
        "environment.json",
        "splits.tsv",
        "scans.tsv",
        "predictions.tsv",
    }
    read = Run(run)
    read.verify()
    table = read.predictions()
    assert sorted(table["participant_id"]) == sorted(read.scans()["participant_id"])
    assert np.allclose(table[["p_CN", "p_AD"]].sum(axis=1), 1)
    splits = read.splits()
    for row in table.itertuples():
        assert row.participant_id in splits.subjects(int(row.fold), "test")
    curves = read.training_curves()["fold-0"]
    assert curves["epoch"].tolist() == [0, 1, 2]
    assert {"loss", "val_loss", "score", "lr"} <= set(curves)
    assert read.card["training"]["classes"] == {"CN": 6, "AD": 6}


def test_same_seed_same_weights_and_other_seed_other(
    cohort: Path, run: Path, tmp_path: Path
) -> None:
    assert main(["train", str(cohort), str(tmp_path / "again"), *TRAIN]) == 0
    assert weights(tmp_path / "again") == weights(run)
    options = ["--config", str(run / "config.json"), "--epochs", "1", "--seed", "7"]
    assert main(["train", *options, str(cohort), str(tmp_path / "other")]) == 0
    assert weights(tmp_path / "other") != weights(run)


def test_a_killed_run_resumes_to_the_same_weights(cohort: Path, tmp_path: Path) -> None:
    options = [*TRAIN, "--folds", "1", "--epochs", "12", "--keep", "last"]
    assert main(["train", str(cohort), str(tmp_path / "whole"), *options]) == 0
    broken = tmp_path / "broken"
    command = [sys.executable, "-m", "pipeline", "train", str(cohort), str(broken), *options]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    metrics = broken / "fold-0" / "metrics.csv"
    deadline = time.monotonic() + 100
    while not metrics.exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert metrics.exists()
    assert not (broken / "model").exists(), "it was killed too late to test anything"
    # A kill in the middle of saving leaves a half temporary file beside the whole ones.
    (broken / "fold-0" / "checkpoints" / "last.tmp").write_bytes(b"half")
    assert main(["train", str(cohort), str(broken), *options]) == 2
    assert main(["train", str(cohort), str(broken), *options, "--resume"]) == 0
    assert weights(broken) == weights(tmp_path / "whole")
    one, two = (pd.read_csv(p / "fold-0" / "metrics.csv") for p in (broken, tmp_path / "whole"))
    pd.testing.assert_frame_equal(one.drop(columns="seconds"), two.drop(columns="seconds"))


def test_resume_refuses_other_options(
    cohort: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", str(cohort), str(run), *TRAIN, "--lr", "0.5", "--resume"]) == 2
    assert "optimization" in capsys.readouterr().err


def test_early_stopping_stops(cohort: Path, tmp_path: Path) -> None:
    options = [*TRAIN, "--folds", "1", "--epochs", "30", "--patience", "2"]
    assert main(["train", str(cohort), str(tmp_path / "run"), *options]) == 0
    curves = Run(tmp_path / "run").training_curves()["fold-0"]
    assert len(curves) < 30
    best = int(curves["score"].idxmax())
    assert len(curves) == best + 3


@pytest.mark.parametrize(
    "options",
    [
        ["--balance", "weights", "--label-smoothing", "0.1", "--accumulate", "2"],
        ["--balance", "sampling", "--batch-size", "1", "--clip", "0"],
        ["--seeds", "2", "--flip-average", "--validation", "0", "--precision", "bf16"],
        ["--norm", "batch", "--batch-size", "4", "--holdout", "age >= 70", "--stratify", "age"],
    ],
)
def test_options_train(cohort: Path, tmp_path: Path, options: list[str]) -> None:
    out = tmp_path / "run"
    # oneDNN's gradients are wrong in bf16 on some CPUs, which would be refused
    with torch.backends.mkldnn.flags(enabled="bf16" not in options):
        assert main(["train", str(cohort), str(out), *TRAIN, "--epochs", "1", *options]) == 0
    run = Run(out)
    table = run.predictions()
    assert np.isfinite(table[["p_CN", "p_AD"]].to_numpy()).all()
    seeds = run.config["seeds"]
    assert len(members(2, 0, seeds)) == len(weights(out))
    tested = table[table["part"] == "test"]
    assert len(tested) == seeds * sum(len(run.splits().subjects(f, "test")) for f in (0, 1))
    held = run.splits().subjects(0, "holdout")
    assert (table["part"] == "holdout").sum() == 2 * seeds * len(held)


def test_regression_standardizes_on_training_subjects(cohort: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    options = ["--target", "age", "--regression", "--backbone", "tiny", "--folds", "2"]
    options += ["--epochs", "1", "--accelerator", "cpu"]
    assert main(["train", str(cohort), str(out), *options]) == 0
    run = Run(out)
    ages = run.scans().set_index("participant_id")["age"].astype(float)
    assert "sub-03" not in ages.index  # its age is missing, so it has nothing to say
    for entry in run.card["members"]:
        train = run.splits().subjects(entry["fold"], "train")
        assert entry["mean"] == pytest.approx([ages[sorted(train)].mean()], rel=1e-5)
        assert entry["std"] == pytest.approx([ages[sorted(train)].std(ddof=0)], rel=1e-5)
    table = run.predictions()
    assert table["pred_age"].between(30, 100).all()


def test_several_regression_columns_with_gaps(source: Path, tmp_path: Path) -> None:
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


def test_nan_loss_names_step_and_scans(
    cohort: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def explode(self: nn.Module, x: torch.Tensor, covariates: object) -> torch.Tensor:
        return self.head.weight.new_full((len(x), 2), torch.nan).requires_grad_()

    monkeypatch.setattr("uncus.models.backbones.tiny.Tiny.forward", explode, raising=False)
    assert main(["train", str(cohort), str(tmp_path / "run"), *TRAIN]) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert "step 0" in line and "sub-" in line


def test_no_decay_on_vectors_and_a_frozen_trunk() -> None:
    from uncus.models.build import ModelConfig, build_model

    model = build_model(ModelConfig("tiny"))
    groups = parameter_groups(model, Optimization(weight_decay=0.1, trunk_lr=0.5, lr=0.01))
    for group in groups:
        for parameter in group["params"]:
            assert group["weight_decay"] == (0.1 if parameter.ndim > 1 else 0.0)
    assert sum(len(g["params"]) for g in groups) == len(list(model.parameters()))
    assert {g["lr"] for g in groups} == {0.005, 0.01}
    frozen = parameter_groups(model, Optimization(trunk_lr=0))
    assert sum(len(g["params"]) for g in frozen) == len(list(model.head.parameters()))
    assert not any(p.requires_grad for p in model.parameters() if p.ndim == 5)


@pytest.mark.parametrize("norm", ["group", "batch"])
def test_frozen_norms_stay_as_they_start(cohort: Path, tmp_path: Path, norm: str) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    options = [*TRAIN, "--epochs", "2", "--folds", "1", "--norm", norm]
    assert main(["train", str(cohort), str(first), *options]) == 0
    tuning = ["--init-from", str(first), "--freeze-norms"]
    assert main(["train", str(cohort), str(second), *options, *tuning]) == 0
    before, after = (read_weights(p / "model" / "fold-0.safetensors") for p in (first, second))
    model = build_model(ModelConfig(backbone="tiny", norm=norm))
    norms = [f"{name}." for name in find_norms(model)]
    for name in before:
        same = bool((before[name] == after[name]).all())
        assert same == any(name.startswith(norm) for norm in norms), name


def test_a_run_without_a_newer_option_resumes(cohort: Path, run: Path, tmp_path: Path) -> None:
    older = tmp_path / "older"
    shutil.copytree(run, older)
    options = json.loads((older / "config.json").read_text())
    del options["optimization"]["freeze_norms"]
    (older / "config.json").write_text(json.dumps(options))
    assert main(["train", str(cohort), str(older), *TRAIN, "--resume"]) == 0


def test_checkpoints_that_are_not_whole_are_refused(
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


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"fold": 3}, "did you mean 'folds'"),
        ({"folds": "two"}, "folds"),
        ({"where": "$import os"}, ""),
        ({"model": {"norm": "grup"}}, "group"),
    ],
)
def test_configuration_is_checked_and_never_evaluated(
    cohort: Path,
    run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: dict[str, object],
    said: str,
) -> None:
    config = json.loads((run / "config.json").read_text()) | change
    (tmp_path / "config.json").write_text(json.dumps(config))
    options = ["--config", str(tmp_path / "config.json")]
    assert main(["train", str(cohort), str(tmp_path / "run"), *options]) == 2
    error = capsys.readouterr().err
    assert said in error and len(error.strip().splitlines()) == 1


def test_starting_from_a_run_shares_its_folds_and_refuses_leaks(
    cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    options = ["--backbone", "tiny", "--epochs", "1", "--accelerator", "cpu", "--folds", "2"]
    target = ["--target", "age", "--regression", "--stratify", "diagnosis"]
    assert main(["train", str(cohort), str(first), *target, *options]) == 0
    # sub-03 has no age, so the pre-training dealt it to no fold: it cannot be placed.
    dementia = ["--target", "diagnosis", "--classes", "CN=CN", "AD=AD", *options]
    assert main(["train", str(cohort), str(second), *dementia, "--init-from", str(first)]) == 2
    assert "sub-03" in capsys.readouterr().err
    dementia += ["--where", "age >= 60", "--init-from", str(first)]
    assert main(["train", str(cohort), str(tmp_path / "third"), *dementia]) == 0
    one, two = Run(first).splits(), Run(tmp_path / "third").splits()
    for fold in (0, 1):
        tested = two.subjects(fold, "test")
        assert tested == one.subjects(fold, "test")
        assert not tested & (one.subjects(fold, "train") | one.subjects(fold, "validation"))
    # The same run with its folds exchanged would test on what its first weights have seen.
    swapped = Run(first).splits().frame.rename(columns={"fold-0": "fold-1", "fold-1": "fold-0"})
    swapped = swapped[["participant_id", "fold-0", "fold-1"]]
    fourth = tmp_path / "fourth"
    fourth.mkdir()
    Splits(swapped).save(fourth / "splits.tsv")
    assert main(["train", str(cohort), str(fourth), *dementia]) == 2
    assert "share its folds" in capsys.readouterr().err


def test_weights_really_start_from_the_other_run(cohort: Path, run: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    options = [*TRAIN, "--epochs", "1", "--trunk-lr", "0", "--keep", "last", "--norm", "group"]
    assert main(["train", str(cohort), str(out), *options, "--init-from", str(run)]) == 0
    before, after = (read_weights(p / "model" / "fold-1.safetensors") for p in (run, out))
    for name, value in before.items():
        assert name.startswith("head") or torch.equal(value, after[name])


def test_a_changed_cohort_is_another_run(cohort: Path, run: Path) -> None:
    assert Run(run).environment["cohort_fingerprint"] == PreparedCohort.open(cohort).fingerprint
