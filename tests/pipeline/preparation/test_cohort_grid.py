"""The grid covers every brain but those of misplaced scans."""

from pathlib import Path

import nibabel as nib
import numpy as np

from tests.conftest import AFFINE, small_brain, write_source
from tests.pipeline.preparation.cohorts import image, prepare
from uncus.data.prepared_cohort import PreparedCohort
from uncus.pipeline.preparation.cohort_grid import Measure, common_grid


def test_a_misplaced_scan_does_not_enlarge_the_grid(tmp_path: Path) -> None:
    source = write_source(tmp_path / "source", 6)
    prepare(source, tmp_path / "usual")
    grid = PreparedCohort.open(tmp_path / "usual").grid
    affine = AFFINE.copy()
    affine[0, 3] += 400
    nib.save(nib.Nifti1Image(small_brain(5, True), affine), image(source, 5))
    assert prepare(source, tmp_path / "cohort") == 1
    assert PreparedCohort.open(tmp_path / "cohort").grid == grid
    assert "outside the field of view" in (tmp_path / "cohort" / "failed.tsv").read_text()


def test_the_grid_covers_every_box_with_no_voxel_to_spare() -> None:
    rng = np.random.default_rng(0)
    lows, highs = rng.normal(-70, 4, (50, 3)), rng.normal(70, 4, (50, 3))
    boxes = [Measure("", tuple(low), tuple(high)) for low, high in zip(lows, highs, strict=True)]
    grid = common_grid(boxes, np.array([2.0, 3, 1]))
    first = grid.affine[:3, 3] - np.array(grid.spacing) / 2
    last = first + np.array(grid.shape) * grid.spacing
    assert (first <= lows.min(axis=0)).all() and (last >= highs.max(axis=0)).all()
    assert (last - first - (highs.max(axis=0) - lows.min(axis=0)) < grid.spacing).all()
