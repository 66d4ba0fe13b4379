"""One visitor's scan and all that is known of it; it goes when the visit ends or a new scan comes.

No streamlit here: the page keeps a ``Visit`` in its session's state, which no other session sees.
"""

import re
import tempfile
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

from data.errors import BadInput
from pipeline.predict import Prediction, Predictor, write

SUFFIXES = (".nii", ".nii.gz", ".mgz")
FILES = {
    "prediction.json": "application/json",
    "saliency.nii.gz": "application/gzip",
    "saliency.png": "image/png",
}
"""What a visitor may take home, and its media type."""
LONGEST = 48  # characters of a file name that are shown

Step = Callable[[str], object]


@dataclass(frozen=True)
class Desk:
    """A run's networks, shared by all visits; one scan is worked on at a time."""

    predictor: Predictor
    turn: Lock = field(default_factory=Lock)


class Visit:
    """A scan that was uploaded.

    Parameters
    ----------
    name: what the visitor calls the file; shown, never used on disk.
    content: the file's bytes.

    Attributes
    ----------
    name: the visitor's name, harmless to show.
    prediction: the answer, once there is one.
    refusal: why there will be none; empty otherwise.
    """

    def __init__(self, name: str, content: bytes | memoryview) -> None:
        self.name = harmless(name)
        self.folder = tempfile.TemporaryDirectory(prefix="uncus-visit-", ignore_cleanup_errors=True)
        self.prediction: Prediction | None = None
        self.refusal = ""
        self.explained: dict[tuple[str, str], Path] = {}
        lower = name.lower()
        suffix = max((s for s in SUFFIXES if lower.endswith(s)), key=len, default="")
        self.path = Path(self.folder.name) / f"scan{suffix}"
        if suffix:
            self.path.write_bytes(content)
        else:
            self.refusal = f"not a file of a kind that is read; upload {', '.join(SUFFIXES)}"

    def predict(self, desk: Desk, step: Step) -> None:
        """Ask the networks; sets ``prediction``, or ``refusal`` where the scan is refused.

        ``step`` is told what is being done.
        """
        step("Waiting for another scan to finish" if desk.turn.locked() else "Reading")
        with desk.turn:
            try:
                self.prediction = desk.predictor(self.path, step)
            except (ValueError, OSError, MemoryError) as error:
                self.refusal = self.reason(error)
            # All that is needed from here on is in memory.
            self.path.unlink(missing_ok=True)

    def explain(self, desk: Desk, method: str, name: str) -> Path:
        """Folder of ``FILES`` by ``method`` for class (or column) ``name``; made only once.

        Raises
        ------
        ValueError: there is no such map.
        """
        assert self.prediction is not None
        if (method, name) not in self.explained:
            folder = Path(self.folder.name) / str(len(self.explained))
            with desk.turn:
                saliency = desk.predictor.explain(self.prediction, method, name)
                on_scan = desk.predictor.on_scan(self.prediction, saliency)
                write(folder, self.prediction, on_scan, method, name)
            self.explained[method, name] = folder
        return self.explained[method, name]

    def reason(self, error: BaseException) -> str:
        """An error's line without the paths of this machine."""
        line = " ".join(str(error).split()) or "not enough memory"
        if isinstance(error, BadInput):
            line = line.removeprefix(f"{error.subject}: ")
        return line.replace(str(self.path), "the file").replace(self.folder.name, "the server")

    def close(self) -> None:
        """Remove all that is on disk."""
        self.folder.cleanup()


def harmless(name: str) -> str:
    """A file name to show: the last part, short, without control or direction characters.

    Backticks go too, so that it may stand between them in Markdown, where nothing else counts.
    """
    last = re.split(r"[/\\]", name)[-1]
    kept = "".join(c for c in last if unicodedata.category(c)[0] not in "CZ" or c == " ")
    kept = " ".join(kept.replace("`", "'").split()) or "unnamed"
    if len(kept) <= LONGEST:
        return kept
    return f"{kept[: LONGEST - 15]}…{kept[-14:]}"


def plain(text: str) -> str:
    """Text whose Markdown and HTML characters stand for themselves."""
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", text)
