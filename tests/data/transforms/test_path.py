"""Placing on a grid and back: positions are right in mm, however the scan is stored."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from tests.data.ellipsoid_brain import RADII, mm, pattern, scan, tilted, upright
from uncus.data.errors import BadInput
from uncus.data.geometry import resample
from uncus.data.geometry.foreground import brain_mask
from uncus.data.imageio.volume import Volume, read_volume
from uncus.data.imageio.writer import native_array
from uncus.data.space import SPACES, Grid, Placed
from uncus.data.transforms.normalization import NormalizeBrain
from uncus.data.transforms.path import place
from uncus.data.transforms.placing import contact

MRI = Path(__file__).parents[4] / "shared" / "mri"
ORIENTATIONS = ["RAS", "LAS", "LPI", "PSR", "LIA"]
GRID = Grid(
    (22, 27, 19), np.array([[3.0, 0, 0, -31], [0, 3, 0, -40], [0, 0, 3, -26], [0, 0, 0, 1]])
)


def to_native(array: np.ndarray, placed: Placed) -> np.ndarray:
    """A map on the grid in the voxel order of the scan's file."""
    return native_array(placed.volume, placed.to_scan(array))


@pytest.mark.parametrize("axcodes", ORIENTATIONS)
def test_every_orientation_gives_the_same_placed_scan_and_map(axcodes: str, tmp_path: Path) -> None:
    affine, shape = upright()
    plain = place(scan(tmp_path / "ras.nii.gz", affine, shape), GRID)
    reoriented = place(scan(tmp_path / "reoriented.nii.gz", affine, shape, axcodes), GRID)
    assert reoriented.volume.native.axcodes == axcodes
    assert plain.mask.sum() > 1000
    np.testing.assert_array_equal(reoriented.mask, plain.mask)
    np.testing.assert_allclose(reoriented.array, plain.array, atol=1e-5)
    assert reoriented.contact == plain.contact
    # The map carried back is the same in world coordinates.
    saliency = np.random.default_rng(0).random(GRID.shape, np.float32)
    there = nib.Nifti1Image(to_native(saliency, reoriented), reoriented.volume.native.affine)
    here = nib.Nifti1Image(to_native(saliency, plain), plain.volume.native.affine)
    assert there.shape == reoriented.volume.native.shape
    canonical = nib.as_closest_canonical(there)
    np.testing.assert_allclose(canonical.affine, here.affine, atol=1e-4)
    np.testing.assert_allclose(canonical.get_fdata(), here.get_fdata(), atol=1e-4)


@pytest.mark.parametrize("step", [(2.0, 2.0, 2.0), (1.0, 3.0, 2.0)])
@pytest.mark.parametrize("kind", [upright, tilted])
def test_positions_are_right_for_upright_and_oblique_scans(
    kind: Any, step: Sequence[float], tmp_path: Path
) -> None:
    affine, shape = kind(step) if kind is tilted else kind(step[0])
    volume = scan(tmp_path / "scan.nii.gz", affine, shape)
    array, inside = resample.masked(volume, brain_mask(volume), GRID)
    points = mm(GRID.affine, GRID.shape)
    deep = ((points / (RADII - 8)) ** 2).sum(axis=-1) < 1
    assert inside[deep].all() and deep.sum() > 500
    # Smoothing from 2 to 3 mm changes the pattern by less than 1, a shift of one voxel by about 4.
    assert np.abs(array - pattern(points))[deep].max() < 1.0
    outside = ((points / (RADII + 4)) ** 2).sum(axis=-1) > 1
    assert not inside[outside].any() and not array[outside].any()


@pytest.mark.parametrize("kind", [upright, tilted])
def test_a_map_is_carried_back_to_its_position(kind: Any, tmp_path: Path) -> None:
    affine, shape = kind()
    volume = scan(tmp_path / "scan.nii.gz", affine, shape, "LIA")
    placed = place(volume, GRID)
    carried = to_native(pattern(mm(GRID.affine, GRID.shape)).astype(np.float32), placed)
    points = mm(volume.native.affine, volume.native.shape)
    low = GRID.affine[:3, 3]
    high = low + (np.array(GRID.shape) - 1) * 3
    covered = ((points > low) & (points < high)).all(axis=-1)
    assert covered.sum() > 1000
    assert np.abs(carried - pattern(points))[covered].max() < 0.5
    beyond = ((points < low - 3) | (points > high + 3)).any(axis=-1)
    assert beyond.any() and not carried[beyond].any()
    ras = nib.as_closest_canonical(nib.Nifti1Image(carried, volume.native.affine)).get_fdata()
    saliency = pattern(mm(GRID.affine, GRID.shape)).astype(np.float32)
    np.testing.assert_array_equal(ras, placed.to_scan(saliency))


def test_the_value_of_the_background_does_not_matter(tmp_path: Path) -> None:
    affine, shape = upright()
    volume = scan(tmp_path / "scan.nii.gz", affine, shape)
    array = volume.array.copy()
    array[array == 0] = -777
    placed = place(volume, GRID)
    other = place(Volume(array, volume.affine, volume.native), GRID)
    np.testing.assert_array_equal(other.mask, placed.mask)
    np.testing.assert_allclose(other.array, placed.array, atol=1e-4)


def test_normalization_is_a_z_score_of_clipped_values_inside() -> None:
    rng = np.random.default_rng(0)
    array = rng.normal(500, 80, (20, 20, 20)).astype(np.float32)
    mask = rng.random(array.shape) < 0.5
    array[tuple(np.argwhere(mask)[0])] = 1e6
    result = NormalizeBrain().normalize(array, mask)
    assert result[~mask].any() is np.False_
    assert abs(result[mask].mean()) < 1e-5 and abs(result[mask].std() - 1) < 1e-5
    assert result.max() < 4
    np.testing.assert_allclose(NormalizeBrain().normalize(array * 3 - 70, mask), result, atol=1e-4)
    assert not NormalizeBrain().normalize(np.full_like(array, 7), mask).any()


def test_a_scan_outside_the_grid_is_rejected_and_one_half_outside_gets_a_warning(
    tmp_path: Path,
) -> None:
    affine, _ = upright()
    affine[0, 3] += 500
    volume = scan(tmp_path / "far.nii.gz", *upright())
    far = Volume(volume.array, affine, volume.native)
    with pytest.raises(BadInput, match="outside the field of view"):
        place(far, GRID)
    affine[0, 3] -= 470
    half = place(Volume(volume.array, affine, volume.native), GRID)
    assert [w for w in half.warnings if "outside the common grid" in w]
    assert place(volume, GRID).warnings == ()


def test_the_field_of_view_on_the_grid(tmp_path: Path) -> None:
    volume = scan(tmp_path / "scan.nii.gz", *upright())
    part = Volume(volume.array[:18], volume.affine, volume.native)
    visible = place(part, GRID).in_field_of_view
    right_face = part.affine[0, 3] + 17.5 * 2
    expected = mm(GRID.affine, GRID.shape)[..., 0] <= right_face
    np.testing.assert_array_equal(visible, expected & resample.field_of_view(volume, GRID))


def test_contact_is_the_share_of_the_brain_that_each_face_cuts() -> None:
    mask = np.zeros((10, 12, 14), bool)
    mask[3:, 2:9, 4:10] = True
    assert contact(mask) == (0, 1, 0, 0, 0, 0)
    mask[0, 2:9, 4:7] = True
    assert contact(mask) == (0.5, 1, 0, 0, 0, 0)


def test_an_unknown_space_is_rejected_with_the_known_ones(tmp_path: Path) -> None:
    volume = scan(tmp_path / "scan.nii.gz", *upright())
    with pytest.raises(BadInput, match=f"choose one of {', '.join(SPACES)}"):
        place(volume, GRID, "talairach")


@pytest.mark.skipif(not MRI.is_dir(), reason="../shared/mri is absent")
def test_a_real_head_is_segmented_and_placed(tmp_path: Path) -> None:
    volume = read_volume(MRI / "heads" / "aomic-0001_T1w.nii.gz")
    labels = nib.as_closest_canonical(nib.load(MRI / "heads" / "aomic-0001_aseg.nii.gz"))
    cerebrum = np.asarray(labels.dataobj) > 0
    mask = brain_mask(volume)
    assert (mask & cerebrum).sum() > 0.999 * cerebrum.sum()
    assert 3e6 < mask.sum() < 5e6  # mm^3 of a head with skull, without most of the neck
    grid = Grid(
        (60, 72, 60), np.array([[3.0, 0, 0, -88], [0, 3, 0, -105], [0, 0, 3, -70], [0, 0, 0, 1]])
    )
    placed = place(volume, grid)
    # Compared with an independent interpolation at the same points in mm.
    smooth = ndimage.gaussian_filter(volume.array, 1.2, truncate=2)
    index = nib.affines.apply_affine(np.linalg.inv(volume.affine), mm(grid.affine, grid.shape))
    expected = ndimage.map_coordinates(smooth, np.moveaxis(index, -1, 0), order=1)
    assert np.corrcoef(placed.array[placed.mask], expected[placed.mask])[0, 1] > 0.98
