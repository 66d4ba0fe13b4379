"""Read plain and gzip files without inflating more bytes than requested."""

import hashlib
import io
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from uncus.data.errors import BadInput

GZIP_MAGIC = b"\x1f\x8b"
CHUNK = 1 << 20  # bytes
# Deflate compresses by 1032:1 at most (zlib's technical notes).
MAX_RATIO = 1032


@dataclass(frozen=True)
class RawFile:
    """A file on disk, with its bytes if they are in memory."""

    path: Path
    content: bytes | None = None

    def open(self) -> io.BufferedReader | io.BytesIO:
        """Open the bytes as a stream."""
        return self.path.open("rb") if self.content is None else io.BytesIO(self.content)

    @property
    def size(self) -> int:
        """File size in bytes."""
        return self.path.stat().st_size if self.content is None else len(self.content)

    def sha256(self) -> str:
        """Hexadecimal SHA-256 of the bytes."""
        with self.open() as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()


def is_gzip(file: RawFile) -> bool:
    """Whether the file has the gzip signature, regardless of its name."""
    with file.open() as stream:
        return stream.read(2) == GZIP_MAGIC


def read_head(file: RawFile, size: int) -> bytes:
    """The first ``size`` bytes of the content, inflated if gzip; all if it is shorter."""
    head = bytearray()
    for chunk in _chunks(file, size):
        head += chunk
        if len(head) >= size:
            break
    return bytes(head[:size])


def max_content_size(file: RawFile) -> int:
    """Upper bound of the inflated size in bytes, from the file's size alone."""
    return file.size * MAX_RATIO if is_gzip(file) else file.size


def read_content(file: RawFile, expected: int, max_trailing: int) -> tuple[bytearray, int]:
    """Read ``expected`` bytes of content and count the bytes after them.

    Parameters
    ----------
    expected: content size in bytes by the header; nothing larger is allocated.
    max_trailing: how many more bytes are accepted.

    Returns
    -------
    The content (``expected`` bytes) and the number of bytes that follow it.

    Raises
    ------
    BadInput: the file ends early, fails its checksum, or has too many trailing bytes.
    """
    content = bytearray(expected)
    filled = trailing = 0
    for chunk in _chunks(file, CHUNK):
        count = min(len(chunk), expected - filled)
        content[filled : filled + count] = chunk[:count]
        filled += count
        trailing += len(chunk) - count
        if trailing > max_trailing:
            raise BadInput(
                file.path,
                f"over {trailing:,} bytes more than its header declares ({expected:,})",
                "it may be a decompression bomb or several joined files; export the scan again",
            )
    if filled < expected:
        raise BadInput(
            file.path,
            f"truncated file: {filled:,} of {expected:,} bytes",
            "copy or download it again",
        )
    return content, trailing


def _chunks(file: RawFile, step: int) -> Iterator[bytes]:
    """Yield the content in chunks of at most ``step`` bytes; gzip members are joined."""
    with file.open() as stream:
        if not is_gzip(file):
            while chunk := stream.read(step):
                yield chunk
            return
        pending = stream.read(CHUNK)
        while pending:
            inflater = zlib.decompressobj(wbits=31)  # 31: gzip container, checksum verified
            while not inflater.eof:
                try:
                    chunk = inflater.decompress(pending, step)
                except zlib.error as error:
                    raise BadInput(
                        file.path,
                        f"damaged gzip data ({_zlib_reason(error)})",
                        "copy or download it again",
                    ) from None
                pending = inflater.unconsumed_tail
                if chunk:
                    yield chunk
                if not inflater.eof and not pending:
                    pending = stream.read(CHUNK)
                    # A call without input drains zlib's buffer first.
                    if not pending and not chunk:
                        raise BadInput(
                            file.path, "truncated gzip data", "copy or download it again"
                        )
            pending = inflater.unused_data or stream.read(CHUNK)
            if len(pending) < len(GZIP_MAGIC):
                pending += stream.read(CHUNK)
            if pending and not pending.startswith(GZIP_MAGIC):
                while pending:  # no further member: bytes after the end of the gzip data
                    yield pending
                    pending = stream.read(CHUNK)


def _zlib_reason(error: zlib.error) -> str:
    text = str(error)
    if "incorrect data check" in text:
        return "its CRC checksum is wrong"
    return text.split(": ")[-1]
