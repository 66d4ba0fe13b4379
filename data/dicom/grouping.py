"""Sort DICOM images into series, and choose one.

A study's folder contains more than volumes: screen saves, localizers, protocol pages. Each of these
is a series of its own, which is left aside unless it is chosen.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from uncus.data.dicom.frame import Frame, Header, OtherKind, decoding_errors, read_frames
from uncus.data.dicom.geometry import check_parallel
from uncus.data.dicom.suitability import (
    check_component,
    check_tags,
    doubt,
    is_mr_image,
)
from uncus.data.errors import BadInput
from uncus.data.text import natural_text, printable, shorten


@dataclass(frozen=True)
class Series:
    """The description of a series.

    Parameters
    ----------
    uid: SeriesInstanceUID.
    number: SeriesNumber, "" if absent.
    description: printable SeriesDescription, with what distinguishes volumes of the same UID.
    modality: "MR", "CT" and so on.
    images: number of images.
    columns, rows: size of each image.
    aside: why it is left aside where there are other series, "" if it is not.
    """

    uid: str
    number: str
    description: str
    modality: str
    images: int
    columns: int
    rows: int
    aside: str = ""

    def __str__(self) -> str:
        name = f"{self.description or 'unnamed'!r}"
        images = f"{self.images} image{'s' if self.images > 1 else ''}"
        return f"{name} ({self.modality}, {images} of {self.columns} x {self.rows})"


@dataclass(frozen=True)
class Found:
    """A series in a set of files.

    Parameters
    ----------
    series: its description.
    headers: of its files.
    frames: its images; none if it has a fault in its headers.
    fault: the error to raise if it is read, None if none is known yet.
    """

    series: Series
    headers: tuple[Header, ...]
    frames: tuple[Frame, ...]
    fault: BadInput | None


def find_series(images: Sequence[Header], name: str) -> tuple[Found, ...]:
    """Group images by series and kind, and within these by echo, component and time point."""
    groups: dict[tuple[object, ...], list[Header]] = {}
    for header in images:
        groups.setdefault(kind(header), []).append(header)
    found = [one for headers in groups.values() for one in volumes(headers, name)]

    def order(one: Found) -> list[tuple[int, int | str]]:
        return natural_text(f"{one.series.number} {one.series.uid} {one.series.description}")

    return tuple(sorted(found, key=order))


def kind(header: Header) -> tuple[object, ...]:
    """What the images of one series have in common; a screen save may have the scan's UID."""
    types = header.words("ImageType")
    color = header.text("SamplesPerPixel") not in {"", "1"}
    return header.series, header.text("SOPClassUID"), color, types[1:2], "LOCALIZER" in types


def volumes(headers: Sequence[Header], name: str) -> list[Found]:
    """The volumes in images of one series and kind."""
    try:
        with decoding_errors(headers[0].member.name):
            check_tags(name, headers)
        frames = read_all_frames(headers)
    except BadInput as error:
        return [Found(describe(headers, fault=error), tuple(headers), (), error)]
    groups: dict[tuple[str, ...], list[Frame]] = {}
    for frame in frames:
        groups.setdefault(frame.variant, []).append(frame)
    result = []
    for variant, members in groups.items():
        fault: BadInput | None = None
        try:
            check_component(name, members)
            check_parallel(name, members)
        except BadInput as error:
            fault = error
        its_headers = tuple({id(frame.header): frame.header for frame in members}.values())
        # The variant is shown only if the series has several.
        shown = ", ".join(filter(None, variant)) if len(groups) > 1 else ""
        series = describe(its_headers, members, shown, fault)
        result.append(Found(series, its_headers, tuple(members), fault))
    return result


def read_all_frames(headers: Sequence[Header]) -> list[Frame]:
    """The frames of a series.

    Raises
    ------
    OtherKind: none of its images has a position.
    BadInput: the headers of some are damaged.
    """
    frames: list[Frame] = []
    faults: list[BadInput] = []
    for header in headers:
        try:
            frames += read_frames(header)
        except BadInput as error:
            faults.append(error)
    if not faults:
        return frames
    no_position = all(isinstance(fault, OtherKind) for fault in faults)
    other = not frames and (no_position or not is_mr_image(headers[0]))
    first = faults[0]
    raise (OtherKind if other else BadInput)(first.value, first.cause, first.remedy)


def describe(
    headers: Sequence[Header],
    frames: Sequence[Frame] = (),
    variant: str = "",
    fault: BadInput | None = None,
) -> Series:
    """Describe a series by its first header, and its ``variant`` within the series."""
    header = headers[0]
    text, images = header.text("SeriesDescription"), len(frames or headers)
    aside = fault.cause if isinstance(fault, OtherKind) else doubt(header, images)
    with decoding_errors(header.member.name):
        number = header.number("SeriesNumber")
        rows, columns = (int(header.number(name) or 0) for name in ("Rows", "Columns"))
    return Series(
        uid=printable(header.series),
        number="" if number is None else f"{number:g}",
        description=", ".join(filter(None, [text, variant])),
        modality=header.text("Modality") or "no modality",
        images=images,
        columns=columns,
        rows=rows,
        aside=aside,
    )


def choose_series(found: Sequence[Found], name: str, wanted: str) -> Found:
    """Choose a series: the only one that is not left aside, or the one with this number, UID or
    words of its description (which, unlike numbers, mean the same in every folder of a cohort).

    Raises
    ------
    BadInput: several series and none chosen, or not exactly one matches (the message lists all);
        or the series has a fault.
    """
    options = [f"{number}: {one.series}" for number, one in enumerate(found, 1)]
    matches = list(found) if not wanted else matching(found, wanted)
    # A screen save or a phase image may have the UID, or the words, of the scan.
    suited = [one for one in matches if not one.series.aside] or matches
    if len(suited) == 1:
        if suited[0].fault:
            raise suited[0].fault
        return suited[0]
    hint = f"choose one with --series and its number, 1 to {len(found)}, its UID or description"
    cause = f"contains {len(found)} series: {shorten(options, 20)}"
    if wanted:
        what = f"{len(matches)} series" if matches else "no series"
        cause = f"contains {what} called {printable(wanted)}, but {shorten(options, 20)}"
    raise BadInput(name, cause, hint)


def matching(found: Sequence[Found], wanted: str) -> list[Found]:
    """The series with this number in the list, UID, description or words of it."""
    if wanted.isdecimal() and 1 <= int(wanted) <= len(found):
        return [found[int(wanted) - 1]]
    words = wanted.casefold()
    tests = (
        lambda one: one.uid == wanted,
        lambda one: one.description.casefold() == words,
        lambda one: words in one.description.casefold(),
    )
    for test in tests:
        if matches := [one for one in found if test(one.series)]:
            return matches
    return []


def aside_warnings(found: Sequence[Found], chosen: Found, wanted: str) -> list[str]:
    """A sentence that names the series that were left aside, if the user did not choose."""
    aside = [f"{one.series}, which {one.series.aside}" for one in found if one.series.aside]
    if wanted or chosen.series.aside or not aside:
        return []
    return [f"Left aside: {shorten(aside, 4)}."]
