"""The model card: what it states of the training, and that it is written completely."""

import resource
import shutil
from pathlib import Path

import pytest

from tests.conftest import TRAIN
from uncus import NOTICE
from uncus.pipeline.cli import main
from uncus.pipeline.runs import Run


def test_the_card_describes_the_training_data(run: Path) -> None:
    card = Run(run).card
    scans = Run(run).scans()
    assert card["notice"] == NOTICE
    assert card["training"]["voxel_hashes"] == sorted(scans["voxel_hash"])
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
