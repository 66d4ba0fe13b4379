"""Names of output folders."""

from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from uncus.pipeline.predict import Predictor
from uncus.pipeline.prediction.output import figure, scan_name, write_map
from uncus.pipeline.saliency.structure import NO_STRUCTURE


@pytest.mark.parametrize(
    ("name", "plain"),
    [("a.nii.gz", "a"), ("a.b.nii", "a.b"), ("x.MGZ", "x"), ("s.img", "s"), ("s", "s")],
)
def test_scan_names(name: str, plain: str) -> None:
    assert scan_name(Path("/somewhere") / name) == plain


def test_a_map_without_structure_is_said_to_be_so_and_not_drawn(
    mni_run: Path, mni_source: Path, tmp_path: Path
) -> None:
    scan = mni_source / "sub-P0001" / "anat" / "sub-P0001_T1w.nii.gz"
    predictor = Predictor(mni_run, segment=None)
    painted = predictor.explain(predictor(scan), "gradient")
    flat = replace(painted, saliency=np.ones_like(painted.saliency))
    assert write_map(tmp_path, painted)["regions"]
    assert write_map(tmp_path, flat) == {"no_regions": NO_STRUCTURE}
    assert not (tmp_path / "atlas.tsv").exists()
    assert nib.load(tmp_path / "saliency.nii.gz").get_fdata().max() == pytest.approx(1)
    # One axes fewer: no colors, so no scale of them.
    assert len(figure(flat).axes) == len(figure(painted).axes) - 1 == 3
    assert "the same everywhere" in figure(flat).get_supxlabel()
