"""Headers of files and frames: enhanced multi-frame files, deflation, invalid values."""

import struct
import time
import zlib
from pathlib import Path

import numpy as np
import pydicom
import pytest

from tests.dicom_files import (
    Edit,
    enhanced,
    load,
    oblique,
    refused,
    save,
    series,
    tag,
    voxels,
    without,
)
from uncus.data.dicom import frame, zip_archive
from uncus.data.errors import BadInput


def test_enhanced_multi_frame_is_the_same_volume(tmp_path: Path) -> None:
    one = load(save(tmp_path / "one", series(affine=oblique())), tmp_path)
    other = load(save(tmp_path / "other", [enhanced(affine=oblique())]), tmp_path)
    np.testing.assert_allclose(one[1], other[1], atol=1e-6)
    np.testing.assert_allclose(other[0], one[0] * 2 - 1)


def test_an_enhanced_file_that_miscounts_its_frames_is_refused(tmp_path: Path) -> None:
    images = enhanced()
    images.NumberOfFrames = 7
    refused(save(tmp_path / "in", [images]), tmp_path, "declares 7 frames, describes 6")


REFUSED: dict[str, tuple[Edit, str]] = {
    "false frame count": (tag("NumberOfFrames", 5), "5 frames but no positions"),
    "no position": (without("ImagePositionPatient"), "no ImagePositionPatient"),
    "position NaN": (tag("ImagePositionPatient", ["nan", 0, 0]), "invalid|damaged"),
    "pixel spacing 0": (tag("PixelSpacing", [0, 0]), "an invalid PixelSpacing"),
    "implausible slope": (tag("RescaleSlope", "1e30"), "implausible"),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_refuses(fault: str, tmp_path: Path) -> None:
    edit, cause = REFUSED[fault]
    refused(save(tmp_path / "in", series(edit=edit)), tmp_path, cause)


def test_deflated_files_are_read_and_bombs_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = series()
    for data in images:
        data.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
    folder = save(tmp_path / "in", images)
    np.testing.assert_array_equal(load(folder, tmp_path)[0], voxels()[:, ::-1])
    path = folder / "im0001.dcm"
    content = path.read_bytes()
    with path.open("rb") as stream:
        frame._skip_file_meta(stream)
        start = stream.tell()
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = packer.compress(bytes(32 << 20)) + packer.flush()
    path.write_bytes(content[:start] + bomb)
    monkeypatch.setattr(frame, "MAX_INFLATED", 4 << 20)
    monkeypatch.setattr(pydicom, "dcmread", lambda *_, **__: pytest.fail("it was inflated"))
    with pytest.raises(BadInput, match="decompression bomb"):
        frame.read(zip_archive.Member(path, path.name), frame.TAGS)


def test_deep_nesting_is_bounded(tmp_path: Path) -> None:
    item, close = struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF), b"\xfe\xff\xdd\xe0\0\0\0\0"
    head = struct.pack("<HH2sHI", 0x5200, 0x9230, b"SQ", 0, 0xFFFFFFFF)
    for depth in (100, 20_000):
        folder = save(tmp_path / str(depth), series())
        path = folder / "im0003.dcm"
        path.write_bytes(path.read_bytes() + (head + item) * depth + close * depth)
        began = time.monotonic()
        try:
            load(folder, tmp_path)
        except BadInput as error:
            assert "deep" in str(error) or "damaged" in str(error)
        assert time.monotonic() - began < 20
