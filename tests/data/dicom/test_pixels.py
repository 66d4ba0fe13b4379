"""Pixels: rescaling, compression, and files that contain too few or too many."""

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from tests.dicom_files import Edit, load, refused, save, series, tag, voxels, without


def test_each_image_has_its_own_rescaling(tmp_path: Path) -> None:
    def edit(data: Dataset, index: int) -> None:
        data.RescaleSlope, data.RescaleIntercept = str(index + 0.5), "-7"

    array, _, _ = load(save(tmp_path / "in", series(edit=edit)), tmp_path)
    slopes = np.arange(6) + 0.5
    np.testing.assert_allclose(array, voxels()[:, ::-1] * slopes - 7)


REFUSED: dict[str, tuple[Edit, str]] = {
    "truncated pixels": (
        lambda d, i: setattr(d, "PixelData", d.PixelData[: 60 if i == 3 else None]),
        "is truncated: 60 of 160 bytes",
    ),
    "false row count": (tag("Rows", 4), "has 160 bytes of pixels, not the 80"),
    "rows beyond the file": (tag("Rows", 60000), "truncated|cap"),
    "no pixels": (without("PixelData"), "has no pixels"),
    "color": (tag("PhotometricInterpretation", "RGB"), "color image"),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_refuses(fault: str, tmp_path: Path) -> None:
    edit, cause = REFUSED[fault]
    refused(save(tmp_path / "in", series(edit=edit)), tmp_path, cause)


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("RescaleSlope", "0", "using 1"),
        ("PhotometricInterpretation", "MONOCHROME1", "were inverted"),
    ],
)
def test_warns(name: str, value: Any, text: str, tmp_path: Path) -> None:
    _, _, warnings = load(save(tmp_path / "in", series(edit=tag(name, value))), tmp_path)
    assert len(warnings) == 1 and text in warnings[0]


def test_a_missing_codec_is_named(tmp_path: Path) -> None:
    images = series()
    for data in images:
        data.PixelData = pydicom.encaps.encapsulate([b"\xff\xd8\xff\xd9"])
        data["PixelData"].is_undefined_length = True
        data.file_meta.TransferSyntaxUID = pydicom.uid.JPEGLSLossless
    folder = save(tmp_path / "in", images)
    line = refused(folder, tmp_path, "compressed as JPEG-LS Lossless")
    assert "not installed; install" in line or "cannot be unpacked" in line
    for path in folder.iterdir():
        path.write_bytes(
            path.read_bytes().replace(b"1.2.840.10008.1.2.4.80", b"1.2.840.10008.9.9.9.99")
        )
    refused(folder, tmp_path, "compressed as .*unsupported|cannot be unpacked|damaged")


def test_run_length_encoding_is_read(tmp_path: Path) -> None:
    images = series()
    for data in images:
        data.compress(pydicom.uid.RLELossless)
    array, _, _ = load(save(tmp_path / "in", images), tmp_path)
    np.testing.assert_array_equal(array, voxels()[:, ::-1])
