"""The viewer's files are aligned with the scan."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tests.conftest import AFFINE, small_brain
from uncus.data.imageio.volume import Native, Volume
from uncus.pipeline.predict import Predictor
from uncus.pipeline.prediction import viewer_files
from uncus.pipeline.prediction.results import Explanation


@pytest.mark.parametrize("codes", ["RAS", "LIA"])
def test_map_and_scan_are_aligned(run: Path, tmp_path: Path, codes: str) -> None:
    image = nib.Nifti1Image(small_brain(99, ill=True), AFFINE)
    turn = nib.orientations.ornt_transform(
        nib.io_orientation(AFFINE), nib.orientations.axcodes2ornt(codes)
    )
    image = image.as_reoriented(turn)
    nib.save(image, tmp_path / "scan.nii.gz")
    predictor = Predictor(run)
    prediction = predictor(tmp_path / "scan.nii.gz")
    placed, grid = prediction.placed, predictor.grid
    viewer_files.write_scan(tmp_path / "shown.nii.gz", placed)
    shown = nib.load(tmp_path / "shown.nii.gz")
    assert shown.get_data_dtype() == np.uint8
    places = np.argwhere(np.ones(shown.shape))
    mm = nib.affines.apply_affine(shown.affine, places)
    there = np.rint(nib.affines.apply_affine(np.linalg.inv(image.affine), mm)).astype(int)
    assert np.corrcoef(shown.get_fdata().ravel(), image.get_fdata()[tuple(there.T)])[0, 1] > 0.99
    saliency = np.zeros(grid.shape, np.float32)
    spot = tuple(np.argwhere(placed.mask)[len(np.argwhere(placed.mask)) // 2])
    saliency[spot], saliency[0, 0, 0] = 2.0, 2.0  # the corner is outside the brain
    weaker = tuple(np.argwhere(placed.mask)[0])
    saliency[weaker] = -1.5
    written = viewer_files.write_map(
        tmp_path / "map.nii.gz", Explanation(prediction, "", "", saliency, grid)
    )
    stored = nib.load(tmp_path / "map.nii.gz")
    assert written["signed"] and written["outside"] == pytest.approx(2 / 5.5, abs=1e-4)
    assert stored.get_fdata()[spot] == written["top"] and np.count_nonzero(stored.get_fdata()) == 2
    saliency[0, 0, 0] = 0
    on_scan = np.abs(placed.to_scan(saliency))
    voxel = np.unravel_index(on_scan.argmax(), on_scan.shape)
    mm = placed.volume.affine @ [*voxel, 1.0]
    assert np.linalg.norm(mm[:3] - written["peak"]) <= 4  # mm, the edge of a voxel


def test_the_air_around_the_head_is_left_out() -> None:
    noise = np.random.default_rng(0).rayleigh(3, (60, 70, 80)).astype(np.float32)
    noise[20:41, 10:61, 30:] += 100  # to the edge, as a neck
    native = Native(Path("a.nii"), (60, 70, 80), np.eye(4), "RAS", (None, 0), (None, 0))
    box = viewer_files.head_box(Volume(noise, np.diag([2.0, 1, 1, 1]), native))
    ends = [(one.start, one.stop) for one in box]
    assert ends == [(15, 47), (0, 70), (20, 80)]


def test_an_empty_map(run: Path, tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(small_brain(99, ill=True), AFFINE), tmp_path / "scan.nii.gz")
    predictor = Predictor(run)
    prediction = predictor(tmp_path / "scan.nii.gz")
    empty = np.zeros(predictor.grid.shape, np.float32)
    explanation = Explanation(prediction, "", "", empty, predictor.grid)
    written = viewer_files.write_map(tmp_path / "map.nii.gz", explanation)
    assert written["outside"] == 0 and not written["signed"]
    assert written["peak"] is None and "the same everywhere" in written["doubts"][0]
    # The same everywhere in the brain: not painted, whatever the value.
    even = Explanation(prediction, "", "", empty + 3, predictor.grid)
    assert viewer_files.write_map(tmp_path / "map.nii.gz", even) == written
    assert not nib.load(tmp_path / "map.nii.gz").get_fdata().any()
