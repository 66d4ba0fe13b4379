"""Predictions for the scans of a prepared cohort."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tests.conftest import small_brain, write_source
from uncus.data.prepared_cohort import PreparedCohort
from uncus.data.tables import read_table
from uncus.pipeline.cli import main
from uncus.pipeline.prediction.predictor import Predictor
from uncus.pipeline.prediction.prepared_scans import RESAMPLED, predict_prepared


def test_a_cohort_is_predicted_scan_by_scan_as_its_sources_are(
    run: Path, source: Path, cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["predict", str(run), str(cohort), "--out", str(out)]) == 0
    table = read_table(out / "predictions.tsv")
    names = [f"sub-{number:02d}" for number in range(12)]
    assert list(table["scan"]) == names
    assert {path.name for path in out.iterdir()} == {*names, "predictions.tsv"}
    raw = [str(source / name / "anat" / f"{name}_T1w.nii.gz") for name in names[:3]]
    capsys.readouterr()
    assert main(["predict", str(run), *raw, "--json"]) == 0
    for row, answer in enumerate(json.loads(capsys.readouterr().out)):
        for label, share in answer["probabilities"].items():
            assert float(table[f"p_{label}"][row]) == pytest.approx(share, abs=1e-6)
        assert table["label"][row] == answer["label"]
        assert "the run was trained on this scan" in table["warnings"][row]
    grid = PreparedCohort.open(cohort).grid
    saliency = nib.load(out / "sub-00" / "saliency.nii.gz")
    assert saliency.shape == grid.shape and np.allclose(saliency.affine, grid.affine)


def test_a_cohort_in_mni_space_has_its_regions(
    mni_run: Path, mni_cohort: Path, tmp_path: Path
) -> None:
    assert main(["predict", str(mni_run), str(mni_cohort), "--out", str(tmp_path)]) == 0
    assert len(read_table(tmp_path / "predictions.tsv")) == 6
    name = PreparedCohort.open(mni_cohort).manifest["scans"][0]["name"]
    assert len(read_table(tmp_path / name / "atlas.tsv")) > 50


def test_a_cohort_on_another_grid_is_resampled_with_a_warning(
    run: Path, source: Path, cohort: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    command = ["prepare", str(source), str(other), "--spacing", "3.7", "--workers", "1"]
    assert main(command) == 0
    predictor = Predictor(run)
    same = predict_prepared(predictor, PreparedCohort.open(cohort), 0)
    resampled = predict_prepared(predictor, PreparedCohort.open(other), 0)
    assert RESAMPLED in resampled.warnings and RESAMPLED not in same.warnings
    assert np.corrcoef(same.placed.array.ravel(), resampled.placed.array.ravel())[0, 1] > 0.9


def test_a_cohort_in_another_space_is_an_error(
    run: Path, mni_cohort: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", str(run), str(mni_cohort)]) == 2
    error = capsys.readouterr().err
    assert "is in space mni, the run in keep" in error and "--space keep --spacing 4 4 4" in error


def test_a_cohort_is_prepared_like_a_run_or_another_cohort(
    run: Path, cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_source(tmp_path / "source", 6)
    for number in range(6):  # other brains, which have another grid of their own
        path = source / f"sub-{number:02d}" / "anat" / f"sub-{number:02d}_T1w.nii.gz"
        moved = nib.load(path).affine
        moved[:3, 3] += 1.5
        nib.save(nib.Nifti1Image(small_brain(50 + number, ill=False), moved), path)
    grid = PreparedCohort.open(cohort).grid
    for name, like in (("a", str(run)), ("b", str(cohort)), ("c", str(run / "model"))):
        out = tmp_path / name
        command = ["prepare", str(source), str(out), "--like", like, "--workers", "1"]
        assert main(command) == 0
        prepared = PreparedCohort.open(out)
        assert prepared.grid == grid and prepared.space == "keep" and len(prepared) == 6
        capsys.readouterr()
        assert main(command) == 0
        assert "is up to date" in capsys.readouterr().err
    own = tmp_path / "own"
    assert main(["prepare", str(source), str(own), "--spacing", "4", "--workers", "1"]) == 0
    assert PreparedCohort.open(own).grid != grid
    assert main(["predict", str(run), str(tmp_path / "a"), "--json"]) == 0
    assert "resampled a second time" not in capsys.readouterr().out
    assert main(["prepare", str(source), str(tmp_path / "x"), "--like", str(source)]) == 2
    assert "is not a run" in capsys.readouterr().err
