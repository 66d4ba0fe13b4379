"""Seals: a file with the SHA-256 of each file beside it, as ``sha256sum`` writes and checks it.

A seal finds damage: a lost, cut or exchanged file. It cannot find an author's intent, since whoever
changes a file can seal it again.
"""

import re
from collections.abc import Iterable
from pathlib import Path

from uncus.data import files
from uncus.data.errors import BadInput

LINE = re.compile(r"([0-9a-f]{64})  ([A-Za-z0-9][A-Za-z0-9_.-]*)")
MAX_BYTES = 1 << 20


def write(seal: Path, names: Iterable[str]) -> None:
    """Seal the files ``names`` in the folder of ``seal``."""
    lines = (f"{files.sha256(seal.parent / name)}  {name}\n" for name in sorted(names))
    files.write_text(seal, "".join(lines))


def verify(seal: Path, remedy: str) -> dict[str, str]:
    """Name -> SHA-256 of the sealed files.

    Raises
    ------
    BadInput: a file is missing, differs from the seal, or is a link; a seal that names anything
        but files beside it. ``remedy`` is what to do then.
    """
    sums = {}
    for line in read(seal, remedy):
        match = LINE.fullmatch(line)
        if not match:
            raise BadInput(seal, f"{line[:100]!r} is not a SHA-256 and the name of a file", remedy)
        expected, name = match.groups()
        check(seal.parent / name, expected, seal.name, remedy)
        sums[name] = expected
    return sums


def check(path: Path, expected: str | None, seal: str, remedy: str) -> None:
    """Raise BadInput unless a file has the SHA-256 that its ``seal`` states, None for no such."""
    found = files.sha256(plain_file(path, remedy))
    if expected is None:
        raise BadInput(path, f"is not sealed by {seal}", remedy)
    if found != expected:
        raise BadInput(path, f"its SHA-256 differs from the one in {seal}", remedy)


def read(seal: Path, remedy: str) -> list[str]:
    """The lines of a seal."""
    plain_file(seal, remedy)
    if seal.stat().st_size > MAX_BYTES:
        raise BadInput(seal, f"over {MAX_BYTES >> 20} MB", remedy)
    try:
        return seal.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise BadInput(seal, "is not a list of SHA-256", remedy) from None


def plain_file(path: Path, remedy: str) -> Path:
    """The same path; raises BadInput for a missing file, a link, or anything but a file."""
    if path.is_symlink():
        raise BadInput(path, "is a link", "copy the file that it points to, in its place")
    if not path.exists():
        raise BadInput(path, "is missing", remedy)
    if not path.is_file():
        raise BadInput(path, "is not a file", remedy)
    return path
