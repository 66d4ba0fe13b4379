"""Placing on a grid and back: positions in mm, whatever the way the scan is stored."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.transform import Rotation

from uncus.data.errors import BadInput
from uncus.data.geometry import resample
from uncus.data.geometry.foreground import brain_mask, fill_holes, otsu, stripped_background
from uncus.data.imageio.volume import Volume, read_volume
from uncus.data.space import SPACES, Grid, contact, normalize, place, to_native, to_scan

MRI = Path(__file__).parents[3] / "shared" / "mri"
ORIENTATIONS = ["RAS", "LAS", "LPI", "PSR", "LIA"]
RADII = np.array([30.0, 38, 26])  # mm
GRID = Grid(
    (22, 27, 19), np.array([[3.0, 0, 0, -31], [0, 3, 0, -40], [0, 0, 3, -26], [0, 0, 0, 1]])
)


def pattern(places: np.ndarray) -> np.ndarray:
    """A smooth image without symmetry, as a function of mm."""
    x, y, z = np.moveaxis(places, -1, 0)
    return 100 + 20 * np.sin(x / 15) + 15 * np.cos(y / 18 + 0.5) + 0.4 * z + 0.005 * x * y


def mm(affine: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """World positions of every voxel, [X, Y, Z, 3] mm."""
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    return index @ affine[:3, :3].T + affine[:3, 3]


def brain(affine: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """The pattern inside an ellipsoid, 0 around it."""
    places = mm(affine, shape)
    inside = ((places / RADII) ** 2).sum(axis=-1) < 1
    return np.where(inside, pattern(places), 0).astype(np.float32)


def upright(step: float = 2.0) -> tuple[np.ndarray, tuple[int, int, int]]:
    """An affine and shape whose field of view holds the brain."""
    affine = np.diag([step, step, step, 1])
    affine[:3, 3] = (-35.3, -44.1, -31.7)
    return affine, (int(72 / step), int(90 / step), int(66 / step))


def scan(path: Path, affine: np.ndarray, shape: Sequence[int], axcodes: str = "RAS") -> Volume:
    image = nib.Nifti1Image(brain(affine, shape), affine)
    ornt = nib.orientations.ornt_transform(
        nib.io_orientation(affine), nib.orientations.axcodes2ornt(axcodes)
    )
    nib.save(image.as_reoriented(ornt), path)
    return read_volume(path)


@pytest.mark.parametrize("axcodes", ORIENTATIONS)
def test_every_orientation_is_placed_alike_and_maps_come_back_alike(
    axcodes: str, tmp_path: Path
) -> None:
    affine, shape = upright()
    plain = place(scan(tmp_path / "ras.nii.gz", affine, shape), GRID)
    turned = place(scan(tmp_path / "turned.nii.gz", affine, shape, axcodes), GRID)
    assert turned.volume.native.axcodes == axcodes
    assert plain.mask.sum() > 1000
    np.testing.assert_array_equal(turned.mask, plain.mask)
    np.testing.assert_allclose(turned.array, plain.array, atol=1e-5)
    assert turned.contact == plain.contact
    # The same map in world coordinates: read at the same positions through each file's affine.
    saliency = np.random.default_rng(0).random(GRID.shape, np.float32)
    there = nib.Nifti1Image(to_native(saliency, GRID, turned), turned.volume.native.affine)
    here = nib.Nifti1Image(to_native(saliency, GRID, plain), plain.volume.native.affine)
    assert there.shape == turned.volume.native.shape
    canonical = nib.as_closest_canonical(there)
    np.testing.assert_allclose(canonical.affine, here.affine, atol=1e-4)
    np.testing.assert_allclose(canonical.get_fdata(), here.get_fdata(), atol=1e-4)


def tilted(step: Sequence[float] = (2.0, 2.0, 2.0)) -> tuple[np.ndarray, tuple[int, int, int]]:
    """An oblique affine (15, -10 and 20 degrees) and a shape that hold the brain."""
    shape = tuple(int(100 / size) for size in step)
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", (15, -10, 20), degrees=True).as_matrix() * step
    affine[:3, 3] = -affine[:3, :3] @ (np.array(shape) / 2)
    return affine, (shape[0], shape[1], shape[2])


@pytest.mark.parametrize("step", [(2.0, 2.0, 2.0), (1.0, 3.0, 2.0)])
@pytest.mark.parametrize("kind", [upright, tilted])
def test_positions_are_right_for_upright_and_oblique_scans(
    kind: Any, step: Sequence[float], tmp_path: Path
) -> None:
    affine, shape = kind(step) if kind is tilted else kind(step[0])
    volume = scan(tmp_path / "scan.nii.gz", affine, shape)
    array, inside = resample.masked(volume, brain_mask(volume), GRID)
    places = mm(GRID.affine, GRID.shape)
    deep = ((places / (RADII - 8)) ** 2).sum(axis=-1) < 1
    assert inside[deep].all() and deep.sum() > 500
    # Smoothing 2 mm voxels to 3 mm moves the pattern by under 1; a voxel's shift by about 4.
    assert np.abs(array - pattern(places))[deep].max() < 1.0
    outside = ((places / (RADII + 4)) ** 2).sum(axis=-1) > 1
    assert not inside[outside].any() and not array[outside].any()


@pytest.mark.parametrize("kind", [upright, tilted])
def test_a_map_lands_where_it_was(kind: Any, tmp_path: Path) -> None:
    affine, shape = kind()
    volume = scan(tmp_path / "scan.nii.gz", affine, shape, "LIA")
    placed = place(volume, GRID)
    carried = to_native(pattern(mm(GRID.affine, GRID.shape)).astype(np.float32), GRID, placed)
    places = mm(volume.native.affine, volume.native.shape)
    low = GRID.affine[:3, 3]
    high = low + (np.array(GRID.shape) - 1) * 3
    covered = ((places > low) & (places < high)).all(axis=-1)
    assert covered.sum() > 1000
    assert np.abs(carried - pattern(places))[covered].max() < 0.5
    beyond = ((places < low - 3) | (places > high + 3)).any(axis=-1)
    assert beyond.any() and not carried[beyond].any()
    ras = nib.as_closest_canonical(nib.Nifti1Image(carried, volume.native.affine)).get_fdata()
    saliency = pattern(mm(GRID.affine, GRID.shape)).astype(np.float32)
    np.testing.assert_array_equal(ras, to_scan(saliency, GRID, placed))


def test_both_ways_of_resampling_agree() -> None:
    """The product along axes, for upright grids, and scipy's general transform."""
    rng = np.random.default_rng(0)
    array = rng.random((13, 9, 17), np.float32)
    step, offset, shape = np.array([1.7, 0.6, 2.2]), np.array([-0.8, 0.3, 1.1]), (8, 14, 9)
    sigma = np.array([0.6, 0.0, 0.9])
    fast = resample.sample(array, np.diag(step), offset, shape, sigma)
    for axis, width in enumerate(sigma):
        if width:
            array = ndimage.gaussian_filter1d(array, width, axis, mode="constant")
    slow = ndimage.affine_transform(array, step, offset, shape, order=1, mode="grid-constant")
    np.testing.assert_allclose(fast, slow, atol=1e-6)


def test_a_background_of_any_value_does_not_bleed_in(tmp_path: Path) -> None:
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
    result = normalize(array, mask)
    assert result[~mask].any() is np.False_
    assert abs(result[mask].mean()) < 1e-5 and abs(result[mask].std() - 1) < 1e-5
    assert result.max() < 4
    np.testing.assert_allclose(normalize(array * 3 - 70, mask), result, atol=1e-4)
    assert not normalize(np.full_like(array, 7), mask).any()


def test_a_scan_elsewhere_is_refused_and_one_half_out_is_warned_of(tmp_path: Path) -> None:
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


def test_the_field_of_view_is_told(tmp_path: Path) -> None:
    volume = scan(tmp_path / "scan.nii.gz", *upright())
    part = Volume(volume.array[:18], volume.affine, volume.native)
    visible = place(part, GRID).in_field_of_view
    right_face = part.affine[0, 3] + 17.5 * 2
    expected = mm(GRID.affine, GRID.shape)[..., 0] <= right_face
    np.testing.assert_array_equal(visible, expected & resample.field_of_view(volume, GRID))


def test_contact_tells_which_face_cuts_the_brain() -> None:
    mask = np.zeros((10, 12, 14), bool)
    mask[3:, 2:9, 4:10] = True
    assert contact(mask) == (0, 1, 0, 0, 0, 0)
    mask[0, 2:9, 4:7] = True
    assert contact(mask) == (0.5, 1, 0, 0, 0, 0)


def test_an_unknown_space_is_refused_naming_those_there(tmp_path: Path) -> None:
    volume = scan(tmp_path / "scan.nii.gz", *upright())
    with pytest.raises(BadInput, match=f"choose one of {', '.join(SPACES)}"):
        place(volume, GRID, "talairach")


class TestGrid:
    def test_covers_its_box_with_no_voxel_to_spare(self) -> None:
        low, high = np.array([-70.0, -30.5, -57]), np.array([68.0, -20.5, 81])
        grid = Grid.from_box(low, high, np.array([2.0, 1, 2]))
        assert grid.shape == (69, 10, 69) and grid.spacing == (2, 1, 2)
        np.testing.assert_allclose(grid.affine[:3, 3], (-69, -30, -56))
        wider = Grid.from_box(low, high + 0.1, np.array([2.0, 1, 2]))
        assert wider.shape == (70, 11, 70)

    def test_survives_json(self) -> None:
        import json

        assert Grid.from_dict(json.loads(json.dumps(GRID.as_dict()))) == GRID
        with pytest.raises(ValueError, match="not a grid"):
            Grid.from_dict({"shape": [2, 2], "affine": np.eye(4).tolist()})
        oblique = np.eye(4)
        oblique[0, 1] = 0.1
        with pytest.raises(ValueError, match="not a grid"):
            Grid.from_dict({"shape": [2, 2, 2], "affine": oblique.tolist()})


class TestForeground:
    def head(self, tmp_path: Path) -> Volume:
        """A brain in noisy air, with a dark hole inside and a bright speck in the air."""
        affine, shape = upright()
        array = brain(affine, shape) + np.random.default_rng(0).rayleigh(5, shape)
        array[16:20, 20:24, 15:18] = 1
        array[1, 1, 1] = 300
        nib.save(nib.Nifti1Image(array.astype(np.float32), affine), tmp_path / "head.nii.gz")
        return read_volume(tmp_path / "head.nii.gz")

    def test_a_stripped_brain_is_all_that_is_not_background(self, tmp_path: Path) -> None:
        volume = scan(tmp_path / "scan.nii.gz", *upright())
        array = volume.array.copy()
        array[16:20, 20:24, 15:18] = 0  # a ventricle that was set to 0
        array[0, 0, 0] = 9  # a speck
        mask = brain_mask(Volume(array, volume.affine, volume.native))
        np.testing.assert_array_equal(mask, volume.array != 0)

    def test_a_brain_in_noisy_air_is_found_with_its_holes(self, tmp_path: Path) -> None:
        volume = self.head(tmp_path)
        assert stripped_background(volume.array) is None
        assert 20 < otsu(volume.array) < 60
        np.testing.assert_array_equal(brain_mask(volume), brain(*upright()) != 0)

    def test_a_z_scored_stripped_brain_keeps_its_negative_half(self, tmp_path: Path) -> None:
        volume = scan(tmp_path / "scan.nii.gz", *upright())
        inside = volume.array != 0
        array = np.where(inside, (volume.array - 100) / 20, 0).astype(np.float32)
        mask = brain_mask(Volume(array, volume.affine, volume.native))
        np.testing.assert_array_equal(mask, inside)

    def test_a_hole_through_a_slab_is_filled_and_a_notch_is_not(self) -> None:
        mask = np.zeros((80, 10, 80), bool)
        mask[10:70, :, 10:70] = True
        mask[30:40, :, 30:40] = False  # a ventricle seen through
        mask[50:55, :, 10:20] = False  # a sulcus, open below
        filled = fill_holes(mask, (1, 1, 1))
        assert filled[30:40, :, 30:40].all()
        assert not filled[50:55, :, 10:20].any() and not filled[:10].any()


@pytest.mark.skipif(not MRI.is_dir(), reason="../shared/mri is absent")
def test_a_real_head_is_found_and_placed(tmp_path: Path) -> None:
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
    # What lies at the same place in mm is alike, by a way of its own.
    smooth = ndimage.gaussian_filter(volume.array, 1.2, truncate=2)
    index = nib.affines.apply_affine(np.linalg.inv(volume.affine), mm(grid.affine, grid.shape))
    expected = ndimage.map_coordinates(smooth, np.moveaxis(index, -1, 0), order=1)
    assert np.corrcoef(placed.array[placed.mask], expected[placed.mask])[0, 1] > 0.98
