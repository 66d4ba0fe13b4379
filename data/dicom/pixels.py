"""Pixels of DICOM frames, decoded and scaled; nothing is allocated that a file cannot hold."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import UID

from uncus.data.dicom.frame import AGAIN, Frame, damage, read
from uncus.data.dicom.zip_archive import Member
from uncus.data.errors import BadInput

TAGS = [
    "Rows",
    "Columns",
    "NumberOfFrames",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths",
]
GREY = ("MONOCHROME1", "MONOCHROME2")


def read_voxels(
    name: str, frames: Sequence[Frame], places: Sequence[Sequence[int]]
) -> tuple[NDArray[np.float32], list[str]]:
    """Decode ``frames`` at their ``places`` (see uncus.data.dicom.geometry.Stack).

    Returns
    -------
    float32 [columns, rows from the bottom, places], and warnings.

    Raises
    ------
    BadInput: pixels are missing, truncated, in colour, or packed by a codec that is not there; or
        several different images lie at one place.
    """
    one = frames[0]
    array = np.empty((one.columns, one.rows, len(places)), np.float32)
    warnings: list[str] = []
    twice = 0
    opened = Opened()
    for number, group in enumerate(places):
        first = opened.pixels(frames[group[0]])
        for other in group[1:]:
            if not np.array_equal(first, opened.pixels(frames[other])):
                raise several(name, places)
            twice += 1
        array[:, :, number] = scaled(first, frames[group[0]], warnings)[::-1].T
    if twice:
        warnings.append(f"{twice} slices are there twice; the copies were left out.")
    if opened.inverted:
        array = array.max() + array.min() - array
        warnings.append("Light and dark are stored swapped (MONOCHROME1); they were swapped back.")
    return array, warnings


def several(name: str, places: Sequence[Sequence[int]]) -> BadInput:
    """The refusal of different images at one place."""
    most = max(map(len, places))
    if min(map(len, places)) == most:
        cause = f"is 4D: {most} images at every place, which no tag tells apart"
        return BadInput(name, cause, "save the T1-weighted volume alone")
    return BadInput(name, "has different images at the same place", "give one series")


def scaled(pixels: NDArray[Any], frame: Frame, warnings: list[str]) -> NDArray[np.float32]:
    """Stored pixels [rows, columns] times slope plus intercept, each frame by its own."""
    slope, intercept = frame.slope, frame.intercept
    if slope == 0 or math.isnan(slope):
        text = f"The rescale slope is {slope:g}; taken as 1."
        if text not in warnings:
            warnings.append(text)
        slope, intercept = 1.0, 0.0
    with np.errstate(over="ignore", invalid="ignore"):
        result: NDArray[np.float32] = (pixels.astype(np.float64) * slope + intercept).astype(
            np.float32
        )
    return result


class Opened:
    """The file that was decoded last, since a multi-frame file has many frames."""

    def __init__(self) -> None:
        self.member: Member | None = None
        self.frames: NDArray[Any] = np.empty(0)
        self.inverted = False

    def pixels(self, frame: Frame) -> NDArray[Any]:
        """Stored pixels [rows, columns] of one frame."""
        if frame.header.member != self.member:
            self.frames, swapped = decode(frame)
            self.member, self.inverted = frame.header.member, self.inverted or swapped
        pixels: NDArray[Any] = self.frames[frame.index]
        return pixels


def decode(frame: Frame) -> tuple[NDArray[Any], bool]:
    """All frames of the file of ``frame``, [frames, rows, columns], and whether white is dark."""
    member = frame.header.member
    name = member.name
    data = read(member, TAGS, pixels=True)
    with damage(name):
        if "PixelData" not in data or not data.PixelData:
            raise BadInput(name, "has no pixels", "give the images, not their descriptions")
        rows, columns = int(data.Rows), int(data.Columns)
        count = int(data.get("NumberOfFrames") or 1)
        kind = str(data.get("PhotometricInterpretation", ""))
        if kind not in GREY or int(data.get("SamplesPerPixel", 1)) != 1:
            raise BadInput(name, f"holds colours ({kind[:20]})", "give a scan of real numbers")
        bits = int(data.BitsAllocated)
        if bits not in {8, 16, 32}:
            raise BadInput(name, f"stores {bits} bits a pixel", AGAIN)
        expected = rows * columns * count * bits // 8
        syntax = UID(data.file_meta.TransferSyntaxUID)
        size = f"{count} x {rows} x {columns}" if count > 1 else f"{rows} x {columns}"
        if not syntax.is_compressed or syntax.is_deflated:
            there = len(data.PixelData)
            if there < expected:
                raise BadInput(
                    name,
                    f"is truncated: {there:,} of {expected:,} bytes of its {size} pixels are there",
                    "copy or export it again",
                )
            if there > expected + 1:  # a byte may fill up an odd number
                raise BadInput(
                    name, f"has {there:,} bytes of pixels, not the {expected:,} of {size}", AGAIN
                )
        else:
            check_codec(name, syntax)
        with np.errstate(all="ignore"):
            array = unpack(name, data)
        if array.size != rows * columns * count:
            raise BadInput(name, f"unpacks to {array.shape}, not {size} pixels", AGAIN)
        return array.reshape(count, rows, columns), kind == "MONOCHROME1"


def check_codec(name: str, syntax: UID) -> None:
    """Refuse a compression for which no decoder is installed, naming it."""
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        raise BadInput(
            name,
            f"is compressed as {syntax.name}, which is not supported",
            "export it uncompressed",
        ) from None
    if not decoder.is_available:
        missing = " or ".join(sorted({text.split(" ")[0] for text in decoder.missing_dependencies}))
        raise BadInput(
            name,
            f"is compressed as {syntax.name}, and its decoder is not installed",
            f"install one that pydicom can use ({missing}), or export it uncompressed",
        )


def unpack(name: str, data: Any) -> NDArray[Any]:
    """What pydicom makes of the pixels; its errors of truncated frames become BadInput."""
    try:
        array: NDArray[Any] = data.pixel_array
    except (MemoryError, BadInput):
        raise
    except Exception as error:  # decoders raise many kinds on damaged data
        raise BadInput(
            name, f"its pixels cannot be unpacked ({type(error).__name__})", AGAIN
        ) from None
    return array
