"""Rejected scans leave a picture in the cohort's folder for as long as they are rejected."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from tests.conftest import AFFINE, write_source
from tests.data.segmentation.heads import MRI, needs_heads
from tests.pipeline.preparation.cohorts import image, prepare
from uncus.pipeline.cli import main


def test_a_ct_among_brains_leaves_its_picture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = write_source(tmp_path / "source", 4), tmp_path / "cohort"
    before = image(source, 1).read_bytes()
    ct = np.full((16, 16, 16), -1000, np.float32)
    ct[4:12, 4:12, 4:12], ct[5:11, 5:11, 5:11] = 900, 40  # bone around soft tissue
    nib.save(nib.Nifti1Image(ct, AFFINE), image(source, 1))
    image(source, 2).write_bytes(image(source, 2).read_bytes()[:-50])
    assert prepare(source, out) == 1
    assert [path.name for path in (out / "refused").iterdir()] == ["sub-01.png"]
    with Image.open(out / "refused" / "sub-01.png") as picture:
        assert picture.width == 1000 and np.asarray(picture.convert("L")).std() > 20
    assert f"failed.tsv and {out / 'refused'}" in capsys.readouterr().err
    image(source, 1).write_bytes(before)
    assert prepare(source, out) == 1
    assert not (out / "refused").exists()


@needs_heads
@pytest.mark.slow
def test_a_head_that_is_cut_off_leaves_its_picture_with_outlines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    head = nib.load(MRI / "elderly-heads" / "sub-NC09_T1w.nii.gz")
    (tmp_path / "source").mkdir()
    cut = head.slicer[:, :, round(0.42 * head.shape[2]) :]
    nib.save(cut, tmp_path / "source" / "sub-01_T1w.nii.gz")
    command = ["prepare", str(tmp_path / "source"), str(tmp_path / "out"), "--space", "mni"]
    assert main([*command, "--workers", "1"]) == 2
    assert "edge of the field of view cuts the brain off" in capsys.readouterr().err
    with Image.open(next((tmp_path / "out" / "refused").iterdir())) as picture:
        red, green, blue = np.asarray(picture.convert("RGB"), int).reshape(-1, 3).T
    assert ((red < 100) & (green > 180) & (blue > 200)).any()  # the outline of a ventricle
