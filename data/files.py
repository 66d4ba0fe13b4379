"""Write files so that a kill at any moment leaves the old file or the new one, never half of it."""

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from uncus.data.errors import BadInput


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Call ``write`` with a temporary path in the same folder, flush it to disk, then rename it.

    Raises BadInput if the disk is full or the folder is read-only; ``path`` is then unchanged.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError as error:
        raise BadInput(
            path,
            f"cannot be written ({error.strerror or error})",
            "free space or choose another folder",
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8, with ``?`` for what is none (bytes of a file's name)."""
    write_atomically(path, lambda temporary: temporary.write_text(text, "utf-8", "replace"))


def read_text(path: Path) -> str:
    """Read text in UTF-8, with or without a byte-order mark.

    Raises
    ------
    BadInput: there is no such file, it cannot be read, or it is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput(path, f"not UTF-8 at byte {error.start}", "save it as UTF-8") from None
    except OSError as error:
        cause = (error.strerror or str(error)).lower()
        raise BadInput(path, cause, "check the path and its permissions") from None


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as JSON; raises ValueError for NaN and infinity, which JSON does not have."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False, default=str) + "\n")


def read_json(path: Path) -> Any:
    """Read the JSON value in ``path``; raises BadInput if there is no file or it is not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"), parse_constant=reject_constant)
    except FileNotFoundError as error:
        raise BadInput(path, "does not exist", "check the folder") from error
    except (OSError, ValueError, RecursionError) as error:
        raise BadInput(
            path, f"cannot be read as JSON ({error})", "restore it or create it again"
        ) from error


def reject_constant(name: str) -> None:
    """Reject NaN and Infinity, which Python's parser accepts."""
    raise ValueError(f"{name} is not JSON")


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextmanager
def locked(folder: Path, what: str, wait: float = 0) -> Iterator[None]:
    """Lock ``folder`` for this process; raises BadInput if another process has locked it.

    The operating system releases the lock when the process ends, killed or not.

    Parameters
    ----------
    what: what the folder is, for the error.
    wait: time (s) to wait for the other process.
    """
    lock = FileLock(folder / ".lock", timeout=wait)
    try:
        str(folder).encode()  # TensorBoard and pandas hold text, not bytes
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout as error:
        raise BadInput(
            folder, f"another process is working on this {what}", "wait for it, or choose another"
        ) from error
    except UnicodeEncodeError:
        raise BadInput(folder, "its name is not UTF-8", "choose another name") from None
    except OSError as error:
        raise BadInput(
            folder, f"cannot be written ({error.strerror})", "choose a writable folder"
        ) from error
    try:
        yield
    finally:
        lock.release()


def is_locked(folder: Path) -> bool:
    """Whether another process has locked ``folder``."""
    if not (folder / ".lock").exists():
        return False
    try:
        with FileLock(folder / ".lock", timeout=0):
            return False
    except (Timeout, OSError):
        return True
