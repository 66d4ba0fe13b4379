"""One scan of one visitor and all that is known of it; it goes when the visit ends.

No streamlit here: a page keeps visits in its session's state, which no other session sees, and in
a register, so that a sweep can end those whose session is gone.
"""

import secrets
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from uncus.app.job_queue import Busy, Desk, Job
from uncus.app.sanitize import harmless
from uncus.app.uploads import Upload, store
from uncus.data.errors import BadInput

TAKE_HOME = {
    "report.html": "Report (HTML)",
    "report.pdf": "Report (PDF)",
    "saliency.nii.gz": "Map (NIfTI)",
    "prediction.json": "Answer (JSON)",
    "atlas.tsv": "Regions (TSV)",
}
"""Files of a map that a visitor may take home, and what they are called."""
SHOWN = {"scan.nii.gz", "map.nii.gz", "saliency.png"}
"""Files that only the page shows."""


class Visit:
    """A scan that was uploaded.

    Parameters
    ----------
    run: folder of the run that answers.
    uploads: the files of the scan.
    known: what the visitor says of the person: ``{"age": 72.0}``.

    Attributes
    ----------
    name: the visitor's name of the scan, harmless to show; never used on disk.
    answer: as prediction.json has it, once there is one.
    nearest: the training scans most like this one, nearest first; none where the run keeps none.
    refusal: why there will be none; "" otherwise. ``series``: what to choose from then.
    maps: (method, class) -> what the worker says of the map, with its folder's name; in the order
        in which they were asked for.
    """

    def __init__(
        self,
        run: Path,
        uploads: Sequence[Upload],
        known: dict[str, float | str | None] | None = None,
        name: str = "",
    ) -> None:
        first = uploads[0].name
        many = f"{len(uploads)} files" if len(uploads) > 2 else harmless(first)
        self.run, self.known, self.name = run, known or {}, name or many
        self.token = secrets.token_urlsafe(24)
        self.folder = tempfile.TemporaryDirectory(prefix="uncus-visit-", ignore_cleanup_errors=True)
        self.answer: dict[str, Any] | None = None
        self.nearest: list[dict[str, Any]] = []
        self.refusal = ""
        self.series: list[dict[str, Any]] = []
        self.chosen = ""
        self.maps: dict[tuple[str, str], dict[str, Any]] = {}
        self.job: Job | None = None
        self.seconds = 0.0
        self.spent: dict[str, dict[str, float]] = {}
        try:
            self.source = store(uploads, Path(self.folder.name))
        except BadInput as error:
            self.refusal = f"{error.cause}; {error.remedy}"
        REGISTER.add(self)

    def ask(self, desk: Desk, method: str = "", name: str = "", keep: bool = True) -> None:
        """Put the next job in the line; nothing happens before the last one is collected.

        Without a ``method`` there is an answer and no map; "auto" leaves it to the worker.
        ``refusal`` is set where the line is full.
        """
        if self.job or self.refusal:
            return
        request = {
            "do": "answer",
            "token": self.token,
            "run": str(self.run),
            "source": str(self.source),
            "name": self.name,
            "series": self.chosen,
            "known": self.known,
            "method": method,
            "class": name,
            "folder": str(Path(self.folder.name) / f"map-{len(self.maps)}"),
            "keep": keep,
        }
        job = Job(request)
        try:
            desk.submit(job)
        except Busy as error:
            self.refusal = f"the queue is full: {error}"
            return
        self.job = job

    def collect(self) -> bool:
        """Take over the answer as soon as it is there, the rest of a job when it is over.

        Returns whether a job is over.
        """
        job = self.job
        if job is None:
            return False
        self.answer = job.replies.get("answer", self.answer)
        self.nearest = job.replies.get("nearest", self.nearest)
        if not job.over:
            return False
        self.job = None
        self.seconds += job.seconds
        self.spent |= job.replies.get("spent", {})
        self.series = job.replies.get("series", [])
        found = job.replies.get("map")
        if found:
            folder = Path(job.request["folder"]).name
            self.maps[found["method"], found["name"]] = {**found, "folder": folder}
        self.refusal = job.refused
        return True

    def choose(self, series: str) -> None:
        """Answer for one of several DICOM series."""
        self.chosen, self.refusal, self.series = series, "", []

    def url(self, file: str) -> str:
        """Where the browser finds a file of this visit."""
        return f"/files/{self.token}/{file}"

    def file(self, name: str) -> Path | None:
        """A file of this visit that may be seen; None for any other."""
        folder, _, last = name.rpartition("/")
        ours = {"", *(found["folder"] for found in self.maps.values())}
        if folder not in ours or last not in SHOWN | TAKE_HOME.keys():
            return None
        path = Path(self.folder.name) / name
        return path if path.is_file() else None

    def close(self, desk: Desk | None = None) -> None:
        """Remove all that is on disk, and have the worker forget the scan."""
        REGISTER.remove(self)
        if desk:
            desk.leave(self.token)
        self.folder.cleanup()


class Register:
    """The visits that there are, by token."""

    def __init__(self) -> None:
        self.visits: dict[str, Visit] = {}
        self.lock = threading.Lock()

    def add(self, visit: Visit) -> None:
        """Note a visit."""
        with self.lock:
            self.visits[visit.token] = visit

    def remove(self, visit: Visit) -> None:
        """Forget a visit."""
        with self.lock:
            self.visits.pop(visit.token, None)

    def get(self, token: str) -> Visit | None:
        """The visit of a token."""
        return self.visits.get(token)


REGISTER = Register()
