"""A small cohort and a small run that several tests share, made by the program itself."""

import os
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")

from uncus.pipeline.cli import main

SUBJECTS = 12
AFFINE = np.diag([4.0, 4.0, 4.0, 1.0])
AFFINE[:3, 3] = -30


def small_brain(subject: int, ill: bool) -> np.ndarray:
    """A ball of 16^3 voxels with a dark centre that is larger where ``ill``; background 0."""
    rng = np.random.default_rng(subject)
    radius = np.linalg.norm(np.indices((16, 16, 16)) - 7.5, axis=0)
    image = 100 + 5 * rng.standard_normal((16, 16, 16))
    image[radius < (4 if ill else 2)] = 30
    image[:, 8:, :] += 10
    image[:4] += 20
    image[radius > 7] = 0
    return image.astype(np.float32)


def write_source(root: Path, subjects: int = SUBJECTS) -> Path:
    """A BIDS tree of small brains: diagnosis CN or AD in turn, sex, age, one missing age."""
    rows = ["participant_id\tsex\tage\tdiagnosis"]
    for subject in range(subjects):
        ill = subject % 2 == 1
        name = f"sub-{subject:02d}"
        folder = root / name / "anat"
        folder.mkdir(parents=True)
        image = nib.Nifti1Image(small_brain(subject, ill), AFFINE)
        nib.save(image, folder / f"{name}_T1w.nii.gz")
        age = "n/a" if subject == 3 else str(60 + subject)
        rows.append(f"{name}\t{'FM'[subject // 2 % 2]}\t{age}\t{'AD' if ill else 'CN'}")
    (root / "participants.tsv").write_text("\n".join(rows) + "\n")
    (root / "dataset_description.json").write_text('{"Name": "small", "BIDSVersion": "1.9.0"}')
    return root


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BIDS tree of 12 small brains."""
    return write_source(tmp_path_factory.mktemp("source"))


@pytest.fixture(scope="session")
def cohort(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, prepared at 4 mm."""
    out = tmp_path_factory.mktemp("cohort") / "small"
    assert main(["prepare", str(source), str(out), "--spacing", "4", "--workers", "1"]) == 0
    return out


@pytest.fixture(scope="session")
def mni_source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BIDS tree of 6 phantoms of 4 mm that lie in MNI152, and say so."""
    out = tmp_path_factory.mktemp("mni") / "source"
    options = ["--subjects", "6", "--spacing", "4", "--registered", "--workers", "1"]
    assert main(["phantom", str(out), *options]) == 0
    return out


@pytest.fixture(scope="session")
def mni_cohort(mni_source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, prepared at 8 mm in space mni."""
    out = tmp_path_factory.mktemp("mni") / "cohort"
    options = ["--space", "mni", "--spacing", "8", "--workers", "1"]
    assert main(["prepare", str(mni_source), str(out), *options]) == 0
    return out


TRAIN = ["--target", "diagnosis", "--classes", "CN=CN", "AD=AD", "--backbone", "tiny"]
TRAIN += ["--width", "16", "--folds", "2", "--epochs", "3", "--accelerator", "cpu", "--lr", "0.01"]

Trained = Callable[..., Path]


@pytest.fixture(scope="session")
def run(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of two folds on the small cohort."""
    out = tmp_path_factory.mktemp("runs") / "run"
    assert main(["train", str(cohort), str(out), *TRAIN]) == 0
    return out


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
def mni_run(mni_cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of two folds on scans in space mni."""
    out = tmp_path_factory.mktemp("runs") / "mni"
    assert main(["train", str(mni_cohort), str(out), *TRAIN]) == 0
    return out
