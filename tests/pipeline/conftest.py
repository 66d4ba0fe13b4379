"""Fixtures that the tests of several verbs share."""

import json
from pathlib import Path

import nibabel as nib
import pytest

from tests.conftest import small_brain
from uncus.pipeline import cli


@pytest.fixture
def scan(source: Path, tmp_path: Path) -> Path:
    """A scan of a new subject, similar to the training scans."""
    like = nib.load(source / "sub-00" / "anat" / "sub-00_T1w.nii.gz")
    path = tmp_path / "new_T1w.nii.gz"
    nib.save(nib.Nifti1Image(small_brain(99, ill=True), like.affine), path)
    return path


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
