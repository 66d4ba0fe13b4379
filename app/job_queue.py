"""The job queue of the page: one scan is processed at a time, the others wait.

No streamlit here, and no networks: they are in the process of uncus.app.worker, which may crash or
hang without harm to the page. A job that takes too long ends with its process, as does one whose
user has left; the next job gets a new one.
"""

import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from uncus.app.protocol import Reply, Request

MAX_WAITING = 24
"""Jobs that may wait."""
MAX_SECONDS = 600.0
"""Time limit of one job (s)."""
MAX_START = 600.0
"""Time limit for loading the networks (s)."""


CANCELED = "canceled"
"""Error of a job whose scan was removed."""


class QueueFullError(ValueError):
    """No more jobs can wait."""


@dataclass(eq=False)
class Job:
    """A request and its results so far.

    ``step`` is the current step, ``error`` why the request failed ("" otherwise), ``sent`` whether
    the worker has it, and ``seconds`` the duration without the time in the queue.
    """

    request: Request
    step: str = "Waiting"
    prediction: dict[str, Any] | None = None
    map: dict[str, Any] | None = None
    series: list[dict[str, Any]] = field(default_factory=list)
    timings: dict[str, dict[str, float]] = field(default_factory=dict)
    error: str = ""
    sent: bool = False
    finished: bool = False
    seconds: float = 0.0

    def add(self, reply: Reply) -> None:
        """Add what a reply reports."""
        for name in ("step", "prediction", "map", "series", "timings", "error"):
            if (value := getattr(reply, name)) is not None:
                setattr(self, name, value)


class JobQueue:
    """The waiting jobs and the worker process, which loads ``run`` at once.

    ``methods`` is name -> summary of each saliency method, empty until the networks are loaded;
    ``person`` whether age and sex give centiles of volumes;
    ``failure`` is why they cannot be loaded, "" otherwise; ``ready`` is set once this is known.
    """

    def __init__(
        self, run: Path, max_waiting: int = MAX_WAITING, max_seconds: float = MAX_SECONDS
    ) -> None:
        self.run, self.max_waiting, self.max_seconds = run, max_waiting, max_seconds
        self.methods: dict[str, str] = {}
        self.person = False
        self.failure = ""
        self.ready = threading.Event()
        self.waiting: deque[Job] = deque()
        self.current: Job | None = None
        self.forgotten: deque[str] = deque()
        self.closed = False
        self.change = threading.Condition()
        self.process: subprocess.Popen[str] | None = None
        self.lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self.thread = threading.Thread(target=self.work, daemon=True, name="uncus-jobs")
        self.thread.start()

    def submit(self, job: Job) -> None:
        """Queue a job; raises QueueFullError if too many wait."""
        with self.change:
            if len(self.waiting) >= self.max_waiting:
                raise QueueFullError(f"{len(self.waiting)} scans are waiting; try again later")
            self.waiting.append(job)
            self.change.notify_all()

    def ahead(self, job: Job) -> int:
        """The number of jobs before this one, including the current one."""
        with self.change:
            if job is self.current or job not in self.waiting:
                return 0
            return self.waiting.index(job) + (self.current is not None)

    def length(self) -> int:
        """The number of jobs, waiting and current."""
        with self.change:
            return len(self.waiting) + (self.current is not None)

    def drop(self, token: str) -> None:
        """Cancel a scan's jobs and have the worker forget it; it uses none of its files after this.

        The job in work ends with its process; its temporary files are in the scan's folder.
        """
        with self.change:
            for job in [job for job in self.waiting if job.request.token == token]:
                self.waiting.remove(job)
                job.error, job.finished = CANCELED, True
            if self.current and self.current.request.token == token:
                self.current.error = CANCELED
                if self.current.sent:
                    self.end()
            self.forgotten.append(token)
            self.change.notify_all()

    def close(self) -> None:
        """End the process and the thread."""
        with self.change:
            self.closed = True
            self.change.notify_all()
        self.end()
        self.thread.join(10)

    # In the thread

    def work(self) -> None:
        """Process jobs, one after another."""
        self.start()
        self.ready.set()
        while not self.closed:
            with self.change:
                self.change.wait_for(lambda: self.waiting or self.forgotten or self.closed)
                if self.closed:
                    break
                tokens, self.forgotten = self.forgotten, deque()
                job = self.current = self.waiting.popleft() if self.waiting else None
            for token in tokens:
                self.send(Request(token, forget=True))
            if job:
                self.process_job(job)
                with self.change:
                    self.current = None
                    job.finished = True
                    self.change.notify_all()
                if not (self.process or self.failure):
                    self.start()  # at once, not when the next user waits for it

    def process_job(self, job: Job) -> None:
        """One job, until it finishes or its process ends."""
        start = time.monotonic()
        if not self.process and not self.start():
            job.error = job.error or self.failure
            return
        with self.change:
            if job.error:
                return
            job.sent = True
            self.send(job.request)
        finished = False
        while not finished:
            left = start + self.max_seconds - time.monotonic()
            try:
                line = self.lines.get(timeout=max(0.1, left))
                reply = Reply.from_line(line) if line else None
            except queue.Empty:
                job.error = f"it took more than {self.max_seconds:.0f} s and was canceled"
                self.end()
                break
            except ValueError:
                reply = None
            if reply is None:
                code = self.end()
                how = f"signal {-code}" if code < 0 else f"exit code {code}"
                job.error = job.error or f"reading it crashed ({how}); export the scan again"
                break
            job.add(reply)
            finished = reply.timings is not None
        job.seconds = time.monotonic() - start

    def start(self) -> bool:
        """Start the process and wait until the networks are loaded."""
        self.lines = queue.SimpleQueue()
        with self.change:
            if self.closed:
                return False
            self.process = process = subprocess.Popen(
                [sys.executable, "-P", "-m", "uncus.app.worker", str(self.run)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=None if os.environ.get("UNCUS_TRACEBACK") else subprocess.DEVNULL,
                text=True,
                encoding="utf-8",
                start_new_session=True,
            )
        threading.Thread(target=forward_lines, args=(process, self.lines), daemon=True).start()
        try:
            first = Reply.from_line(self.lines.get(timeout=MAX_START) or "")
        except queue.Empty:
            first = Reply(failure=f"loading takes more than {MAX_START:.0f} s")
        except ValueError:
            first = Reply(failure="the worker process does not start")
        self.failure = first.failure or ""
        self.methods = first.methods or self.methods
        self.person = bool(first.person)
        if self.failure:
            self.end()
        return not self.failure

    def send(self, request: Request) -> None:
        """Send a request; if the process has ended, reading its reply reports that."""
        if self.process and self.process.stdin:
            try:
                self.process.stdin.write(request.to_line())
                self.process.stdin.flush()
            except OSError:
                pass

    def end(self) -> int:
        """End the process and the decoders that it started; returns its exit code."""
        with self.change:
            process, self.process = self.process, None
            if process is None:
                return 0
            with suppress(ProcessLookupError, PermissionError):  # it has ended
                os.killpg(process.pid, signal.SIGKILL)
            return process.wait()


def forward_lines(process: "subprocess.Popen[str]", lines: "queue.SimpleQueue[str | None]") -> None:
    """Forward the lines that a process prints; None when it has ended."""
    assert process.stdout
    for line in process.stdout:
        lines.put(line)
    lines.put(None)
