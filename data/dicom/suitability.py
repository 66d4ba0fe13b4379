"""Check by its tags, before its voxels are read, that a series is a T1-weighted scan of a head."""

import re
import unicodedata
from collections.abc import Sequence

from uncus.data.dicom.frame import Frame, Header, OtherKind

REMEDY = "give a 3D T1-weighted MR series of a head"
MR_CLASS = "1.2.840.10008.5.1.4.1.1.4"  # MR; with a further number, enhanced MR
SPECTROSCOPY = "1.2.840.10008.5.1.4.1.1.4.2"  # has rows and columns, but no pixels
# In BodyPartExamined (DICOM PS3.16, annex L) of scans of a head; it is often typed by hand.
HEAD = re.compile(
    "HEAD|BRAIN|SKULL|TEMPORAL|IAC|NEURO|CRAN|CEREB|CERV(EAU|ELLO)|ENCE(F|PH)AL|KOPF|SCHADEL|TETE|TESTA|CABE"
    "|WHOLEBODY|^$"
)
# In SeriesDescription; not all vendors declare localizers in ImageType.
LOCALIZER = re.compile(
    r"lo[ck]ali[sz]|scout|survey|3[ -]?plane|(?<![a-z])(loc|pilot|topogram)(?![a-z])", re.IGNORECASE
)
FEWEST = 3  # images of a volume
# In ImageType: planes and projections computed from another series, and maps.
DERIVED = frozenset({"MPR", "MIP", "MINIP", "PROJECTION IMAGE", "REFORMATTED", "ADC", "FA"})
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
        if header.text("SOPClassUID") == SPECTROSCOPY:
            raise OtherKind(name, "is a spectrum by its tags, not an image", REMEDY)
        if "LOCALIZER" in header.words("ImageType"):
            raise OtherKind(name, "is a localizer by its tags", REMEDY)
        palette = header.text("PhotometricInterpretation").upper() == "PALETTE COLOR"
        if palette or header.number("SamplesPerPixel") not in {None, 1.0}:
            raise OtherKind(name, "is a color image by its tags", REMEDY)
    body = {header.text("BodyPartExamined").upper() for header in headers}
    words = (re.sub(r"[^A-Z]+", "", unicodedata.normalize("NFKD", part)) for part in body)
    if not any(map(HEAD.search, words)):
        raise OtherKind(name, f"is not of a head by its tags ({', '.join(sorted(body))})", REMEDY)


def check_component(name: str, frames: Sequence[Frame]) -> None:
    """Raise OtherKind for phase, real and imaginary images."""
    component = next((frame.variant[1] for frame in frames if frame.variant[1]), "")
    if component:
        raise OtherKind(name, f"is a {component} image by its tags, not a magnitude", REMEDY)


def doubt(header: Header, images: int) -> str:
    """Why a series of ``images`` is hardly the scan where there are others; "" if it may be."""
    if LOCALIZER.search(header.text("SeriesDescription")):
        return "is a localizer by its description"
    if not is_mr_image(header) and header.text("SOPClassUID"):
        return "is no MR image but a capture, map or the like by its class"
    if derived := DERIVED.intersection(header.words("ImageType")[2:]):
        return f"was computed from another series by its tags ({', '.join(sorted(derived))})"
    return f"has {images} images only" if images < FEWEST else ""


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
