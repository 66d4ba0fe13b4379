"""A run, and a new site with another scanner."""

import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tests.conftest import TRAIN, write_source
from uncus.data.tables import read_table, write_table
from uncus.pipeline.adaptation import tuning
from uncus.pipeline.cli import main

HOME, ABROAD = 12, 40
"""Subjects of the source, and after them those of the new site."""


@pytest.fixture(autouse=True)
def short_trainings(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few steps show what a method changes and what not."""
    monkeypatch.setattr(tuning, "STEPS", 8)


def dimmed(image: np.ndarray) -> np.ndarray:
    """Another scanner: less contrast, the middle brighter on one side."""
    brain = image > 0
    slope = np.linspace(0.7, 1.3, image.shape[0])[:, None, None]
    return np.where(brain, 100 * (np.abs(image) / 100) ** 0.4 * slope, 0).astype(np.float32)


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory, cohort: Path) -> Path:
    """28 new subjects, scanned by another scanner."""
    folder = tmp_path_factory.mktemp("site")
    source = write_source(folder / "source", subjects=ABROAD)
    for number in range(HOME):
        shutil.rmtree(source / f"sub-{number:02d}")
    table = read_table(source / "participants.tsv").iloc[HOME:]
    write_table(source / "participants.tsv", table)
    for path in source.glob("*/anat/*.nii.gz"):
        scan = nib.load(path)
        nib.save(nib.Nifti1Image(dimmed(scan.get_fdata()), scan.affine), path)
    options = ["--spacing", "4", "--workers", "1"]
    assert main(["prepare", str(source), str(folder / "site"), *options]) == 0
    return folder / "site"


@pytest.fixture(scope="session")
def batch_run(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one fold with batch norm."""
    out = tmp_path_factory.mktemp("runs") / "batch"
    options = [word if word != "2" else "1" for word in TRAIN]
    assert main(["train", str(cohort), str(out), *options, "--norm", "batch"]) == 0
    return out
