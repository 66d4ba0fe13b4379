"""uncus train: what a run contains, and that it is reproducible."""

from pathlib import Path

import numpy as np
import pytest
import torch

import uncus
from tests.conftest import TRAIN
from tests.pipeline.training.runs import weights
from uncus.data.errors import BadInput
from uncus.pipeline.cli import main
from uncus.pipeline.runs import Run, members
from uncus.pipeline.training.task import Devices


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
