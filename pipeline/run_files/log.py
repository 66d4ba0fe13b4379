"""The log of a run: what was printed, every epoch, and how it ended, with the time (UTC)."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO


def append(path: Path, text: str) -> None:
    """Append a line. A log that cannot be written stops no training."""
    line = f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S}  {text}\n"
    with contextlib.suppress(OSError), path.open("ab") as stream:
        stream.write(line.encode("utf-8", "backslashreplace"))  # at once: processes may share it


@contextmanager
def kept(path: Path, ready: Callable[[], bool]) -> Iterator[None]:
    """Append what is printed meanwhile, and the error if there is one, as soon as it is ``ready``.

    Until then nothing is written: a training that is refused leaves nothing.
    """
    printed = Printed(sys.stdout, path, ready)
    try:
        with contextlib.redirect_stdout(printed):
            yield
    except BaseException as error:
        reason = " ".join(str(error).split())
        printed.keep(f"stopped: {type(error).__name__}{': ' * bool(reason)}{reason}")
        raise


class Printed:
    """A stream that also keeps its lines in a log."""

    def __init__(self, stream: TextIO, path: Path, ready: Callable[[], bool]) -> None:
        self.stream, self.path, self.ready = stream, path, ready
        self.line, self.waiting = "", list[str]()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        """Write to the stream; whole lines are kept."""
        *lines, self.line = (self.line + text).split("\n")
        for line in filter(None, lines):
            self.keep(line)
        return self.stream.write(text)

    def keep(self, line: str) -> None:
        """Append a line, after those that waited."""
        self.waiting.append(line)
        if self.ready():
            for one in self.waiting:
                append(self.path, one)
            self.waiting.clear()
