"""Small NIfTI files for tests, valid or with header fields overwritten."""

import re
import struct
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from uncus.data.errors import BadInput
from uncus.data.imageio.volume import read_volume

SHAPE = (9, 11, 7)
AFFINE = np.array([[2.0, 0, 0, -8], [0, 2, 0, -11], [0, 0, 3, 5], [0, 0, 0, 1]])
DIM, DATATYPE, BITPIX, PIXDIM, OFFSET, SLOPE, INTER = 40, 70, 72, 76, 108, 112, 116
UNITS, QFORM, SFORM, QUATERN, SROW = 123, 252, 254, 256, 280
NAN, INF = float("nan"), float("inf")


def voxels(dtype: Any = np.int16) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 200, SHAPE).astype(dtype)


def save(path: Path, array: np.ndarray | None = None, affine: np.ndarray = AFFINE) -> Path:
    nib.save(nib.Nifti1Image(voxels() if array is None else array, affine), path)
    return path


def patched(path: Path, *edits: tuple[int, str, Any], kind: str = "<") -> Path:
    """A valid .nii with some header fields (offset, struct code, value) overwritten."""
    save(path)
    content = bytearray(path.read_bytes())
    for offset, code, value in edits:
        values = value if isinstance(value, tuple) else (value,)
        struct.pack_into(kind + code, content, offset, *values)
    path.write_bytes(content)
    return path


ORIENTATIONS = ["RAS", "LAS", "LPI", "PSR", "LIA", "SPL"]


def reoriented(path: Path, array: np.ndarray, affine: np.ndarray, axcodes: str) -> Path:
    """Save the RAS+ image ``array`` with its axes stored in the order ``axcodes``."""
    image = nib.Nifti1Image(array, affine)
    ornt = nib.orientations.axcodes2ornt(axcodes)
    nib.save(
        image.as_reoriented(nib.orientations.ornt_transform(nib.io_orientation(affine), ornt)), path
    )
    return path


def assert_rejected(path: Path, cause: str) -> None:
    """Reading the file raises one line that names it, the cause and a remedy."""
    with pytest.raises(BadInput, match=re.escape(cause)) as caught:
        read_volume(path)
    line = str(caught.value)
    assert line.startswith(str(path)) and "; " in line and "\n" not in line
