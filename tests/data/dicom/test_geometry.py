"""The affine of a series, from the positions of its images."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from pydicom.dataset import Dataset

from tests.dicom_files import AXIAL, Edit, load, oblique, ras, refused, save, series, tag, voxels
from uncus.data.imageio.volume import read_volume

MRI = Path(__file__).parents[4] / "shared" / "mri"


POSITIONS = {
    "supine": AXIAL,
    "feet first, prone": np.diag([1.0, -1, -1, 1]) @ AXIAL,
    "decubitus": np.array([[0.0, 1, 0, 0], [-1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]) @ AXIAL,
    "sagittal": np.array([[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]]) @ AXIAL,
    "oblique": oblique(),
    "downwards": AXIAL @ np.diag([1.0, 1, -1, 1]),
}


@pytest.mark.parametrize("name", POSITIONS)
def test_every_patient_position_gives_the_right_affine(name: str, tmp_path: Path) -> None:
    affine = POSITIONS[name]
    array, actual, warnings = load(save(tmp_path / "in", series(affine=affine)), tmp_path)
    assert warnings == []
    (a, at), (b, expected) = ras(array, actual), ras(voxels(), affine)
    np.testing.assert_allclose(at, expected, atol=1e-5)
    np.testing.assert_array_equal(a, b)


def test_rows_are_counted_from_the_bottom_as_dcm2niix_does(tmp_path: Path) -> None:
    array, affine, _ = load(save(tmp_path / "in", series()), tmp_path)
    np.testing.assert_array_equal(array, voxels()[:, ::-1])
    assert affine[1, 1] == 2  # a supine axial series comes out as LAS
    assert nib.aff2axcodes(affine) == ("L", "A", "S")


def test_a_missing_slice_is_refused_and_a_copy_is_warned_of(tmp_path: Path) -> None:
    images = series()
    refused(save(tmp_path / "gap", images[:2] + images[3:]), tmp_path, "1 missing: 3.00 mm apart")
    array, _, warnings = load(save(tmp_path / "copy", [*images, images[2], images[4]]), tmp_path)
    assert warnings == ["2 duplicate slices were ignored."]
    np.testing.assert_array_equal(array, voxels()[:, ::-1])
    images[2].PixelData = images[3].PixelData
    refused(save(tmp_path / "other", [*images, series()[2]]), tmp_path, "different images at the")
    refused(save(tmp_path / "4d", [*series(), *series(voxels() + 1)]), tmp_path, "4D: 2 images")


@pytest.mark.parametrize("spacing", [1.25, 0.9375, 0.7, 3.3])
@pytest.mark.parametrize("turned", [False, True])
def test_positions_that_are_rounded_in_the_file(
    spacing: float, turned: bool, tmp_path: Path
) -> None:
    """One decimal, as some archives and anonymizers store."""
    affine = (oblique() if turned else AXIAL).copy()
    affine[:3, 2] *= spacing / 3
    array = voxels((10, 8, 40))

    def edit(data: Dataset, index: int) -> None:
        data.ImagePositionPatient = [f"{value:.1f}" for value in data.ImagePositionPatient]

    folder = save(tmp_path / "in", series(array, affine, edit))
    actual, found, warnings = load(folder, tmp_path)
    np.testing.assert_array_equal(actual, array[:, ::-1])
    np.testing.assert_allclose(np.linalg.norm(found[:3, 2]), spacing, rtol=0.005)
    assert not warnings or ("rounded" in warnings[0] and len(warnings) == 1)
    assert warnings or spacing != 0.9375
    assert not warnings or spacing != 3.3


def shifted(slice_index: int, mm: float) -> Edit:
    def edit(data: Dataset, index: int) -> None:
        if index == slice_index:
            x, y, z = data.ImagePositionPatient
            data.ImagePositionPatient = [x, y, float(z) + mm]

    return edit


def test_slices_off_an_even_grid(tmp_path: Path) -> None:
    """3 mm apart: 0.1 mm is silent, 0.3 mm a warning, 0.6 mm an error."""
    found = {
        mm: load(save(tmp_path / f"{mm}", series(edit=shifted(2, mm))), tmp_path)[2]
        for mm in (0.1, 0.3)
    }
    assert found[0.1] == [] and "a little uneven" in found[0.3][0]
    refused(save(tmp_path / "far", series(edit=shifted(2, 0.6))), tmp_path, "not evenly spaced in")


REFUSED: dict[str, tuple[Edit, str]] = {
    "mixed orientation": (
        tag("ImageOrientationPatient", [1, 0, 0, 0, 0, -1], only=2),
        "mixes orientations, as a localizer",
    ),
    "no rotation": (tag("ImageOrientationPatient", [1, 0, 0, 1, 0, 0]), "not a rotation"),
    "sizes mixed": (
        lambda d, i: (setattr(d, "Rows", 10), setattr(d, "Columns", 8))[0] if i == 1 else None,
        "different sizes",
    ),
    "one position": (tag("ImagePositionPatient", [0, 0, 0]), "at one position"),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_refuses(fault: str, tmp_path: Path) -> None:
    edit, cause = REFUSED[fault]
    refused(save(tmp_path / "in", series(edit=edit)), tmp_path, cause)


@pytest.mark.skipif(not MRI.is_dir(), reason="../shared/mri is absent")
def test_a_real_series_has_the_right_affine() -> None:
    """Philips MPRAGE, sagittal: the affine that dcm2niix's conventions give, and its voxels."""
    volume = read_volume(MRI / "heads" / "philips-mprage-dicom.zip")
    assert volume.array.shape == (170, 256, 256) and volume.native.axcodes == "PSR"
    np.testing.assert_allclose(volume.spacing, 1, atol=1e-4)
    # The first file's first pixel is at (82.67, -133.00, 138.46) in DICOM's LPS.
    corner = np.linalg.solve(volume.affine, [-82.6728, 133.0046, 138.4588, 1])[:3]
    np.testing.assert_allclose(corner, np.rint(corner), atol=1e-3)
    assert volume.warnings == ()
