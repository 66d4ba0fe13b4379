"""``uncus explain``: several methods, on any scan that predict accepts."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tests.conftest import AFFINE, small_brain
from tests.dicom_files import UID, save, series
from uncus.data.tables import read_table
from uncus.pipeline.cli import main
from uncus.pipeline.explain import leading
from uncus.pipeline.saliency import SALIENCY


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A DICOM folder with two series of one patient; the first is the scan."""
    stored = np.rint(small_brain(99, ill=True)).astype(np.int16)
    made = save(tmp_path / "in", series(stored, AFFINE))

    def edit(data: object, index: int) -> None:
        data.SeriesInstanceUID, data.SeriesNumber = f"{UID}.2", 4
        data.SOPInstanceUID = f"{UID}.8.{index}"

    return save(made, series(stored // 2, AFFINE, edit), "other")


def test_series_can_be_chosen_as_in_predict(
    run: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["explain", str(run), str(folder), "--out", str(tmp_path / "out")]
    command += ["--methods", "gradient"]
    assert main(command) == 2
    assert "contains 2 series" in capsys.readouterr().err
    assert main([*command, "--series", "1"]) == 0
    printed = capsys.readouterr().out
    assert main(["predict", str(run), str(folder), "--series", "1"]) == 0
    assert capsys.readouterr().out.splitlines()[0] in printed
    image = nib.load(tmp_path / "out" / "in" / "saliency_gradient.nii.gz")
    assert image.shape == (16, 16, 16)
    # A run that keeps the scans' own space has no regions.
    assert not list((tmp_path / "out").rglob("atlas*"))


def test_leading_regions_as_text() -> None:
    rows = [{"region": name, "saliency_share": 0.4 - 0.1 * i} for i, name in enumerate("ABCD")]
    assert leading(rows) == "A 40%, B 30%, C 20%"


def test_regions_of_each_method_where_scans_are_registered(
    mni_run: Path, mni_source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scan = mni_source / "sub-P0001" / "anat" / "sub-P0001_T1w.nii.gz"
    command = ["explain", str(mni_run), str(scan), "--out", str(tmp_path)]
    assert main([*command, "--methods", "gradient", "grad_cam"]) == 0
    printed = capsys.readouterr().out
    for method in ("gradient", "grad_cam"):
        table = read_table(tmp_path / "sub-P0001_T1w" / f"atlas_{method}.tsv")
        rows = table.set_index("region")
        assert {"Left Hippocampus", "Right Lateral Ventricle"} <= set(rows.index)
        assert 0 < rows["saliency_share"].astype(float).sum() <= 1.001
        assert f"  {table['region'][0]} " in printed


def test_explain_by_every_method(run: Path, scan: Path, tmp_path: Path) -> None:
    assert main(["explain", str(run), str(scan), "--out", str(tmp_path)]) == 0
    for method in SALIENCY:
        image = nib.load(tmp_path / "new_T1w" / f"saliency_{method}.nii.gz")
        values = image.get_fdata()
        assert np.isfinite(values).all() and np.abs(values).max() > 0
        assert (tmp_path / "new_T1w" / f"saliency_{method}.png").exists()
