"""The queue before the networks: one scan is worked on at a time, the others wait in line.

No streamlit here, and no networks: they are in the process of uncus.app.worker, which may crash or
hang without harm to the page. A job that takes too long ends with its process; the next gets a new
one.
"""

import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

LINE = 24
"""Jobs that may wait."""
SECONDS = 600.0
"""Longest that one job may take."""
START = 600.0
"""Longest that the networks may take to load (s)."""


class Busy(ValueError):  # noqa: N818 - it is the desk's state
    """No place is left in the line."""


@dataclass(eq=False)
class Job:
    """A request, and what has become of it.

    ``replies`` holds what the worker said, ``step`` what it does now; ``refused`` is why there is
    no answer, "" otherwise. ``seconds`` is how long it took, without the wait.
    """

    request: dict[str, Any]
    step: str = "Waiting"
    replies: dict[str, Any] = field(default_factory=dict)
    refused: str = ""
    over: bool = False
    seconds: float = 0.0

    def take(self, reply: dict[str, Any]) -> None:
        """Note one reply."""
        self.step = reply.get("step", self.step)
        self.replies |= reply
        self.refused = reply.get("refused", self.refused)


class Desk:
    """The line, and the process that answers; ``run`` is loaded at once.

    ``methods`` is name -> summary of each kind of map, empty until the networks are loaded;
    ``fault`` is why they cannot be, "" otherwise.
    """

    def __init__(self, run: Path, line: int = LINE, seconds: float = SECONDS) -> None:
        self.run, self.limit, self.seconds = run, line, seconds
        self.methods: dict[str, str] = {}
        self.fault = ""
        self.waiting: deque[Job] = deque()
        self.working: Job | None = None
        self.forgotten: deque[str] = deque()
        self.closed = False
        self.change = threading.Condition()
        self.process: subprocess.Popen[str] | None = None
        self.replies: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self.thread = threading.Thread(target=self.work, daemon=True, name="uncus-desk")
        self.thread.start()

    def submit(self, job: Job) -> None:
        """Put a job in the line; raises Busy where that is full."""
        with self.change:
            if len(self.waiting) >= self.limit:
                raise Busy(f"{len(self.waiting)} scans are waiting already; try again in a while")
            self.waiting.append(job)
            self.change.notify_all()

    def ahead(self, job: Job) -> int:
        """How many jobs come before this one, the one that is worked on included."""
        with self.change:
            if job is self.working or job not in self.waiting:
                return 0
            return self.waiting.index(job) + (self.working is not None)

    def length(self) -> int:
        """Jobs that wait or are worked on."""
        with self.change:
            return len(self.waiting) + (self.working is not None)

    def leave(self, token: str) -> None:
        """Drop a visit's waiting jobs, and what the worker keeps of its scan."""
        with self.change:
            for job in [job for job in self.waiting if job.request["token"] == token]:
                self.waiting.remove(job)
                job.refused, job.over = "taken back", True
            self.forgotten.append(token)
            self.change.notify_all()

    def close(self) -> None:
        """End the process and the thread."""
        with self.change:
            self.closed = True
            self.change.notify_all()
        self.end()
        self.thread.join(10)

    # The thread's side

    def work(self) -> None:
        """Take jobs, one after another."""
        self.begin()
        while not self.closed:
            with self.change:
                self.change.wait_for(lambda: self.waiting or self.forgotten or self.closed)
                if self.closed:
                    break
                tokens, self.forgotten = self.forgotten, deque()
                job = self.working = self.waiting.popleft() if self.waiting else None
            for token in tokens:
                self.send({"do": "forget", "token": token})
            if job:
                self.do(job)
                with self.change:
                    self.working = None
                    job.over = True
                    self.change.notify_all()

    def do(self, job: Job) -> None:
        """One job, to its end or the process's."""
        start = time.monotonic()
        if not self.process and not self.begin():
            job.refused = self.fault
            return
        self.send(job.request)
        while "over" not in job.replies:
            try:
                line = self.replies.get(timeout=max(0.1, start + self.seconds - time.monotonic()))
            except queue.Empty:
                job.refused = f"it takes more than {self.seconds:.0f} s; it was given up"
                self.end()
                break
            if line is None:
                code = self.end()
                how = f"signal {-code}" if code < 0 else f"exit code {code}"
                job.refused = f"it makes the reader crash ({how}); export the scan again"
                break
            job.take(json.loads(line))
        job.seconds = time.monotonic() - start

    def begin(self) -> bool:
        """Start the process and wait until the networks are loaded."""
        self.replies = queue.SimpleQueue()
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "uncus.app.worker", str(self.run)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=None if os.environ.get("UNCUS_TRACEBACK") else subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
        )
        self.process = process
        threading.Thread(target=listen, args=(process, self.replies), daemon=True).start()
        try:
            first = json.loads(self.replies.get(timeout=START) or '{"fault": "they do not start"}')
        except queue.Empty:
            first = {"fault": f"loading takes more than {START:.0f} s"}
        self.fault = first.get("fault", "")
        self.methods = first.get("methods", self.methods)
        if self.fault:
            self.end()
        return not self.fault

    def send(self, request: dict[str, Any]) -> None:
        """Tell the process; one that is gone is noticed where its reply is awaited."""
        if self.process and self.process.stdin:
            try:
                self.process.stdin.write(json.dumps(request) + "\n")
                self.process.stdin.flush()
            except OSError:
                pass

    def end(self) -> int:
        """End the process; its exit code."""
        process, self.process = self.process, None
        if process is None:
            return 0
        process.kill() if process.poll() is None else None
        return process.wait()


def listen(process: "subprocess.Popen[str]", replies: "queue.SimpleQueue[str | None]") -> None:
    """Pass on a process's lines; None when it has ended."""
    assert process.stdout
    for line in process.stdout:
        replies.put(line)
    replies.put(None)
