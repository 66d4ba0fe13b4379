"""A phantom is known by its own header, wherever it is copied."""

import shutil
from pathlib import Path

import nibabel as nib
import numpy as np

from uncus.data.phantom.recipe import is_phantom
from uncus.pipeline.cli import main


def test_a_phantom_is_known_without_its_dataset(tmp_path: Path) -> None:
    source = tmp_path / "source"
    assert main(["phantom", str(source), "--subjects", "2", "--spacing", "8"]) == 0
    scan = next(source.rglob("*_T1w.nii.gz"))
    copy = Path(shutil.copy(scan, tmp_path / "copy.nii.gz"))
    assert is_phantom(scan) and is_phantom(copy)
    image = nib.load(copy)
    plain = nib.Nifti1Image(np.asarray(image.dataobj), image.affine)
    nib.save(plain, tmp_path / "plain.nii.gz")
    assert not is_phantom(tmp_path / "plain.nii.gz")
    nib.save(plain, source / "in_its_dataset.nii.gz")
    assert is_phantom(source / "in_its_dataset.nii.gz")
    (tmp_path / "series").mkdir()
    (tmp_path / "series" / "1.dcm").write_bytes(b"no image")
    assert not is_phantom(tmp_path / "series") and not is_phantom(tmp_path / "series" / "1.dcm")
