"""Extract the files of an untrusted zip, within limits on their number and size."""

import stat
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from uncus.data.errors import BadInput
from uncus.data.text import printable

ZIP_MAGIC = (b"PK\x03\x04", b"PK\x05\x06")
END = b"PK\x05\x06"
REMEDY = "zip the scan's folder again"
CHUNK = 1 << 20


@dataclass(frozen=True)
class Member:
    """A file to read, and its name in messages."""

    path: Path
    name: str


@dataclass(frozen=True)
class ZipLimits:
    """Limits on the contents of a zip.

    Parameters
    ----------
    files: number of entries.
    size: bytes of all files once inflated.
    directory: bytes of the zip's central directory, which is read before entries are counted.
    """

    files: int = 20_000
    size: int = 2 << 30
    directory: int = 16 << 20


def is_zip(path: Path) -> bool:
    """Whether the file starts as zip data does, whatever its name."""
    with path.open("rb") as stream:
        return stream.read(4) in ZIP_MAGIC


def extract(archive: Path, folder: Path, limits: ZipLimits = ZipLimits()) -> tuple[Member, ...]:
    """Inflate every file of ``archive`` into ``folder``, named by its number.

    Raises
    ------
    BadInput: not a zip or a damaged one; entries that lead outside, links, encrypted entries; more
        files or bytes than ``limits`` (nothing is inflated beyond them).
    """
    _check_directory(archive, limits)
    try:
        with zipfile.ZipFile(archive) as zipped:
            entries = [entry for entry in zipped.infolist() if not entry.is_dir()]
            _check(archive, entries, limits)
            folder.mkdir(parents=True, exist_ok=True)
            members, remaining = [], limits.size
            for number, entry in enumerate(entries):
                path = folder / f"{number:06d}"
                remaining = _inflate(zipped, entry, path, remaining)
                if remaining < 0:
                    raise _bomb(archive, limits.size)
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
        raise BadInput(archive, f"is a damaged zip ({printable(str(error))})", REMEDY) from None


def _check_directory(archive: Path, limits: ZipLimits) -> None:
    """Check the end-of-directory record, before the directory it points to is read."""
    size = archive.stat().st_size
    with archive.open("rb") as stream:
        stream.seek(max(0, size - 65_557))  # the record and the longest comment
        tail = stream.read()
    at = tail.rfind(END)
    if at < 0 or len(tail) < at + 20:
        raise BadInput(archive, "is a damaged zip (its directory is missing)", REMEDY)
    entries = int.from_bytes(tail[at + 10 : at + 12], "little")
    directory = int.from_bytes(tail[at + 12 : at + 16], "little")
    if entries == 0xFFFF or directory == 0xFFFFFFFF:
        raise _too_many(archive, f"over {0xFFFE:,} files", limits)  # zip64
    if entries > limits.files:
        raise _too_many(archive, f"{entries:,} files", limits)
    if directory > limits.directory:
        raise _too_many(archive, f"a directory of {directory:,} bytes", limits)


def _check(archive: Path, entries: list[zipfile.ZipInfo], limits: ZipLimits) -> None:
    if len(entries) > limits.files:
        raise _too_many(archive, f"{len(entries):,} files", limits)
    for entry in entries:
        name = PurePosixPath(entry.filename.replace("\\", "/"))
        shown = printable(entry.filename)
        if name.is_absolute() or ".." in name.parts or ":" in name.parts[0]:
            raise BadInput(archive, f"contains a file that leads outside it: {shown}", REMEDY)
        kind = stat.S_IFMT(entry.external_attr >> 16)
        if kind not in {0, stat.S_IFREG}:
            raise BadInput(archive, f"contains a link or a special file: {shown}", REMEDY)
        if entry.flag_bits & 1:
            raise BadInput(archive, f"is encrypted: {shown}", "zip it without a password")
    total = sum(entry.file_size for entry in entries)
    if total > limits.size:
        raise _bomb(archive, limits.size)


def _inflate(zipped: zipfile.ZipFile, entry: zipfile.ZipInfo, path: Path, remaining: int) -> int:
    """Write one entry to ``path``; return how many bytes remain, below 0 if there are too few."""
    with zipped.open(entry) as source, path.open("wb") as target:
        while chunk := source.read(CHUNK):
            remaining -= len(chunk)
            if remaining < 0:
                break
            target.write(chunk)
    return remaining


def _too_many(archive: Path, what: str, limits: ZipLimits) -> BadInput:
    cause = f"contains {what}, over the limit of {limits.files:,} files"
    return BadInput(archive, cause, "zip only the T1-weighted series")


def _bomb(archive: Path, limit: int) -> BadInput:
    cause = f"inflates to more than {limit:,} bytes: a zip bomb, or many scans in one"
    return BadInput(archive, cause, "zip only the T1-weighted series")
