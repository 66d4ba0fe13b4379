"""Folders, zips and files give the same volume, through the child process."""

import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tests.dicom_files import AXIAL, ras, save, series, voxels
from uncus.data.dicom.reader import list_series, read_series
from uncus.data.errors import BadInput
from uncus.data.imageio.volume import read_dicom, read_volume
from uncus.data.imageio.writer import native_array, write_native

MRI = Path(__file__).parents[4] / "shared" / "mri"


def test_folder_zip_and_files_through_the_child_process(tmp_path: Path) -> None:
    folder = save(tmp_path / "in", series())
    (folder / "notes.txt").write_text("not an image")
    packed = tmp_path / "series.zip"
    with zipfile.ZipFile(packed, "w") as zipped:
        for path in sorted(folder.iterdir()):
            zipped.write(path, f"a/b/{path.name}")
    plain = read_volume(folder)
    assert plain.warnings == ("Files that are not DICOM were ignored: notes.txt.",)
    files = read_dicom(tuple(folder.glob("*.dcm")))
    for other in (read_volume(packed), files):
        assert other.voxel_hash == plain.voxel_hash
        np.testing.assert_allclose(other.affine, plain.affine)
    write_native(tmp_path / "map.nii.gz", native_array(plain, plain.array), plain.native)
    written, expected = nib.load(tmp_path / "map.nii.gz"), ras(voxels(), AXIAL)
    again = nib.as_closest_canonical(written)
    np.testing.assert_allclose(again.affine, expected[1], atol=1e-5)
    np.testing.assert_array_equal(again.get_fdata(), expected[0])
    (listed,) = list_series([packed])
    assert listed["images"] == 6 and listed["description"] == "T1 MPRAGE"


def test_absent_and_empty_files(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="does not exist"):
        read_series([tmp_path / "scan.dcm"])
    (tmp_path / "scan.dcm").write_bytes(b"")
    with pytest.raises(BadInput, match="is empty"):
        read_volume(tmp_path / "scan.dcm")


@pytest.mark.skipif(not MRI.is_dir(), reason="../shared/mri is absent")
def test_a_real_head_as_dicom_equals_its_nifti(tmp_path: Path) -> None:
    image = nib.load(MRI / "heads" / "aomic-0001_T1w.nii.gz")
    thin = np.asarray(image.dataobj)[:, :, 100:140]
    affine = image.affine.copy()
    affine[:3, 3] += affine[:3, 2] * 100
    stored = np.rint(thin).astype(np.int16)
    volume = read_volume(save(tmp_path / "in", series(stored, affine)))
    expected, at = ras(stored, affine)
    np.testing.assert_array_equal(volume.array, expected)
    np.testing.assert_allclose(volume.affine, at, atol=1e-4)
