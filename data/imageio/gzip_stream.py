"""Bytes of a file, plain or gzip, never more of them than asked for."""

import hashlib
import io
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from uncus.data.errors import BadInput

GZIP_MAGIC = b"\x1f\x8b"
CHUNK = 1 << 20  # bytes
# Deflate cannot pack more than 1032 bytes into one (zlib's technical notes).
MAX_RATIO = 1032


@dataclass(frozen=True)
class RawFile:
    """A file on disk, and its bytes if they have been read."""

    path: Path
    content: bytes | None = None

    def open(self) -> io.BufferedReader | io.BytesIO:
        """Open the bytes as a stream."""
        return self.path.open("rb") if self.content is None else io.BytesIO(self.content)

    @property
    def size(self) -> int:
        """In bytes."""
        return self.path.stat().st_size if self.content is None else len(self.content)

    def sha256(self) -> str:
        """Hexadecimal SHA-256 of the bytes."""
        with self.open() as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()


def is_gzip(file: RawFile) -> bool:
    """Whether the file starts as gzip data does, whatever its name says."""
    with file.open() as stream:
        return stream.read(2) == GZIP_MAGIC


def read_head(file: RawFile, size: int) -> bytes:
    """The first ``size`` bytes of the content (fewer where there are fewer), inflated if gzip."""
    head = bytearray()
    for piece in _pieces(file, size):
        head += piece
        if len(head) >= size:
            break
    return bytes(head[:size])


def capacity(file: RawFile) -> int:
    """The most bytes that the file can hold once inflated, from its size alone."""
    return file.size * MAX_RATIO if is_gzip(file) else file.size


def read_content(file: RawFile, expected: int, spare: int) -> tuple[bytearray, int]:
    """Read ``expected`` bytes of content and check what follows.

    Parameters
    ----------
    expected: bytes that the header declares; nothing larger is allocated.
    spare: how many bytes may follow them.

    Returns
    -------
    The content (``expected`` bytes) and how many bytes follow it.

    Raises
    ------
    BadInput: the file ends early, fails its checksum, or inflates to more than expected + spare.
    """
    content = bytearray(expected)
    filled = beyond = 0
    for piece in _pieces(file, CHUNK):
        room = min(len(piece), expected - filled)
        content[filled : filled + room] = piece[:room]
        filled += room
        beyond += len(piece) - room
        if beyond > spare:
            raise BadInput(
                file.path,
                f"holds over {beyond:,} bytes more than its header declares ({expected:,})",
                "it may be a decompression bomb or several files in one; export the scan again",
            )
    if filled < expected:
        raise BadInput(
            file.path,
            f"is truncated: {filled:,} of {expected:,} bytes are there",
            "copy or download it again",
        )
    return content, beyond


def _pieces(file: RawFile, step: int) -> Iterator[bytes]:
    """The content piece by piece, at most ``step`` bytes each; gzip members are joined."""
    with file.open() as stream:
        if not is_gzip(file):
            while piece := stream.read(step):
                yield piece
            return
        pending = stream.read(CHUNK)
        while pending:
            inflater = zlib.decompressobj(wbits=31)  # 31: gzip container, checksum verified
            while not inflater.eof:
                try:
                    piece = inflater.decompress(pending, step)
                except zlib.error as error:
                    raise BadInput(
                        file.path,
                        f"is damaged gzip data ({_reason(error)})",
                        "copy or download it again",
                    ) from None
                pending = inflater.unconsumed_tail
                if piece:
                    yield piece
                if not inflater.eof and not pending:
                    pending = stream.read(CHUNK)
                    # An empty call drains what zlib still holds back before giving up.
                    if not pending and not piece:
                        raise BadInput(
                            file.path, "is truncated gzip data", "copy or download it again"
                        )
            pending = inflater.unused_data or stream.read(CHUNK)
            if len(pending) < len(GZIP_MAGIC):
                pending += stream.read(CHUNK)
            if pending and not pending.startswith(GZIP_MAGIC):
                while pending:  # not a further member: bytes after the end of the gzip data
                    yield pending
                    pending = stream.read(CHUNK)


def _reason(error: zlib.error) -> str:
    text = str(error)
    if "incorrect data check" in text:
        return "its checksum, CRC, is wrong"
    return text.split(": ")[-1]
