"""Dimensions and affines that are invalid in a header of any format."""

from pathlib import Path
from typing import Any

import pytest

from tests.nifti_files import DIM, NAN, SHAPE, SROW, UNITS, assert_rejected, patched, save, voxels
from uncus.data.imageio.volume import read_volume

INVALID: dict[str, tuple[tuple[tuple[int, str, Any], ...], str]] = {
    "negative dim": (((DIM, "4h", (3, 9, -11, 7)),), "invalid dimensions"),
    "zero dim": (((DIM, "4h", (3, 9, 0, 7)),), "invalid dimensions"),
    "nine axes": (((DIM, "h", 9),), "invalid dimensions"),
    "no axes": (((DIM, "h", 0),), "invalid dimensions"),
    "inconsistent dim": (((DIM, "8h", (3, 9, 11, 7, 4, 1, 1, 1)),), "contradict"),
    "2D by axes": (((DIM, "8h", (2, 9, 11, 1, 1, 1, 1, 1)),), "not a 3D"),
    "2D by size": (((DIM, "8h", (3, 9, 11, 1, 1, 1, 1, 1)),), "not a 3D"),
    "4D": (((DIM, "8h", (4, 9, 11, 3, 2, 1, 1, 1)),), "4D image: 2 volumes"),
    "affine NaN": (((SROW, "f", NAN),), "NaN"),
    "affine singular": (((SROW, "12f", (1, 1, 0, 0, 1, 1, 0, 0, 0, 0, 1, 0)),), "singular"),
    "affine zero": (((SROW, "12f", (0,) * 12),), "singular"),
    "voxels of meters": (((UNITS, "B", 1),), "voxel sizes of 2000, 2000, 3000 mm"),
    "affine huge": (((SROW, "f", 1e30),), "affine"),
}


@pytest.mark.parametrize("fault", INVALID)
def test_rejects_an_invalid_header(fault: str, tmp_path: Path) -> None:
    edits, cause = INVALID[fault]
    assert_rejected(patched(tmp_path / "scan.nii", *edits), cause)


def test_4d_with_one_volume_is_read(tmp_path: Path) -> None:
    volume = read_volume(save(tmp_path / "scan.nii.gz", voxels()[..., None]))
    assert volume.array.shape == SHAPE and volume.native.shape == SHAPE
    assert volume.warnings == ()
