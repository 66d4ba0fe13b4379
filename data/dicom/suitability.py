"""Check by its tags, before its voxels are read, that a series is a T1-weighted scan of a head."""

from collections.abc import Sequence

from uncus.data.dicom.frame import Frame, Header, OtherKind

REMEDY = "give a 3D T1-weighted MR series of a head"
MR_CLASS = "1.2.840.10008.5.1.4.1.1.4"  # MR; with a further number, enhanced MR
# Values of BodyPartExamined (DICOM PS3.16, annex L) that scans of a head have.
HEAD = frozenset({"", "HEAD", "BRAIN", "SKULL", "HEADNECK", "HEAD AND NECK", "TEMPORALLOBE", "IAC"})
# In SeriesDescription; not all vendors declare localizers in ImageType.
LOCALIZERS = ("localizer", "localiser", "scout", "survey", "3-plane", "3 plane", "3plane")
# Echo times of T1-weighted scans end near 30 ms, those of T2-weighted scans start near 80 ms
# (Brown and Semelka, MRI: Basic Principles and Applications, chapter 8).
T1_ECHO_MS = 30.0
T2_ECHO_MS = 60.0


def is_mr_image(header: Header) -> bool:
    """Whether the file is an object of MR, enhanced or not."""
    return f"{header.text('SOPClassUID')}.".startswith(f"{MR_CLASS}.")


def check_tags(name: str, headers: Sequence[Header]) -> None:
    """Raise OtherKind if the tags declare another kind of image."""
    for header in headers:
        modality = header.text("Modality").upper()
        if modality and modality != "MR":
            raise OtherKind(name, f"is not MR by its tags (Modality {modality})", REMEDY)
        if not modality and not is_mr_image(header):
            raise OtherKind(name, "is not MR by its tags (no Modality)", REMEDY)
        if "LOCALIZER" in header.words("ImageType"):
            raise OtherKind(name, "is a localizer by its tags", REMEDY)
        if header.number("SamplesPerPixel") not in {None, 1.0}:
            raise OtherKind(name, "is a color image by its tags", REMEDY)
    body = {header.text("BodyPartExamined").upper() for header in headers}
    if not body & HEAD:
        raise OtherKind(name, f"is not of a head by its tags ({', '.join(sorted(body))})", REMEDY)


def check_component(name: str, frames: Sequence[Frame]) -> None:
    """Raise OtherKind for phase, real and imaginary images."""
    component = next((frame.variant[1] for frame in frames if frame.variant[1]), "")
    if component:
        raise OtherKind(name, f"is a {component} image by its tags, not a magnitude", REMEDY)


def names_localizer(description: str) -> bool:
    """Whether a SeriesDescription is a localizer's."""
    return any(word in description.casefold() for word in LOCALIZERS)


def suitability_warnings(headers: Sequence[Header]) -> list[str]:
    """Doubts about the series from its tags, one sentence each."""
    first = headers[0]
    warnings = []
    if any(header.text("BurnedInAnnotation").upper() == "YES" for header in headers):
        warnings.append("Text may be burned into the images, according to the tags.")
    if first.text("ContrastBolusAgent"):
        warnings.append("A contrast agent was given, according to the tags: vessels are brighter.")
    if first.text("MRAcquisitionType").upper() == "2D":
        warnings.append("The scan was acquired slice by slice (2D), according to the tags.")
    echo = first.number("EchoTime")
    sequences = first.words("ScanningSequence")
    inversion = first.number("InversionTime")
    if echo is not None and echo > T2_ECHO_MS:
        what = "FLAIR" if "IR" in sequences or (inversion or 0) > 1000 else "T2-weighted"
        warnings.append(f"The scan looks {what} by its tags (echo time {echo:g} ms).")
    elif echo is not None and echo > T1_ECHO_MS:
        warnings.append(f"The echo time of {echo:g} ms is long for a T1-weighted scan.")
    return warnings
