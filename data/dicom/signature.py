"""What tells a DICOM file from others, by its bytes or its name; imports no pydicom."""

from pathlib import Path

MAGIC_AT, MAGIC = 128, b"DICM"  # after the preamble (DICOM PS3.10, 7.1)
NAMED = (".dcm", ".ima", ".dicom")


def is_named(path: Path | str) -> bool:
    """Whether the name is that of a DICOM file."""
    return str(path).lower().endswith(NAMED)


def has_signature(path: Path) -> bool:
    """Whether the file has DICOM's preamble and signature."""
    with path.open("rb") as stream:
        stream.seek(MAGIC_AT)
        return stream.read(len(MAGIC)) == MAGIC
