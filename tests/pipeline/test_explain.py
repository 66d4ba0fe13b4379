"""``uncus explain``: several methods side by side, on any scan that predict takes."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tests.conftest import AFFINE, small_brain
from tests.dicom_files import UID, save, series
from uncus.data.cohorts.scans import read_table
from uncus.pipeline.cli import main
from uncus.pipeline.explain import leading


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A DICOM folder of two series of one person: 1 is the scan, 2 another."""
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
    assert "holds 2 series" in capsys.readouterr().err
    assert main([*command, "--series", "1"]) == 0
    said = capsys.readouterr().out
    assert main(["predict", str(run), str(folder), "--series", "1"]) == 0
    assert capsys.readouterr().out.splitlines()[0] in said
    found = nib.load(tmp_path / "out" / "in" / "saliency_gradient.nii.gz")
    assert found.shape == (16, 16, 16)
    # In a run that keeps scans where they are there are no regions to tell of.
    assert not list((tmp_path / "out").rglob("atlas*"))


def test_leading_regions_in_a_line() -> None:
    rows = [{"region": name, "saliency_share": 0.4 - 0.1 * i} for i, name in enumerate("ABCD")]
    assert leading(rows) == "A 40%, B 30%, C 20%"


def test_regions_of_each_method_where_scans_are_registered(
    mni_run: Path, mni_source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scan = mni_source / "sub-P0001" / "anat" / "sub-P0001_T1w.nii.gz"
    command = ["explain", str(mni_run), str(scan), "--out", str(tmp_path)]
    assert main([*command, "--methods", "gradient", "grad_cam"]) == 0
    said = capsys.readouterr().out
    for method in ("gradient", "grad_cam"):
        table = read_table(tmp_path / "sub-P0001_T1w" / f"atlas_{method}.tsv")
        rows = table.set_index("region")
        assert {"Left Hippocampus", "Right Lateral Ventricle"} <= set(rows.index)
        assert 0 < rows["saliency_share"].astype(float).sum() <= 1.001
        assert f"  {table['region'][0]} " in said
