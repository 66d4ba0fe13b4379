"""One image of a DICOM series and what its tags say: a file, or a frame of a multi-frame file.

Imported only where strangers' files are decoded (see uncus.data.dicom.sandbox): pydicom is.
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

from uncus.data.dicom.signature import MAGIC, MAGIC_AT
from uncus.data.dicom.zip_archive import Member
from uncus.data.errors import BadInput
from uncus.data.text import printable

AGAIN = "export the series again"
MAX_INFLATED = 1 << 30  # bytes of a deflated file
MOST_FRAMES = 1 << 16
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


@dataclass(frozen=True)
class Header:
    """What is the same for all frames of a file.

    Parameters
    ----------
    member: the file.
    patient: compared, never shown.
    series: its SeriesInstanceUID.
    tags: the tags of TAGS that it has, as pydicom reads them.
    """

    member: Member
    patient: tuple[str, ...]
    series: str
    tags: Any

    def text(self, name: str) -> str:
        """A tag as printable text; "" where there is none."""
        value = self.tags.get(name, "")
        return printable(str("" if value is None else value)).strip()

    def words(self, name: str) -> tuple[str, ...]:
        """The values of a tag that may have several, in capitals."""
        value = self.tags.get(name, "")
        several = isinstance(value, list | tuple) or type(value).__name__ == "MultiValue"
        values = value if several else [value]
        return tuple(str(word).strip().upper() for word in values if word)

    def number(self, name: str) -> float | None:
        """A tag as a number; None where there is none."""
        return one_number(self.tags, name)


@dataclass(frozen=True)
class Frame:
    """One image and its place.

    Parameters
    ----------
    header: of its file.
    index: its number in the file, from 0.
    rows, columns: pixels.
    position: of the first pixel's centre, mm, LPS+ (DICOM's patient coordinates).
    orientation: direction of the columns' numbering, then of the rows', unit vectors, LPS+.
    spacing: between rows and between columns, mm.
    slope, intercept: value = stored * slope + intercept.
    part: "echo 2.93 ms", "phase", "time 3": what parts volumes that share a series.
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
    part: tuple[str, str, str]


@contextmanager
def damage(name: str) -> Iterator[None]:
    """Turn whatever pydicom raises on a damaged file into BadInput naming the file."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (BadInput, MemoryError):
        raise
    except RecursionError:
        raise BadInput(name, "nests its sequences too deeply", AGAIN) from None
    except Exception as error:  # pydicom raises many kinds; see its tests of damaged files
        raise BadInput(name, f"is damaged DICOM ({type(error).__name__})", AGAIN) from None


def read(member: Member, tags: list[str], pixels: bool = False) -> Any:
    """The dataset of a file, its deflated part measured before pydicom inflates it.

    Raises
    ------
    BadInput: it is damaged or inflates to more than MAX_INFLATED.
    """
    with damage(member.name):
        meta = read_file_meta_info(member.path)
        if meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
            _measure(member)
        return pydicom.dcmread(
            member.path,
            stop_before_pixels=not pixels,
            specific_tags=[*tags, "PixelData"] if pixels else tags,
        )


def _measure(member: Member) -> None:
    """Inflate piece by piece, keeping nothing; raises BadInput for a bomb."""
    inflater, total = zlib.decompressobj(-zlib.MAX_WBITS), 0
    with member.path.open("rb") as stream:
        _skip_meta(stream)
        while (piece := stream.read(1 << 16)) and not inflater.eof:
            while piece:
                total += len(inflater.decompress(piece, 1 << 20))
                piece = inflater.unconsumed_tail
                if total > MAX_INFLATED:
                    raise BadInput(
                        member.name,
                        f"inflates to more than {MAX_INFLATED >> 20} MB: a decompression bomb",
                        AGAIN,
                    )


def _skip_meta(stream: BinaryIO) -> None:
    """Go to the first byte after the elements of group 2, which are never deflated."""
    stream.seek(MAGIC_AT + len(MAGIC))
    while (head := stream.read(8)).startswith(b"\2\0"):
        length = int.from_bytes(head[6:8], "little")
        if head[4:6] in {b"OB", b"OW", b"SQ", b"UN", b"UT"}:
            length = int.from_bytes(stream.read(4), "little")
        stream.seek(length, 1)
    stream.seek(-len(head), 1)


def read_header(member: Member) -> Header | None:
    """The header of a file; None where it is no image (a report, a presentation state)."""
    tags = read(member, TAGS)
    with damage(member.name):
        for element in tags:  # values are parsed when first looked at: here
            _ = element.value
        if "Rows" not in tags and "Columns" not in tags:
            return None
        patient = tuple(str(tags.get(name) or "").strip() for name in IDENTITY)
        known = patient[:1] if patient[0] else patient[1:]
        return Header(member, known, str(tags.get("SeriesInstanceUID") or ""), tags)


def read_frames(header: Header) -> list[Frame]:
    """Every frame of a file; raises BadInput where one has no place or the counts contradict."""
    name, tags = header.member.name, header.tags
    with damage(name):
        count = one_number(tags, "NumberOfFrames")
        count = 1 if count is None else count
        if not 1 <= count <= MOST_FRAMES or count != int(count):
            raise BadInput(name, f"says that it has {count:g} frames", AGAIN)
        shared = first(tags.get("SharedFunctionalGroupsSequence"))
        each = tags.get("PerFrameFunctionalGroupsSequence")
        if not each:
            if count > 1:
                raise BadInput(
                    name,
                    f"has {count:g} frames but no positions of them",
                    "export it as Enhanced MR",
                )
            return [_frame(header, 0, [tags])]
        if len(each) != count:
            raise BadInput(name, f"says {count:g} frames but describes {len(each)}", AGAIN)
        return [_frame(header, i, [group, shared, tags]) for i, group in enumerate(each)]


def _frame(header: Header, index: int, groups: list[Any]) -> Frame:
    """Frame ``index``; its tags are looked for in ``groups``, the first that has one counts."""
    name = header.member.name

    def numbers(macro: str, tag: str, count: int) -> tuple[float, ...]:
        value = find(groups, macro, tag)
        values = () if value is None else tuple(float(v) for v in value)
        sound = len(values) == count and all(map(math.isfinite, values))
        if not sound or (tag == "PixelSpacing" and min(values) <= 0):
            cause = f"has no {tag}" if value is None else f"has a {tag} that makes no sense"
            raise BadInput(name, cause, AGAIN)
        return values

    def number(macro: str, tag: str, default: float) -> float:
        value = find(groups, macro, tag)
        return default if value is None or value == "" else float(value)

    rows, columns = header.number("Rows"), header.number("Columns")
    if not rows or not columns or min(rows, columns) < 2:
        raise BadInput(name, f"has {rows} rows of {columns} pixels", "give a series of 3D images")
    slope = number("PixelValueTransformationSequence", "RescaleSlope", 1.0)
    intercept = number("PixelValueTransformationSequence", "RescaleIntercept", 0.0)
    low, high = SLOPE_RANGE
    if slope != 0 and not math.isnan(slope) and not low <= abs(slope) <= high:
        raise BadInput(name, f"its intensity scaling is absurd (slope {slope:g})", AGAIN)
    if not abs(intercept) <= high:
        raise BadInput(name, f"its intensity scaling is absurd (intercept {intercept:g})", AGAIN)
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
        part=(_echo(groups), _component(header, groups), _time(groups)),
    )


def _echo(groups: list[Any]) -> str:
    value = find(groups, "MREchoSequence", "EffectiveEchoTime")
    value = find(groups[-1:], "", "EchoTime") if value is None else value
    return "" if value is None or value == "" else f"echo {float(value):.2f} ms"


def _component(header: Header, groups: list[Any]) -> str:
    """Phase, real and imaginary images lie in one series with the magnitude on some scanners."""
    kind = find(groups, "MRImageFrameTypeSequence", "ComplexImageComponent")
    kind = str(kind or header.tags.get("ComplexImageComponent") or "").upper()
    letters = {"P": "PHASE", "R": "REAL", "I": "IMAGINARY"}
    types = [letters.get(word, word) for word in header.words("ImageType")[2:]]
    for name in letters.values():
        if kind == name or (not kind and any(word.split(" ")[0] == name for word in types)):
            return name.lower()
    return ""


def _time(groups: list[Any]) -> str:
    value = find(groups, "FrameContentSequence", "TemporalPositionIndex")
    value = find(groups[-1:], "", "TemporalPositionIdentifier") if value is None else value
    return "" if value is None or value == "" else f"time {int(value)}"


def find(groups: list[Any], macro: str, tag: str) -> Any:
    """A tag from the first group that has it, in its functional group ``macro`` or directly."""
    for group in groups:
        if group is None:
            continue
        inner = first(group.get(macro)) if macro else None
        for place in (inner, group):
            if place is not None and place.get(tag) is not None:
                return place.get(tag)
    return None


def first(sequence: Any) -> Any:
    """The first item of a sequence; None where it is empty or absent."""
    return sequence[0] if sequence else None


def one_number(tags: Any, name: str) -> float | None:
    """A tag's value as a finite number; None where it is absent or empty."""
    value = tags.get(name)
    if value is None or value == "":
        return None
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(name)
    return number
