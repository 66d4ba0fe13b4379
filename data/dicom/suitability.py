"""Is it a T1-weighted MR scan of a head? What a series' tags say, before its voxels are read."""

from collections.abc import Sequence

from uncus.data.dicom.frame import Frame, Header
from uncus.data.errors import BadInput

MEND = "give a 3D T1-weighted MR series of a head"
MR_CLASSES = ("1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.4.")  # MR and its enhanced kin
# Parts of the body (DICOM PS3.16, annex L) that a head is imaged as.
HEAD = frozenset({"", "HEAD", "BRAIN", "SKULL", "HEADNECK", "HEAD AND NECK", "TEMPORALLOBE", "IAC"})
# Spin echoes this long (ms) show fluid bright. T1-weighted ones end near 30 ms, T2-weighted ones
# start near 80 ms (Brown and Semelka, MRI: Basic Principles and Applications, chapter 8).
T1_ECHO_MS = 30.0
T2_ECHO_MS = 60.0


def refuse_other_scans(name: str, frames: Sequence[Frame]) -> None:
    """Raise BadInput where the tags name another kind of image."""
    for header in headers(frames):
        modality = header.text("Modality").upper()
        if modality and modality != "MR":
            raise BadInput(name, f"is not MR by its tags (Modality {modality})", MEND)
        if not modality and not header.text("SOPClassUID").startswith(MR_CLASSES):
            raise BadInput(name, "is not MR by its tags (no Modality)", MEND)
        if "LOCALIZER" in header.words("ImageType"):
            raise BadInput(name, "is a localizer by its tags", MEND)
        if header.number("SamplesPerPixel") not in {None, 1.0}:
            raise BadInput(name, "holds colours, not intensities", MEND)
    part = next((frame.part[1] for frame in frames if frame.part[1]), "")
    if part:
        raise BadInput(name, f"is a {part} image by its tags, not a magnitude", MEND)
    body = {header.text("BodyPartExamined").upper() for header in headers(frames)}
    if not body & HEAD:
        raise BadInput(name, f"is not of a head by its tags ({', '.join(sorted(body))})", MEND)


def warnings_of(frames: Sequence[Frame]) -> list[str]:
    """What the tags hold against the series, one sentence each."""
    all_headers = headers(frames)
    one = all_headers[0]
    warnings = []
    if any(header.text("BurnedInAnnotation").upper() == "YES" for header in all_headers):
        warnings.append("Text may be burned into the images, by their tags.")
    if one.text("ContrastBolusAgent"):
        warnings.append("A contrast agent was given, by its tags; brighter vessels may mislead.")
    if one.text("MRAcquisitionType").upper() == "2D":
        warnings.append("It was acquired slice by slice (2D), not as a volume, by its tags.")
    echo = one.number("EchoTime")
    kinds = one.words("ScanningSequence")
    inverted = one.number("InversionTime")
    if echo is not None and echo > T2_ECHO_MS:
        what = "FLAIR" if "IR" in kinds or (inverted or 0) > 1000 else "T2-weighted"
        warnings.append(f"It looks {what} by its tags (echo time {echo:g} ms).")
    elif echo is not None and echo > T1_ECHO_MS:
        warnings.append(f"Its echo time of {echo:g} ms is long for a T1-weighted scan.")
    return warnings


def headers(frames: Sequence[Frame]) -> list[Header]:
    """The headers of all files, each once."""
    return list({id(frame.header): frame.header for frame in frames}.values())
