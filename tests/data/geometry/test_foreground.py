"""The foreground of whole heads and of skull-stripped brains."""

from pathlib import Path

import nibabel as nib
import numpy as np

from tests.data.ellipsoid_brain import brain, scan, upright
from uncus.data.geometry.foreground import brain_mask, constant_background, fill_holes, otsu
from uncus.data.imageio.volume import Volume, read_volume


def head(tmp_path: Path) -> Volume:
    """A brain in a noisy background, with a dark hole inside and a bright speck outside."""
    affine, shape = upright()
    array = brain(affine, shape) + np.random.default_rng(0).rayleigh(5, shape)
    array[16:20, 20:24, 15:18] = 1
    array[1, 1, 1] = 300
    nib.save(nib.Nifti1Image(array.astype(np.float32), affine), tmp_path / "head.nii.gz")
    return read_volume(tmp_path / "head.nii.gz")


def test_a_skull_stripped_brain_is_everything_but_the_background(tmp_path: Path) -> None:
    volume = scan(tmp_path / "scan.nii.gz", *upright())
    array = volume.array.copy()
    array[16:20, 20:24, 15:18] = 0  # a ventricle that was set to 0
    array[0, 0, 0] = 9  # a speck
    mask = brain_mask(Volume(array, volume.affine, volume.native))
    np.testing.assert_array_equal(mask, volume.array != 0)


def test_a_brain_in_a_noisy_background_is_segmented_with_its_holes(tmp_path: Path) -> None:
    volume = head(tmp_path)
    assert constant_background(volume.array) is None
    assert 20 < otsu(volume.array) < 60
    np.testing.assert_array_equal(brain_mask(volume), brain(*upright()) != 0)


def test_a_z_scored_skull_stripped_brain_keeps_its_negative_values(tmp_path: Path) -> None:
    volume = scan(tmp_path / "scan.nii.gz", *upright())
    inside = volume.array != 0
    array = np.where(inside, (volume.array - 100) / 20, 0).astype(np.float32)
    mask = brain_mask(Volume(array, volume.affine, volume.native))
    np.testing.assert_array_equal(mask, inside)


def test_a_hole_through_a_slab_is_filled_and_a_notch_is_not() -> None:
    mask = np.zeros((80, 10, 80), bool)
    mask[10:70, :, 10:70] = True
    mask[30:40, :, 30:40] = False  # a ventricle through all slices
    mask[50:55, :, 10:20] = False  # a sulcus, open at the side
    filled = fill_holes(mask, (1, 1, 1))
    assert filled[30:40, :, 30:40].all()
    assert not filled[50:55, :, 10:20].any() and not filled[:10].any()
