"""Reading through MONAI: the limits of our reader hold, and the file's grid is kept."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from monai.transforms.compose import Compose
from monai.transforms.io.array import LoadImage, SaveImage
from monai.transforms.utility.array import EnsureChannelFirst

from tests import dicom_files
from tests.data.ellipsoid_brain import scan, upright
from uncus.data.errors import BadInput
from uncus.data.imageio.volume import Limits
from uncus.data.transforms import ReadScan, ReadScand, ScanReader, Source
from uncus.data.transforms.scan_tensor import to_tensor, to_volume


@pytest.mark.parametrize("axcodes", ["RAS", "LAS", "LPI", "PSR"])
def test_a_scan_as_a_tensor_and_back(axcodes: str, tmp_path: Path) -> None:
    volume = scan(tmp_path / "scan.nii.gz", *upright(), axcodes)
    image = ReadScan()(tmp_path / "scan.nii.gz")
    assert image.shape == (1, *volume.array.shape)
    again = to_volume(to_tensor(to_volume(image)))
    np.testing.assert_array_equal(again.array, volume.array)
    np.testing.assert_array_equal(again.affine, volume.affine)
    assert again.native.axcodes == axcodes and again.native.shape == volume.native.shape
    assert again.native.qform[1] == volume.native.qform[1]
    np.testing.assert_array_equal(again.native.sform[0], volume.native.sform[0])
    assert again.voxel_hash == volume.voxel_hash
    stored = ReadScan.inverse(reader := ReadScan(), reader(tmp_path / "scan.nii.gz"))
    file = nib.load(tmp_path / "scan.nii.gz")
    np.testing.assert_array_equal(stored[0].numpy(), file.get_fdata(dtype=np.float32))
    np.testing.assert_allclose(stored.affine, file.affine, atol=1e-6)


def test_load_image_reads_with_our_limits_and_no_other_reader(tmp_path: Path) -> None:
    path = tmp_path / "scan.nii.gz"
    volume = scan(path, *upright(), "LIA")
    load = Compose([LoadImage(reader=ScanReader()), EnsureChannelFirst()])
    np.testing.assert_array_equal(load(path)[0].numpy(), volume.array)
    np.testing.assert_allclose(load(path).affine, volume.affine)
    image = nib.load(path)
    array = image.get_fdata(dtype=np.float32)
    array[:20] = np.nan  # nibabel and ITK read it
    nib.save(nib.Nifti1Image(array, image.affine), path)
    with pytest.raises(BadInput, match="NaN or infinite"):
        LoadImage(reader=ScanReader())(path)
    with pytest.raises(BadInput, match="over the limit"):
        LoadImage(reader=ScanReader(limits=Limits(voxels=1000)))(path)
    assert ScanReader().verify_suffix([path]) and not ScanReader().verify_suffix("scan.mp4")


def test_load_image_reads_a_dicom_series(tmp_path: Path) -> None:
    folder = dicom_files.save(tmp_path / "series", dicom_files.series())
    image = LoadImage(reader=ScanReader())(folder)
    np.testing.assert_array_equal(image.numpy(), ReadScan()(Source((folder,)))[0].numpy())


def test_monai_saves_on_the_grid_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "scan.nii.gz"
    scan(path, *upright(), "PSR")
    names = {"output_postfix": "copy", "separate_folder": False, "print_log": False}
    save = SaveImage(tmp_path, resample=True, **names)
    save(ReadScan()(path))
    saved, file = nib.load(tmp_path / "scan_copy.nii.gz"), nib.load(path)
    assert saved.shape == file.shape
    np.testing.assert_allclose(saved.affine, file.affine, atol=1e-4)
    assert np.abs(saved.get_fdata() - file.get_fdata()).max() < 0.01


def test_an_error_of_a_scan_is_the_cause_of_composes(tmp_path: Path) -> None:
    (tmp_path / "scan.nii.gz").write_bytes(b"")
    with pytest.raises(RuntimeError) as error:
        Compose([ReadScand("image")])({"image": tmp_path / "scan.nii.gz"})
    assert isinstance(error.value.__cause__, BadInput)
