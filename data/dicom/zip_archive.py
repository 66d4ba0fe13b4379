"""Files out of a zip that a stranger made, and nothing but files, and not too many of them."""

import stat
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from uncus.data.errors import BadInput
from uncus.data.text import printable

ZIP_MAGIC = (b"PK\x03\x04", b"PK\x05\x06")
END = b"PK\x05\x06"
MEND = "zip the scan's folder again"
CHUNK = 1 << 20


@dataclass(frozen=True)
class Member:
    """A file to read and the name by which it is spoken of."""

    path: Path
    name: str


@dataclass(frozen=True)
class Caps:
    """What a zip may hold.

    Parameters
    ----------
    files: entries.
    size: bytes of all files once inflated.
    directory: bytes of the zip's own directory, which is read before anything can be counted.
    """

    files: int = 20_000
    size: int = 2 << 30
    directory: int = 16 << 20


def is_zip(path: Path) -> bool:
    """Whether the file starts as zip data does, whatever its name says."""
    with path.open("rb") as stream:
        return stream.read(4) in ZIP_MAGIC


def extract(archive: Path, folder: Path, caps: Caps = Caps()) -> tuple[Member, ...]:
    """Inflate every file of ``archive`` into ``folder`` under a number of its own.

    Raises
    ------
    BadInput: not a zip or a damaged one, entries that lead outside, links, encrypted entries, more
        files or bytes than ``caps`` allows (nothing is inflated beyond them).
    """
    _check_directory(archive, caps)
    try:
        with zipfile.ZipFile(archive) as zipped:
            entries = [entry for entry in zipped.infolist() if not entry.is_dir()]
            _check(archive, entries, caps)
            folder.mkdir(parents=True, exist_ok=True)
            members, left = [], caps.size
            for number, entry in enumerate(entries):
                path = folder / f"{number:06d}"
                left = _inflate(archive, zipped, entry, path, left, caps.size)
                members.append(Member(path, printable(entry.filename)))
            return tuple(members)
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        NotImplementedError,
        RuntimeError,
        UnicodeError,
        ValueError,
        OSError,
    ) as error:
        if isinstance(error, BadInput):
            raise
        raise BadInput(archive, f"is a damaged zip ({printable(str(error))})", MEND) from None


def _check_directory(archive: Path, caps: Caps) -> None:
    """Refuse by the last record of the file, before the directory it points to is read."""
    size = archive.stat().st_size
    with archive.open("rb") as stream:
        stream.seek(max(0, size - 65_557))  # the record and the longest comment
        tail = stream.read()
    at = tail.rfind(END)
    if at < 0 or len(tail) < at + 20:
        raise BadInput(archive, "is a damaged zip (its directory is missing)", MEND)
    entries = int.from_bytes(tail[at + 10 : at + 12], "little")
    directory = int.from_bytes(tail[at + 12 : at + 16], "little")
    if entries == 0xFFFF or directory == 0xFFFFFFFF:
        raise _too_many(archive, f"over {0xFFFE:,} files", caps)  # as only zip64 can
    if entries > caps.files:
        raise _too_many(archive, f"{entries:,} files", caps)
    if directory > caps.directory:
        raise _too_many(archive, f"a directory of {directory:,} bytes", caps)


def _check(archive: Path, entries: list[zipfile.ZipInfo], caps: Caps) -> None:
    if len(entries) > caps.files:
        raise _too_many(archive, f"{len(entries):,} files", caps)
    for entry in entries:
        name = PurePosixPath(entry.filename.replace("\\", "/"))
        shown = printable(entry.filename)
        if name.is_absolute() or ".." in name.parts or ":" in name.parts[0]:
            raise BadInput(archive, f"holds a file that leads outside it: {shown}", MEND)
        kind = stat.S_IFMT(entry.external_attr >> 16)
        if kind not in {0, stat.S_IFREG}:
            raise BadInput(archive, f"holds a link or a special file: {shown}", MEND)
        if entry.flag_bits & 1:
            raise BadInput(archive, f"is encrypted: {shown}", "zip it without a password")
    total = sum(entry.file_size for entry in entries)
    if total > caps.size:
        raise _bomb(archive, caps.size)


def _inflate(
    archive: Path, zipped: zipfile.ZipFile, entry: zipfile.ZipInfo, path: Path, left: int, cap: int
) -> int:
    """Write one entry to ``path``; how many bytes may still come after it."""
    with zipped.open(entry) as source, path.open("wb") as target:
        while piece := source.read(CHUNK):
            left -= len(piece)
            if left < 0:
                raise _bomb(archive, cap)
            target.write(piece)
    return left


def _too_many(archive: Path, what: str, caps: Caps) -> BadInput:
    cause = f"holds {what}, over the cap of {caps.files:,} files"
    return BadInput(archive, cause, "zip the series that is meant")


def _bomb(archive: Path, cap: int) -> BadInput:
    cause = f"inflates to more than {cap:,} bytes: a zip bomb, or many scans in one"
    return BadInput(archive, cause, "zip the series that is meant")
