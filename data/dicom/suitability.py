"""Check by its tags, before its voxels are read, that a series is a T1-weighted scan of a head."""

from collections.abc import Sequence

from uncus.data.dicom.frame import Frame, Header
from uncus.data.errors import BadInput

REMEDY = "give a 3D T1-weighted MR series of a head"
MR_CLASSES = ("1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.4.")  # MR and enhanced MR
# Values of BodyPartExamined (DICOM PS3.16, annex L) that scans of a head have.
HEAD = frozenset({"", "HEAD", "BRAIN", "SKULL", "HEADNECK", "HEAD AND NECK", "TEMPORALLOBE", "IAC"})
# Echo times of T1-weighted scans end near 30 ms, those of T2-weighted scans start near 80 ms
# (Brown and Semelka, MRI: Basic Principles and Applications, chapter 8).
T1_ECHO_MS = 30.0
T2_ECHO_MS = 60.0


def check_suitable(name: str, frames: Sequence[Frame]) -> None:
    """Raise BadInput if the tags declare another kind of image."""
    for header in headers(frames):
        modality = header.text("Modality").upper()
        if modality and modality != "MR":
            raise BadInput(name, f"is not MR by its tags (Modality {modality})", REMEDY)
        if not modality and not header.text("SOPClassUID").startswith(MR_CLASSES):
            raise BadInput(name, "is not MR by its tags (no Modality)", REMEDY)
        if "LOCALIZER" in header.words("ImageType"):
            raise BadInput(name, "is a localizer by its tags", REMEDY)
        if header.number("SamplesPerPixel") not in {None, 1.0}:
            raise BadInput(name, "is a color image by its tags", REMEDY)
    component = next((frame.variant[1] for frame in frames if frame.variant[1]), "")
    if component:
        raise BadInput(name, f"is a {component} image by its tags, not a magnitude", REMEDY)
    body = {header.text("BodyPartExamined").upper() for header in headers(frames)}
    if not body & HEAD:
        raise BadInput(name, f"is not of a head by its tags ({', '.join(sorted(body))})", REMEDY)


def suitability_warnings(frames: Sequence[Frame]) -> list[str]:
    """Doubts about the series from its tags, one sentence each."""
    all_headers = headers(frames)
    first = all_headers[0]
    warnings = []
    if any(header.text("BurnedInAnnotation").upper() == "YES" for header in all_headers):
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


def headers(frames: Sequence[Frame]) -> list[Header]:
    """The headers of all files, without duplicates."""
    return list({id(frame.header): frame.header for frame in frames}.values())
