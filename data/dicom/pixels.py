"""Decode and rescale the pixels of DICOM frames, allocating no more than a file can contain."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import UID

from uncus.data.dicom.frame import EXPORT_AGAIN, Frame, decoding_errors, read
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
GRAYSCALE = ("MONOCHROME1", "MONOCHROME2")


def read_voxels(
    name: str, frames: Sequence[Frame], slices: Sequence[Sequence[int]]
) -> tuple[NDArray[np.float32], list[str]]:
    """Decode ``frames``, stacked by ``slices`` (see uncus.data.dicom.geometry.Stack).

    Returns
    -------
    float32 [columns, rows from the bottom, slices], and warnings.

    Raises
    ------
    BadInput: pixels are missing, truncated, in color, or compressed by a codec that is not
        installed; or different images have the same position.
    """
    array = np.empty((frames[0].columns, frames[0].rows, len(slices)), np.float32)
    warnings: list[str] = []
    duplicates = 0
    cache = FrameCache()
    for number, group in enumerate(slices):
        first = cache.pixels(frames[group[0]])
        for other in group[1:]:
            if not np.array_equal(first, cache.pixels(frames[other])):
                raise ambiguous_slices(name, slices)
            duplicates += 1
        array[:, :, number] = rescale(first, frames[group[0]], warnings)[::-1].T
    if duplicates:
        warnings.append(f"{duplicates} duplicate slices were ignored.")
    if cache.inverted:
        array = array.max() + array.min() - array
        warnings.append("The intensities are stored inverted (MONOCHROME1); they were inverted.")
    return array, warnings


def ambiguous_slices(name: str, slices: Sequence[Sequence[int]]) -> BadInput:
    """The error for different images at one position."""
    most = max(map(len, slices))
    if min(map(len, slices)) == most:
        cause = f"is 4D: {most} images at every position, which no tag distinguishes"
        return BadInput(name, cause, "save the T1-weighted volume alone")
    return BadInput(name, "has different images at the same position", "give one series")


def rescale(pixels: NDArray[Any], frame: Frame, warnings: list[str]) -> NDArray[np.float32]:
    """Stored pixels [rows, columns] times the frame's slope plus its intercept."""
    slope, intercept = frame.slope, frame.intercept
    if slope == 0 or math.isnan(slope):
        text = f"The rescale slope is {slope:g}; using 1."
        if text not in warnings:
            warnings.append(text)
        slope, intercept = 1.0, 0.0
    with np.errstate(over="ignore", invalid="ignore"):
        result: NDArray[np.float32] = (pixels.astype(np.float64) * slope + intercept).astype(
            np.float32
        )
    return result


class FrameCache:
    """Pixels of the file decoded last, which may have many frames."""

    def __init__(self) -> None:
        self.member: Member | None = None
        self.frames: NDArray[Any] = np.empty(0)
        self.inverted = False

    def pixels(self, frame: Frame) -> NDArray[Any]:
        """Stored pixels [rows, columns] of one frame."""
        if frame.header.member != self.member:
            self.frames, inverted = decode(frame)
            self.member, self.inverted = frame.header.member, self.inverted or inverted
        pixels: NDArray[Any] = self.frames[frame.index]
        return pixels


def decode(frame: Frame) -> tuple[NDArray[Any], bool]:
    """Pixels [frames, rows, columns] of the file of ``frame``; whether they are inverted."""
    member = frame.header.member
    name = member.name
    data = read(member, TAGS, pixels=True)
    with decoding_errors(name):
        if "PixelData" not in data or not data.PixelData:
            raise BadInput(name, "has no pixels", "give files that contain images")
        rows, columns = int(data.Rows), int(data.Columns)
        count = int(data.get("NumberOfFrames") or 1)
        kind = str(data.get("PhotometricInterpretation", ""))
        if kind not in GRAYSCALE or int(data.get("SamplesPerPixel", 1)) != 1:
            raise BadInput(name, f"is a color image ({kind[:20]})", "give a grayscale scan")
        bits = int(data.BitsAllocated)
        if bits not in {8, 16, 32}:
            raise BadInput(name, f"stores {bits} bits per pixel", EXPORT_AGAIN)
        expected = rows * columns * count * bits // 8
        syntax = UID(data.file_meta.TransferSyntaxUID)
        size = f"{count} x {rows} x {columns}" if count > 1 else f"{rows} x {columns}"
        if not syntax.is_compressed or syntax.is_deflated:
            actual = len(data.PixelData)
            if actual < expected:
                raise BadInput(
                    name,
                    f"is truncated: {actual:,} of {expected:,} bytes for {size} pixels are present",
                    "copy or export it again",
                )
            if actual > expected + 1:  # an odd number of bytes may be padded by one
                cause = f"has {actual:,} bytes of pixels, not the {expected:,} of {size}"
                raise BadInput(name, cause, EXPORT_AGAIN)
        else:
            check_codec(name, syntax)
        with np.errstate(all="ignore"):
            array = unpack(name, data)
        if array.size != rows * columns * count:
            raise BadInput(name, f"unpacks to {array.shape}, not {size} pixels", EXPORT_AGAIN)
        return array.reshape(count, rows, columns), kind == "MONOCHROME1"


def check_codec(name: str, syntax: UID) -> None:
    """Raise BadInput for a compression without an installed decoder, naming it."""
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
    """Decode the pixels with pydicom; its errors become BadInput."""
    try:
        array: NDArray[Any] = data.pixel_array
    except (MemoryError, BadInput):
        raise
    except Exception as error:  # decoders raise many kinds on damaged data
        raise BadInput(
            name, f"its pixels cannot be unpacked ({type(error).__name__})", EXPORT_AGAIN
        ) from None
    return array
