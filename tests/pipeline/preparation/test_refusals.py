"""Rejected scans leave a picture in the cohort's folder for as long as they are rejected."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from tests.conftest import AFFINE, write_source
from tests.pipeline.preparation.cohorts import image, prepare


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
