"""Uploads written to disk under names of our own; the content decides the file type."""

import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from uncus.data.dicom.signature import is_named
from uncus.data.dicom.zip_archive import ZIP_MAGIC
from uncus.data.errors import BadInput

MAX_FILES = 2_000
LIMIT = 500
"""Limit on all files of one scan (MiB)."""
HEAD = 540  # bytes of a NIfTI-2 header, the longest
KINDS = "a NIfTI, MGZ or Analyze file, a zip of DICOM files, or DICOM files"
GZIP = b"\x1f\x8b"
NIFTI_SIZES = {(348).to_bytes(4, order) for order in ("little", "big")} | {
    (540).to_bytes(4, order) for order in ("little", "big")
}


class Upload(Protocol):
    """The required part of an uploaded file."""

    name: str

    def getbuffer(self) -> memoryview:
        """The bytes."""


def kind(head: bytes) -> str:
    """The suffix of a file by its first bytes; "" for unsupported types.

    A header without voxels (.hdr) is recognized by its magic word.
    """
    if head[:4] in ZIP_MAGIC:
        return ".zip"
    if head[128:132] == b"DICM":
        return ".dcm"
    if head[:2] == GZIP:
        inner = kind(_inflated(head))
        return {".nii": ".nii.gz", ".mgh": ".mgz"}.get(inner, "")
    if head[:4] in NIFTI_SIZES:
        apart = head[344:348] == b"ni1\0" or head[4:8] == b"ni2\0"
        return ".hdr" if apart else ".nii"
    if head[:4] == (1).to_bytes(4, "big"):  # MGH's version
        return ".mgh"
    return ""


def store(uploads: Sequence[Upload], folder: Path) -> Path:
    """Write the files of one scan to ``folder``; returns what to read: a file, or the folder.

    Raises
    ------
    BadInput: too large, or not the files of one scan.
    """
    total = sum(len(upload.getbuffer()) for upload in uploads)
    if len(uploads) > MAX_FILES:
        raise BadInput("upload", f"{len(uploads):,} files", f"{MAX_FILES:,} at most; zip them")
    if total > LIMIT << 20:
        raise BadInput("upload", f"{total >> 20} MiB", f"{LIMIT} MiB at most")
    kinds = [kind(bytes(upload.getbuffer()[:4096])) for upload in uploads]
    if len(uploads) == 1:
        return _one(uploads[0], kinds[0], folder)
    pair = {Path(upload.name).suffix.lower() for upload in uploads} == {".hdr", ".img"}
    if len(uploads) == 2 and pair:
        for upload in uploads:
            _write(folder / f"scan{Path(upload.name).suffix.lower()}", upload)
        return folder / "scan.hdr"
    if any(kind not in {".dcm", ""} for kind in kinds) or ".dcm" not in kinds:
        raise BadInput(
            "upload",
            f"{len(uploads)} files that are not one scan's DICOM files",
            "upload one scan here, or use the tab 'Several scans'",
        )
    series = folder / "scan"
    series.mkdir(exist_ok=True)
    for number, upload in enumerate(uploads):
        _write(series / f"{number:05d}.dcm", upload)
    return series


def _one(upload: Upload, suffix: str, folder: Path) -> Path:
    name = upload.name.lower()
    if len(upload.getbuffer()) == 0:
        raise BadInput("upload", "is empty", "copy or download it again")
    if not suffix and is_named(name):
        suffix = ".dcm"  # files of some old scanners have no preamble
    if suffix == ".hdr" or name.endswith(".hdr"):
        raise BadInput(
            "upload", "is a header without its voxels", "give the .hdr and .img together"
        )
    if not suffix:
        raise BadInput("upload", "is not a supported scan", f"give {KINDS}")
    _write(folder / f"scan{suffix}", upload)
    return folder / f"scan{suffix}"


def _write(path: Path, upload: Upload) -> None:
    with path.open("wb") as stream:
        stream.write(upload.getbuffer())


def _inflated(head: bytes) -> bytes:
    """The first decompressed bytes; none if they are damaged."""
    try:
        return zlib.decompressobj(31).decompress(head, HEAD)
    except zlib.error:
        return b""
