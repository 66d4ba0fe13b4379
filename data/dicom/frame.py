"""Headers of DICOM files and of their frames: geometry, intensity scaling and identity.

Imports pydicom, so it is imported only in the child process, see uncus.data.dicom.sandbox.
"""

import math
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

import pydicom
from pydicom.filereader import read_file_meta_info
from pydicom.uid import DeflatedExplicitVRLittleEndian

from uncus.data.dicom.patient import Patient
from uncus.data.dicom.signature import MAGIC, MAGIC_AT
from uncus.data.dicom.zip_archive import Member
from uncus.data.errors import BadInput
from uncus.data.text import printable

EXPORT_AGAIN = "export the series again"
MAX_INFLATED = 1 << 30  # bytes of a deflated file once inflated
MAX_FRAMES = 1 << 16
SLOPE_RANGE = (1e-15, 1e15)
IDENTITY = ("PatientID", "PatientName", "PatientBirthDate")
TAGS = [
    *IDENTITY,
    "SOPClassUID",
    "SOPInstanceUID",
    "SeriesInstanceUID",
    "SeriesNumber",
    "SeriesDescription",
    "StudyDate",
    "PatientAge",
    "PatientSex",
    "Modality",
    "MagneticFieldStrength",
    "Manufacturer",
    "ImageType",
    "ComplexImageComponent",
    "BodyPartExamined",
    "BurnedInAnnotation",
    "ContrastBolusAgent",
    "ScanningSequence",
    "MRAcquisitionType",
    "EchoTime",
    "RepetitionTime",
    "InversionTime",
    "TemporalPositionIdentifier",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PixelSpacing",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "RescaleSlope",
    "RescaleIntercept",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
]


class OtherKind(BadInput):
    """An image, or a series, that is no volume of a head by MR: a screen save, a localizer."""


@dataclass(frozen=True)
class Header:
    """The header of one file, shared by all its frames.

    Parameters
    ----------
    member: the file.
    patient: for comparison only, never shown.
    series: SeriesInstanceUID.
    tags: pydicom dataset of those TAGS that the file has.
    """

    member: Member
    patient: Patient
    series: str
    tags: Any

    def text(self, name: str) -> str:
        """A tag as printable text; "" if it is absent."""
        value = self.tags.get(name, "")
        return printable(str("" if value is None else value)).strip()

    def words(self, name: str) -> tuple[str, ...]:
        """The values of a multi-valued tag, in upper case."""
        value = self.tags.get(name, "")
        multiple = isinstance(value, list | tuple) or type(value).__name__ == "MultiValue"
        values = value if multiple else [value]
        return tuple(str(word).strip().upper() for word in values if word)

    def number(self, name: str) -> float | None:
        """A tag as a number; None if it is absent."""
        return finite_number(self.tags, name)


@dataclass(frozen=True)
class Frame:
    """One 2D image with its geometry.

    Parameters
    ----------
    header: header of its file.
    index: index of the frame in the file, from 0.
    rows, columns: size in pixels.
    position: center of the first pixel, mm, LPS+ (DICOM's patient coordinates).
    orientation: direction cosines of increasing column, then row index, LPS+.
    spacing: distance between rows and between columns, mm.
    slope, intercept: value = stored * slope + intercept.
    variant: (echo, component, time point), such as ("echo 2.93 ms", "phase", "time 3");
        distinguishes the volumes of one series.
    """

    header: Header
    index: int
    rows: int
    columns: int
    position: tuple[float, ...]
    orientation: tuple[float, ...]
    spacing: tuple[float, ...]
    slope: float
    intercept: float
    variant: tuple[str, str, str]


@contextmanager
def decoding_errors(name: str) -> Iterator[None]:
    """Turn whatever pydicom raises on a damaged file into a BadInput that names the file."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (BadInput, MemoryError):
        raise
    except RecursionError:
        raise BadInput(name, "nests its sequences too deeply", EXPORT_AGAIN) from None
    except Exception as error:  # pydicom raises many kinds on damaged files
        raise BadInput(name, f"is damaged DICOM ({type(error).__name__})", EXPORT_AGAIN) from None


def read(member: Member, tags: list[str], pixels: bool = False) -> Any:
    """Read a file's dataset; a deflated one is measured before pydicom inflates it.

    Raises
    ------
    BadInput: the file is damaged, or inflates to more than MAX_INFLATED bytes.
    """
    with decoding_errors(member.name):
        meta = read_file_meta_info(member.path)
        if meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
            _check_inflated_size(member)
        return pydicom.dcmread(
            member.path,
            stop_before_pixels=not pixels,
            specific_tags=[*tags, "PixelData"] if pixels else tags,
        )


def _check_inflated_size(member: Member) -> None:
    """Inflate chunk by chunk, keeping nothing; raise BadInput for a decompression bomb."""
    inflater, total = zlib.decompressobj(-zlib.MAX_WBITS), 0
    with member.path.open("rb") as stream:
        _skip_file_meta(stream)
        while (chunk := stream.read(1 << 16)) and not inflater.eof:
            while chunk:
                total += len(inflater.decompress(chunk, 1 << 20))
                chunk = inflater.unconsumed_tail
                if total > MAX_INFLATED:
                    raise BadInput(
                        member.name,
                        f"inflates to more than {MAX_INFLATED >> 20} MB: a decompression bomb",
                        EXPORT_AGAIN,
                    )


def _skip_file_meta(stream: BinaryIO) -> None:
    """Seek to the first byte after the elements of group 2, which are never deflated."""
    stream.seek(MAGIC_AT + len(MAGIC))
    while (head := stream.read(8)).startswith(b"\2\0"):
        length = int.from_bytes(head[6:8], "little")
        if head[4:6] in {b"OB", b"OW", b"SQ", b"UN", b"UT"}:
            length = int.from_bytes(stream.read(4), "little")
        stream.seek(length, 1)
    stream.seek(-len(head), 1)


def read_header(member: Member) -> Header | None:
    """Read a file's header; None if it is not an image (a report, a presentation state)."""
    tags = read(member, TAGS)
    with decoding_errors(member.name):
        for element in tags:  # pydicom parses values on access: do it here
            _ = element.value
        if "Rows" not in tags and "Columns" not in tags:
            return None
        patient = Patient(*(str(tags.get(name) or "").strip(" \t\0") for name in IDENTITY))
        return Header(member, patient, str(tags.get("SeriesInstanceUID") or ""), tags)


def read_frames(header: Header) -> list[Frame]:
    """List a file's frames; raise BadInput if one has no position or the counts disagree."""
    name, tags = header.member.name, header.tags
    with decoding_errors(name):
        count = finite_number(tags, "NumberOfFrames")
        count = 1 if count is None else count
        if not 1 <= count <= MAX_FRAMES or count != int(count):
            raise BadInput(name, f"declares {count:g} frames", EXPORT_AGAIN)
        shared = first_item(tags.get("SharedFunctionalGroupsSequence"))
        each = tags.get("PerFrameFunctionalGroupsSequence")
        if not each:
            if count > 1:
                raise OtherKind(
                    name,
                    f"has {count:g} frames but no positions for them",
                    "export it as Enhanced MR",
                )
            return [_frame(header, 0, [tags])]
        if len(each) != count:
            raise BadInput(name, f"declares {count:g} frames, describes {len(each)}", EXPORT_AGAIN)
        return [_frame(header, i, [group, shared, tags]) for i, group in enumerate(each)]


def _frame(header: Header, index: int, groups: list[Any]) -> Frame:
    """Frame ``index``; each tag is taken from the first of ``groups`` that has it."""
    name = header.member.name

    def numbers(macro: str, tag: str, count: int) -> tuple[float, ...]:
        value = find_tag(groups, macro, tag)
        values = () if value is None else tuple(float(v) for v in value)
        valid = len(values) == count and all(map(math.isfinite, values))
        if not valid or (tag == "PixelSpacing" and min(values) <= 0):
            if value is None:
                raise OtherKind(name, f"has no {tag}", EXPORT_AGAIN)
            raise BadInput(name, f"has an invalid {tag}", EXPORT_AGAIN)
        return values

    def number(macro: str, tag: str, default: float) -> float:
        value = find_tag(groups, macro, tag)
        return default if value is None or value == "" else float(value)

    rows, columns = header.number("Rows"), header.number("Columns")
    if not rows or not columns or min(rows, columns) < 2:
        raise OtherKind(
            name, f"has {rows:g} rows of {columns:g} pixels", "give a series of 3D images"
        )
    slope = number("PixelValueTransformationSequence", "RescaleSlope", 1.0)
    intercept = number("PixelValueTransformationSequence", "RescaleIntercept", 0.0)
    low, high = SLOPE_RANGE
    if slope != 0 and not math.isnan(slope) and not low <= abs(slope) <= high:
        raise BadInput(name, f"has an implausible rescale slope of {slope:g}", EXPORT_AGAIN)
    if not abs(intercept) <= high:
        raise BadInput(name, f"has an implausible rescale intercept of {intercept:g}", EXPORT_AGAIN)
    return Frame(
        header=header,
        index=index,
        rows=int(rows),
        columns=int(columns),
        position=numbers("PlanePositionSequence", "ImagePositionPatient", 3),
        orientation=numbers("PlaneOrientationSequence", "ImageOrientationPatient", 6),
        spacing=numbers("PixelMeasuresSequence", "PixelSpacing", 2),
        slope=slope,
        intercept=intercept,
        variant=(_echo(groups), _component(header, groups), _time(groups)),
    )


def _echo(groups: list[Any]) -> str:
    value = find_tag(groups, "MREchoSequence", "EffectiveEchoTime")
    value = find_tag(groups[-1:], "", "EchoTime") if value is None else value
    return "" if value is None or value == "" else f"echo {float(value):.2f} ms"


def _component(header: Header, groups: list[Any]) -> str:
    """Phase, real or imaginary, which some scanners put into the magnitude's series."""
    kind = find_tag(groups, "MRImageFrameTypeSequence", "ComplexImageComponent")
    kind = str(kind or header.tags.get("ComplexImageComponent") or "").upper()
    letters = {"P": "PHASE", "R": "REAL", "I": "IMAGINARY"}
    types = [letters.get(word, word) for word in header.words("ImageType")[2:]]
    for name in letters.values():
        if kind == name or (not kind and any(word.split(" ")[0] == name for word in types)):
            return name.lower()
    return ""


def _time(groups: list[Any]) -> str:
    value = find_tag(groups, "FrameContentSequence", "TemporalPositionIndex")
    value = find_tag(groups[-1:], "", "TemporalPositionIdentifier") if value is None else value
    return "" if value is None or value == "" else f"time {int(value)}"


def find_tag(groups: list[Any], macro: str, tag: str) -> Any:
    """A tag from the first group that has it, in its functional group ``macro`` or directly."""
    for group in groups:
        if group is None:
            continue
        inner = first_item(group.get(macro)) if macro else None
        for dataset in (inner, group):
            if dataset is not None and dataset.get(tag) is not None:
                return dataset.get(tag)
    return None


def first_item(sequence: Any) -> Any:
    """The first item of a sequence; None if it is empty or absent."""
    return sequence[0] if sequence else None


def finite_number(tags: Any, name: str) -> float | None:
    """A tag's value as a finite number; None if it is absent or empty."""
    value = tags.get(name)
    if value is None or value == "":
        return None
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(name)
    return number
