"""Pre-training without leakage: no fold is tested on a subject or scan of its pre-training."""

import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from tests.conftest import TRAIN
from uncus.data import files
from uncus.data.design.splits import Splits
from uncus.data.errors import BadInput
from uncus.data.prepared_cohort import PreparedCohort
from uncus.data.tables import write_table
from uncus.models.build import ModelConfig, build_model
from uncus.models.weights import read_weights
from uncus.pipeline.cli import main
from uncus.pipeline.predict import Predictor
from uncus.pipeline.runs import Member, Run
from uncus.pipeline.train import Train, train
from uncus.pipeline.training.optimization import Optimization
from uncus.pipeline.training.pretraining import age_norms, check, training_data
from uncus.pipeline.training.run_setup import label_scans, plan

Parts = dict[str, list[str]]
"""Subject -> its part in each fold."""

PARTS: Parts = {
    "sub-a": ["test", "train"],
    "sub-b": ["validation", "test"],
    "sub-c": ["train", "validation"],
    "sub-d": ["train", "train"],
    "sub-h": ["holdout", "holdout"],
}


def as_splits(parts: Parts) -> Splits:
    frame = pd.DataFrame(
        [
            {"participant_id": subject, **{f"fold-{k}": part for k, part in enumerate(row)}}
            for subject, row in parts.items()
        ]
    )
    return Splits(frame)


def scans(parts: Parts) -> pd.DataFrame:
    """One scan a subject; the hash is the subject's letter."""
    rows = [{"participant_id": name, "voxel_hash": name[-1] * 8} for name in parts]
    return pd.DataFrame(rows)


Make = Callable[..., Run]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Write the files of a run that describe its training data."""

    def write(name: str, parts: Parts, init_from: Path | None = None) -> Run:
        run = Run(tmp_path / name)
        files.write_json(run.config_path, {"init_from": init_from})
        as_splits(parts).save(run.splits_path)
        write_table(run.scans_path, scans(parts))
        return run

    return write


def error_of(run: Run, parts: Parts, table: pd.DataFrame | None = None) -> str:
    with pytest.raises(BadInput) as caught:
        check(run, as_splits(parts), scans(parts) if table is None else table)
    return str(caught.value)


def test_training_data_of_a_fold(make: Make) -> None:
    run = make("run", PARTS)
    assert training_data(run, 0).subjects == {"sub-b", "sub-c", "sub-d"}
    assert training_data(run, 1).subjects == {"sub-a", "sub-c", "sub-d"}
    assert training_data(run, 1).voxels == {"a" * 8, "c" * 8, "d" * 8}


def test_a_run_that_starts_from_itself_or_lacks_a_fold_is_an_error(make: Make) -> None:
    first = make("first", PARTS, Path("second"))
    second = make("second", PARTS, first.path)
    files.write_json(first.config_path, {"init_from": str(second.path)})
    assert "starts from its own weights" in error_of(second, PARTS)
    with pytest.raises(BadInput, match="has no fold 2"):
        training_data(make("run", PARTS), 2)


def test_the_same_folds_pass_and_swapped_ones_do_not(make: Make) -> None:
    run = make("run", PARTS)
    check(run, as_splits(PARTS), scans(PARTS))
    swapped = {name: row[::-1] for name, row in PARTS.items()}
    assert "sub-b, which fold 0 of the new run tests on" in error_of(run, swapped)


def test_a_holdout_that_was_trained_on_is_an_error(make: Make) -> None:
    held_out = {**PARTS, "sub-c": ["holdout", "holdout"]}
    assert "sub-c" in error_of(make("run", PARTS), held_out)


def test_the_same_voxels_under_another_name_are_an_error(make: Make) -> None:
    run = make("run", PARTS)
    renamed = {name.replace("sub-", "sub-x"): row[::-1] for name, row in PARTS.items()}
    table = scans(renamed)
    assert not set(renamed) & set(PARTS)
    assert "sub-xb, which fold 0 of the new run tests on" in error_of(run, renamed, table)
    check(run, as_splits(renamed), table.assign(voxel_hash="other"))


def test_every_new_fold_starts_from_a_run_with_one_fold(make: Make) -> None:
    single = make("single", {"sub-a": ["train"], "sub-b": ["test"]})
    assert training_data(single, 4).subjects == {"sub-a"}
    new = {"sub-b": ["test", "train", "train"], "sub-y": ["train", "test", "test"]}
    check(single, as_splits(new), scans(new))
    assert "sub-a, which fold 2" in error_of(single, {**new, "sub-a": ["train", "train", "test"]})


def test_runs_with_different_numbers_of_folds_cannot_be_paired(make: Make) -> None:
    three = {name: [*row, row[0]] for name, row in PARTS.items()}
    assert "has 2 folds, but the new run 3" in error_of(make("run", PARTS), three)


def test_training_data_includes_the_pretraining_of_the_pretraining(make: Make) -> None:
    first = make("first", {"sub-e": ["train", "train"], "sub-a": ["test", "test"]})
    second = make("second", PARTS, init_from=first.path)
    assert "sub-e" in training_data(second, 0).subjects
    assert "e" * 8 in training_data(second, 1).voxels
    later = {**PARTS, "sub-e": ["train", "test"]}
    assert "sub-e, which fold 1" in error_of(second, later)
    copied = {**PARTS, "sub-n": ["train", "test"]}
    table = scans(copied).replace({"voxel_hash": {"n" * 8: "e" * 8}})
    assert "sub-n, which fold 1" in error_of(second, copied, table)


def test_a_renamed_copy_of_the_cohort_is_an_error(
    source: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "copy"
    participants = (source / "participants.tsv").read_text().replace("sub-", "sub-other")
    for path in source.glob("sub-*/anat/*.nii.gz"):
        renamed = copy / str(path.relative_to(source)).replace("sub-", "sub-other")
        renamed.parent.mkdir(parents=True)
        renamed.write_bytes(path.read_bytes())
    (copy / "participants.tsv").write_text(participants)
    (copy / "dataset_description.json").write_text('{"Name": "copy", "BIDSVersion": "1.9.0"}')
    # another grid, but the hash is of the scan before resampling
    prepare = ["prepare", str(copy), str(tmp_path / "cohort"), "--spacing", "5", "--workers", "1"]
    assert main(prepare) == 0
    capsys.readouterr()
    options = [*TRAIN, "--seed", "3", "--init-from", str(run)]
    assert main(["train", str(tmp_path / "cohort"), str(tmp_path / "run"), *options]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "sub-other" in error
    assert "of the new run tests on" in error
    assert not (tmp_path / "run" / "model").exists()


def test_weights_start_from_the_other_run(cohort: Path, run: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    options = [*TRAIN, "--epochs", "1", "--trunk-lr", "0", "--keep", "last", "--norm", "group"]
    assert main(["train", str(cohort), str(out), *options, "--init-from", str(run)]) == 0
    before, after = (read_weights(p / "model" / "fold-1.safetensors") for p in (run, out))
    for name, value in before.items():
        assert name.startswith("head") or torch.equal(value, after[name])


def test_a_changed_run_is_nothing_to_start_from(
    cohort: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(run, tmp_path / "run")
    copied = Run(tmp_path / "run")
    command = ["train", str(cohort), str(tmp_path / "new"), *TRAIN, "--init-from", str(copied.path)]
    card = files.read_json(copied.card_path)
    del card["members"][1]
    files.write_json(copied.card_path, card)
    assert main(command) == 2
    assert "card.json: its SHA-256 differs" in capsys.readouterr().err
    copied.seal()
    assert main(command) == 2
    assert "card.json: has no network of fold 1" in capsys.readouterr().err


def medicalnet(folder: Path, width: int = 4) -> Path:
    """A checkpoint of a small ResNet-10 with the names and wrappers of MedicalNet's files."""
    model = build_model(ModelConfig("resnet10", norm="batch", width=width, stem_kernel=7))
    state = {
        "module." + re.sub(r"norm([0-9])", r"bn\1", name): value
        for name, value in model.state_dict().items()
        if not name.startswith("head.")
    }
    path = folder / "resnet_10.pth"
    torch.save({"epoch": 120, "state_dict": state}, path)
    return path


def test_training_starts_from_a_file_of_weights(
    cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights, out = medicalnet(tmp_path), tmp_path / "run"
    options = [*TRAIN, "--init-from", str(weights), "--epochs", "1", "--trunk-lr", "0"]
    network = ["--backbone", "resnet10", "--width", "4", "--stem-kernel", "7", "--groups", "2"]
    assert main(["train", str(cohort), str(out), *options, *network]) == 0
    assert "fold-0 starts from" in capsys.readouterr().out
    kept = read_weights(out / "model" / "fold-1.safetensors")
    for name, value in read_weights(weights).items():
        own = name.replace("bn", "norm")
        assert own.endswith(("mean", "var", "tracked")) or torch.equal(kept[own], value)
    assert Run(out).card["init_from"] == "resnet_10.pth"
    assert training_data(Run(out), 0).subjects == Run(out).splits().subjects(0, "train") | Run(
        out
    ).splits().subjects(0, "validation")
    assert main(["train", str(cohort), str(out), *options, *network, "--resume"]) == 0


def test_weights_that_do_not_fit_name_the_options_that_would(
    cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = medicalnet(tmp_path)
    command = ["train", str(cohort), str(tmp_path / "run"), *TRAIN, "--backbone", "resnet10"]
    assert main([*command, "--init-from", str(weights)]) == 2
    advice = "--backbone resnet10 --width 4 --stem-kernel 7 --shortcut B --stem-pool"
    assert advice in capsys.readouterr().err
    assert main([*command, "--init-from", str(tmp_path / "absent.pth")]) == 2
    assert "absent.pth: no such file" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_normal_subjects_are_those_that_the_regression_was_trained_on(
    sure_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cohort, measures, run = sure_run.parent / "cohort", tmp_path / "measures", tmp_path / "run"
    head = Optimization(epochs=0, refit_head=1.0)
    options: Any = {"model": ModelConfig(backbone="tiny"), "optimization": head, "folds": 2}
    train(cohort, measures, target=("age",), regression=True, validation=0.0, **options)
    wanted = Train(
        cohort, run, ("diagnosis",), covariates=("age",), init_from=measures,
        age_norms="age >= 70", where="age > 0", validation=0.0, **options,
    )  # fmt: skip
    opened = PreparedCohort.open(cohort)
    task = plan(wanted, opened, label_scans(wanted, opened))
    for fold in range(2):
        scans = age_norms(task, Member(fold, 0, f"fold-{fold}")).scans
        rows = opened.table.iloc[scans.rows]
        assert set(rows["participant_id"]) <= training_data(Run(measures), fold).subjects
        assert not set(rows["participant_id"]) & task.splits.subjects(fold, "test")
        assert rows["age"].astype(float).min() >= 65
    with pytest.raises(ValueError, match="normal scans of known age; at least 15"):
        wanted.run()
    replace(wanted, age_norms="age > 0").run()
    assert Run(run).card["model"]["covariate_degree"] == 2
    assert Predictor(run, segment=None).networks[0].covariates.weight.shape == (2, 2)
    assert main(["train", str(cohort), str(run), "--target", "age", "--age-norms", "x"]) == 2
    assert "--age-norms: needs --init-from" in capsys.readouterr().err
