"""The model card: what it states of the training, and that it is written completely."""

import resource
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import TRAIN
from uncus import NOTICE
from uncus.data import files
from uncus.data.errors import BadInput
from uncus.pipeline.cli import main
from uncus.pipeline.predict import Predictor
from uncus.pipeline.runs import Run


def test_the_card_describes_the_training_data(run: Path) -> None:
    card = Run(run).card
    scans = Run(run).scans()
    assert card["notice"] == NOTICE
    known = Run(run).training_scans()
    assert all(one in known for one in scans["voxel_hash"]) and len(known.hashes) == len(scans)
    assert scans["participant_id"].iloc[0] not in known
    assert card["training"]["age_years"] == {"min": 60, "max": 71}
    assert card["training"]["sex"] == scans["sex"].value_counts().to_dict()
    sums = Run(run).verify()
    assert [sums[m["file"]] for m in card["members"]] == [m["sha256"] for m in card["members"]]


def test_after_a_full_disk_the_run_can_be_finished(
    cohort: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    shutil.copytree(run, out)
    for name in ("card.json", "reference.safetensors", "SHA256SUMS"):
        (out / "model" / name).unlink()
    command = ["train", str(cohort), str(out), *TRAIN, "--resume"]
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8000, before[1]))
    try:
        code = main(command)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    error = capsys.readouterr().err
    assert code == 2
    assert error.count("\n") == 1
    assert "reference.safetensors: cannot be written" in error
    assert not (out / "model" / "card.json").exists()
    assert not list((out / "model").glob(".*"))
    assert main(command) == 0
    assert Run(out).verify() is not None


def test_the_card_of_an_age_has_its_bias(cohort: Path, run: Path, tmp_path: Path) -> None:
    out = tmp_path / "age"
    options = ["--target", "age", "--regression", *TRAIN[TRAIN.index("--backbone") :]]
    assert main(["train", str(cohort), str(out), *options, "--epochs", "1"]) == 0
    known = Run(out).card["brain_age"]
    table = Run(out).predictions()
    slope, intercept = np.polyfit(table["true_age"], table["pred_age"], 1)
    assert (known["slope"], known["intercept"]) == pytest.approx((slope, intercept), rel=1e-6)
    assert known["scans"] == len(table) == 11
    # The 11th of 11: nine tenths of twelve, rounded up.
    assert known["error"] == pytest.approx(abs(table["pred_age"] - table["true_age"]).max())
    assert "brain_age" not in Run(run).card


def test_the_model_folder_tells_of_no_single_subject(run: Path, tmp_path: Path, scan: Path) -> None:
    shared, scans = tmp_path / "shared", Run(run).scans()
    shutil.copytree(run / "model", shared)
    names = {path.name for path in shared.iterdir()}
    assert names == {
        *("card.json", "reference.safetensors", "SHA256SUMS"),
        *("fold-0.safetensors", "fold-1.safetensors"),
    }
    text = "".join(path.read_bytes().decode("latin-1") for path in shared.iterdir())
    for column in ("participant_id", "voxel_hash", "source_sha256"):
        assert not [cell for cell in scans[column] if cell in text]
    prediction, own = Predictor(shared)(scan), Predictor(run)(scan)
    assert prediction.probabilities == own.probabilities
    assert not Run(shared).training_scans().hashes


def test_what_is_known_of_subjects_may_be_taken_away(
    run: Path, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(run, tmp_path / "run")
    copied = Run(tmp_path / "run")
    scan = source / "sub-00" / "anat" / "sub-00_T1w.nii.gz"
    assert any("was trained on this scan" in line for line in Predictor(copied.path)(scan).warnings)
    for path in copied.about_subjects:
        path.unlink()
    assert not Predictor(copied.path)(scan).warnings
    assert main(["evaluate", str(copied.path), "--draws", "100"]) == 0


@pytest.mark.parametrize("content", ["[]", '{"salt": 1, "hashes": []}', "x"])
def test_changed_facts_about_subjects_are_rejected(run: Path, tmp_path: Path, content: str) -> None:
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "run" / "training_scans.json").write_text(content)
    with pytest.raises(BadInput, match=r"training_scans\.json: its SHA-256 differs"):
        Predictor(tmp_path / "run")


def early(run: Path, out: Path) -> Run:
    """A run as early versions wrote it: facts about subjects in the model folder."""
    shutil.copytree(run, out)
    copied = Run(out)
    copied.training_scans_path.unlink()
    (copied.model_folder / "neighbours.json").write_text("[]")
    card = files.read_json(copied.card_path)
    del card["results"], card["domain"]
    card["training"]["voxel_hashes"] = sorted(copied.scans()["voxel_hash"])
    files.write_json(copied.card_path, card)
    copied.seal()
    return Run(out)


def test_runs_of_early_versions_load(run: Path, source: Path, scan: Path, tmp_path: Path) -> None:
    before = early(run, tmp_path / "run")
    predictor = Predictor(before.path)
    assert predictor(scan).probabilities == Predictor(run)(scan).probabilities
    known = predictor(source / "sub-00" / "anat" / "sub-00_T1w.nii.gz")
    assert any("was trained on this scan" in line for line in known.warnings)
