"""Maps written on the grid of a scan."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tests.nifti_files import AFFINE, ORIENTATIONS, QFORM, patched, reoriented, save, voxels
from uncus.data.imageio.volume import read_volume
from uncus.data.imageio.writer import native_array, write_native


@pytest.mark.parametrize("axcodes", ORIENTATIONS)
def test_a_map_is_written_in_the_voxel_order_of_the_file(axcodes: str, tmp_path: Path) -> None:
    path = reoriented(tmp_path / "scan.nii.gz", voxels(), AFFINE, axcodes)
    source = nib.load(path)
    source.set_qform(source.affine, 1)
    source.set_sform(source.affine, 4)
    nib.save(source, path)
    volume = read_volume(path)
    native = native_array(volume, volume.array)
    np.testing.assert_array_equal(native, source.get_fdata())
    write_native(tmp_path / "map.nii.gz", native, volume.native)
    written = nib.load(tmp_path / "map.nii.gz")
    np.testing.assert_array_equal(written.get_fdata(), source.get_fdata())
    np.testing.assert_allclose(written.affine, source.affine, atol=1e-5)
    assert (int(written.header["qform_code"]), int(written.header["sform_code"])) == (1, 4)
    assert written.header.get_xyzt_units()[0] == "mm"


def test_a_map_of_a_scan_without_orientation_overlays_it_in_nibabel(tmp_path: Path) -> None:
    path = patched(tmp_path / "scan.nii", (QFORM, "2h", (0, 0)))
    volume = read_volume(path)
    write_native(tmp_path / "map.nii.gz", native_array(volume, volume.array), volume.native)
    written = nib.load(tmp_path / "map.nii.gz")
    np.testing.assert_allclose(written.affine, nib.load(path).affine)
    assert int(written.header["sform_code"]) == 0


def test_a_map_of_the_wrong_shape_is_rejected(tmp_path: Path) -> None:
    volume = read_volume(save(tmp_path / "scan.nii.gz"))
    with pytest.raises(ValueError, match="the grid"):
        write_native(tmp_path / "map.nii.gz", np.zeros((2, 2, 2)), volume.native)
