"""Fixtures that the tests of several verbs share."""

import json
from pathlib import Path

import nibabel as nib
import pytest

from tests.conftest import TRAIN, small_brain, write_source
from uncus.pipeline import cli
from uncus.pipeline.cli import main


@pytest.fixture
def scan(source: Path, tmp_path: Path) -> Path:
    """A scan of a new subject, similar to the training scans."""
    like = nib.load(source / "sub-00" / "anat" / "sub-00_T1w.nii.gz")
    path = tmp_path / "new_T1w.nii.gz"
    nib.save(nib.Nifti1Image(small_brain(99, ill=True), like.affine), path)
    return path


@pytest.fixture(scope="session")
def sure_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of two folds on 40 small brains, enough to be calibrated."""
    folder = tmp_path_factory.mktemp("sure")
    source = write_source(folder / "source", subjects=40)
    options = ["--spacing", "4", "--workers", "1"]
    assert main(["prepare", str(source), str(folder / "cohort"), *options]) == 0
    assert main(["train", str(folder / "cohort"), str(folder / "run"), *TRAIN]) == 0
    return folder / "run"


@pytest.fixture(scope="session")
def speed_folder(tmp_path_factory):
    """speed.json and speed.md with every part that a CPU can measure."""
    out = tmp_path_factory.mktemp("speed")
    assert (
        cli.main(["bench", "--device", "cpu", "--quick", "--rounds", "2", "--out", str(out)]) == 0
    )
    assert {path.name for path in out.iterdir()} == {"speed.json", "speed.md"}
    return out


def parts_of(folder) -> dict:
    """The results measured on a CPU."""
    results = json.loads((folder / "speed.json").read_text())
    return {name: part["cpu"] for name, part in results.items() if name != "format"}
