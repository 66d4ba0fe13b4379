"""Headers changed at random: read or refused in one line, never a crash, a hang or a NaN.

``UNCUS_FUZZ=100000 pytest tests/data/imageio/test_fuzz.py`` runs as many cases of each format, by
other seeds.
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
VOXELS = 1 << 20  # a header that claims more is refused, so no case may need much memory
SECONDS = 10.0
MR_TAGS = 132


def changed(content: bytes, start: int, stop: int, rng: np.random.Generator) -> bytes:
    """Some bytes of a header replaced, and one file in ten cut; values that hurt come often."""
    new = bytearray(content)
    for place in rng.integers(start, min(stop, len(new)), rng.integers(1, 7)):
        kind = rng.integers(0, 4)
        if kind == 0:
            new[place] = rng.integers(0, 256)
        elif kind == 1:
            new[place] ^= 1 << int(rng.integers(0, 8))
        else:
            evil = (b"\xff\xff\xff\xff", b"\0\0\0\0", b"\0\0\xc0\x7f", b"\xff\xff\xff\x7f")
            piece = evil[int(rng.integers(0, len(evil)))][: int(rng.integers(1, 5))]
            new[place : place + len(piece)] = piece
    if rng.random() < 0.1:
        del new[int(rng.integers(0, len(new))) :]
    return bytes(new)


@pytest.mark.parametrize("name", ["scan.nii", "scan.mgh"])
def test_volumes(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    array = voxels()
    image = nib.Nifti1Image if name.endswith("nii") else nib.MGHImage
    image(array, np.diag([2.0, 2, 3, 1])).to_filename(path)
    sound, rng = path.read_bytes(), np.random.default_rng([SEED, 1])
    outcomes = {"read": 0, "refused": 0}
    for case in range(CASES // 2):
        path.write_bytes(changed(sound, 0, 352, rng))
        began = time.monotonic()
        try:
            volume = read_volume(path, Limits(voxels=VOXELS))
        except BadInput as error:
            assert "\n" not in str(error), case
            outcomes["refused"] += 1
        else:
            assert np.isfinite(volume.array).all() and np.isfinite(volume.affine).all(), case
            outcomes["read"] += 1
        assert time.monotonic() - began < SECONDS, case
    assert min(outcomes.values()) > CASES // 20, outcomes


@pytest.mark.parametrize("kind", ["classic", "enhanced"])
def test_dicom(kind: str, tmp_path: Path) -> None:
    """Decoded without the child process and its limits, which is the harder test."""
    array = voxels((6, 5, 3))
    folder = save(tmp_path / "in", [enhanced(array)] if kind == "enhanced" else series(array))
    path = folder / "im0001.dcm"
    sound, rng = path.read_bytes(), np.random.default_rng([SEED, 2])
    outcomes = {"read": 0, "refused": 0}
    for case in range(CASES // 2):
        path.write_bytes(changed(sound, MR_TAGS, len(sound), rng))
        out = tmp_path / "out"
        out.mkdir()
        began = time.monotonic()
        try:
            result = dicom_series.load(out, [str(folder)], str(folder), "", VOXELS)
        except BadInput as error:
            assert "\n" not in str(error), case
            outcomes["refused"] += 1
        else:
            assert np.isfinite(result["affine"]).all(), case
            assert np.load(out / "voxels.npy").dtype == np.float32
            outcomes["read"] += 1
        assert time.monotonic() - began < SECONDS, case
        shutil.rmtree(out)
    assert min(outcomes.values()) > CASES // 20, outcomes
