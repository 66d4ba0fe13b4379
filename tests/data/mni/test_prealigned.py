"""Scans whose headers declare them aligned to MNI152: verified, or registered if they are not."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from uncus.data.imageio.volume import Native, Volume
from uncus.data.mni import prealigned, registration
from uncus.data.mni.template import mni_grid
from uncus.data.phantom.anatomy import load_anatomy
from uncus.data.phantom.subject import aligned, draw_parameters, make_subject
from uncus.data.transforms.path import place


@pytest.fixture(scope="module")
def scan() -> Volume:
    """A phantom at 4 mm, aligned to the template and declared so by its header."""
    subject = make_subject(aligned(draw_parameters(0, 1)), load_anatomy(4), 4)
    return volume(subject.image.astype(np.float32), subject.affine)


def volume(array: np.ndarray, affine: np.ndarray, code: int = 4) -> Volume:
    native = Native(Path("x.nii.gz"), array.shape, affine, "RAS", (affine, code), (affine, code))
    return Volume(array, affine, native)


def moved(scan: Volume, transform: np.ndarray) -> Volume:
    return volume(scan.array, transform @ scan.affine)


def test_an_aligned_brain_is_not_moved(scan: Volume, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registration, "register", lambda _: pytest.fail("it was registered"))
    result = prealigned.verify(scan)
    assert result is not None and result.skull_stripped
    np.testing.assert_array_equal(result.to_mni, np.eye(4))
    np.testing.assert_array_equal(result.mask[scan.array > 0], True)
    grid = mni_grid(np.full(3, 4.0))
    placed = place(scan, grid, "mni")
    assert placed.quality["overlap"] >= prealigned.MIN_OVERLAP and placed.warnings == ()
    # It was only resampled, as in space keep.
    unregistered = place(scan, grid, "keep")
    np.testing.assert_allclose(placed.array, unregistered.array, atol=1e-5)


SHIFTS = {
    "5 mm to the right": (5, 0, 0),
    "5 mm anterior": (0, 5, 0),
    "5 mm superior": (0, 0, 5),
}


@pytest.mark.parametrize("name", SHIFTS)
def test_a_shifted_brain_is_not_accepted(name: str, scan: Volume) -> None:
    transform = np.eye(4)
    transform[:3, 3] = SHIFTS[name]
    assert prealigned.verify(moved(scan, transform)) is None


def test_a_rotated_mirrored_or_scaled_brain_is_not_accepted(scan: Volume) -> None:
    for change in (
        Rotation.from_euler("x", 6, degrees=True).as_matrix(),
        np.diag([1.07, 1.07, 1.07]),
        np.diag([1.0, 1, -1]),
    ):
        transform = np.eye(4)
        transform[:3, :3] = change
        assert prealigned.verify(moved(scan, transform)) is None


def test_only_skull_stripped_brains_with_the_sform_code_are_accepted(scan: Volume) -> None:
    for code in (0, 1, 2, 3):
        assert prealigned.verify(volume(scan.array, scan.affine, code)) is None
    noise = np.random.default_rng(0).normal(300, 40, scan.array.shape).astype(np.float32)
    head = np.where(scan.array > 0, scan.array, noise)
    assert prealigned.verify(volume(head, scan.affine)) is None
    inverted = np.where(scan.array > 0, scan.array.max() + 1 - scan.array, 0)
    assert prealigned.verify(volume(inverted, scan.affine)) is None
    half = scan.array * (np.arange(scan.array.shape[2]) > 20)
    assert prealigned.verify(replace(scan, array=half.astype(np.float32))) is None
