"""MGH and MGZ headers."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tests.nifti_files import AFFINE, voxels
from uncus.data.errors import BadInput
from uncus.data.imageio.volume import read_volume

GOOD_RAS, TYPE, DELTA = 28, 20, 30  # offsets of header fields, big-endian


def save(path: Path, affine: np.ndarray = AFFINE) -> Path:
    nib.MGHImage(voxels(np.float32), affine).to_filename(path)
    return path


def overwrite(path: Path, offset: int, content: bytes) -> Path:
    stored = bytearray(save(path).read_bytes())
    stored[offset : offset + len(content)] = content
    path.write_bytes(stored)
    return path


@pytest.mark.parametrize("name", ["scan.mgz", "scan.mgh"])
def test_agrees_with_nibabel(name: str, tmp_path: Path) -> None:
    affine = np.array([[0, 0, 2.0, -8], [-2, 0, 0, 11], [0, 3, 0, 5], [0, 0, 0, 1]])
    volume = read_volume(save(tmp_path / name, affine))
    expected = nib.as_closest_canonical(nib.load(tmp_path / name))
    np.testing.assert_allclose(volume.array, expected.get_fdata(), atol=1e-4)
    np.testing.assert_allclose(volume.affine, expected.affine, atol=1e-5)
    assert volume.warnings == ()


@pytest.mark.parametrize("flag", [b"\0\0", b"\xff\xff"])
def test_warns_of_a_missing_orientation(flag: bytes, tmp_path: Path) -> None:
    volume = read_volume(overwrite(tmp_path / "scan.mgh", GOOD_RAS, flag))
    assert len(volume.warnings) == 1 and "orientation unknown" in volume.warnings[0]
    assert volume.native.axcodes == "LIA" and volume.spacing == (1, 1, 1)  # as FreeSurfer reads it
    stored, center = voxels(np.float32), np.array([*voxels().shape, 2]) / 2
    np.testing.assert_array_equal(volume.array, stored.transpose(0, 2, 1)[::-1, :, ::-1])
    np.testing.assert_allclose(volume.native.affine @ center, [0, 0, 0, 1])


@pytest.mark.parametrize(
    ("offset", "content", "cause"),
    [
        (0, b"\0\0\0\2", "not an MGH image"),
        (TYPE, b"\0\0\0\2", r"unknown datatype \(code 2\)"),
        (DELTA, b"\0\0\0\0", "invalid voxel size"),
    ],
)
def test_rejects_an_invalid_header(offset: int, content: bytes, cause: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=cause):
        read_volume(overwrite(tmp_path / "scan.mgh", offset, content))
