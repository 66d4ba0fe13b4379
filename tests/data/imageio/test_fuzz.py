"""Fuzzed headers: read, or rejected in one line, never a crash, a hang or a NaN.

``UNCUS_FUZZ=100000 pytest tests/data/imageio/test_fuzz.py`` runs that many cases per format,
with other seeds.
"""

import os
import shutil
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tests.dicom_files import enhanced, save, series, voxels
from uncus.data.dicom import series as dicom_series
from uncus.data.errors import BadInput
from uncus.data.imageio.volume import Limits, read_volume

CASES = int(os.environ.get("UNCUS_FUZZ", "1000"))
SEED = 0 if CASES == 1000 else CASES
VOXELS = 1 << 20  # larger declared sizes are rejected, so no case needs much memory
SECONDS = 10.0
MR_TAGS = 132


def fuzz(content: bytes, start: int, stop: int, rng: np.random.Generator) -> bytes:
    """Change some bytes of a header, often to extreme values, and cut one file in ten."""
    new = bytearray(content)
    for index in rng.integers(start, min(stop, len(new)), rng.integers(1, 7)):
        kind = rng.integers(0, 4)
        if kind == 0:
            new[index] = rng.integers(0, 256)
        elif kind == 1:
            new[index] ^= 1 << int(rng.integers(0, 8))
        else:
            extreme = (b"\xff\xff\xff\xff", b"\0\0\0\0", b"\0\0\xc0\x7f", b"\xff\xff\xff\x7f")
            piece = extreme[int(rng.integers(0, len(extreme)))][: int(rng.integers(1, 5))]
            new[index : index + len(piece)] = piece
    if rng.random() < 0.1:
        del new[int(rng.integers(0, len(new))) :]
    return bytes(new)


@pytest.mark.parametrize("name", ["scan.nii", "scan.mgh"])
def test_volume_headers(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    array = voxels()
    image = nib.Nifti1Image if name.endswith("nii") else nib.MGHImage
    image(array, np.diag([2.0, 2, 3, 1])).to_filename(path)
    valid, rng = path.read_bytes(), np.random.default_rng([SEED, 1])
    outcomes = {"read": 0, "rejected": 0}
    for case in range(CASES // 2):
        path.write_bytes(fuzz(valid, 0, 352, rng))
        began = time.monotonic()
        try:
            volume = read_volume(path, Limits(voxels=VOXELS))
        except BadInput as error:
            assert "\n" not in str(error), case
            outcomes["rejected"] += 1
        else:
            assert np.isfinite(volume.array).all() and np.isfinite(volume.affine).all(), case
            outcomes["read"] += 1
        assert time.monotonic() - began < SECONDS, case
    assert min(outcomes.values()) > CASES // 20, outcomes


@pytest.mark.parametrize("kind", ["classic", "enhanced"])
def test_dicom_headers(kind: str, tmp_path: Path) -> None:
    """Decoded without the child process and its limits, which is the harder test."""
    array = voxels((6, 5, 3))
    folder = save(tmp_path / "in", [enhanced(array)] if kind == "enhanced" else series(array))
    path = folder / "im0001.dcm"
    valid, rng = path.read_bytes(), np.random.default_rng([SEED, 2])
    outcomes = {"read": 0, "rejected": 0}
    for case in range(CASES // 2):
        path.write_bytes(fuzz(valid, MR_TAGS, len(valid), rng))
        out = tmp_path / "out"
        out.mkdir()
        began = time.monotonic()
        try:
            result = dicom_series.load(out, [str(folder)], str(folder), "", VOXELS)
        except BadInput as error:
            assert "\n" not in str(error), case
            outcomes["rejected"] += 1
        else:
            assert np.isfinite(result["affine"]).all(), case
            assert np.load(out / "voxels.npy").dtype == np.float32
            outcomes["read"] += 1
        assert time.monotonic() - began < SECONDS, case
        shutil.rmtree(out)
    assert min(outcomes.values()) > CASES // 20, outcomes
