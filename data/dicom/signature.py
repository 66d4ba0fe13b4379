"""Recognize DICOM files by their signature or their name, without pydicom."""

from pathlib import Path

MAGIC_AT, MAGIC = 128, b"DICM"  # after the preamble (DICOM PS3.10, 7.1)
SUFFIXES = (".dcm", ".ima", ".dicom")


def is_named(path: Path | str) -> bool:
    """Whether the name has a DICOM suffix."""
    return str(path).lower().endswith(SUFFIXES)


def has_signature(path: Path) -> bool:
    """Whether the file has DICOM's preamble and signature."""
    with path.open("rb") as stream:
        stream.seek(MAGIC_AT)
        return stream.read(len(MAGIC)) == MAGIC
