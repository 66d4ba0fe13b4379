"""The uploaded scans of every session; they are removed soon after the session has ended.

Streamlit keeps a disconnected session for a while, in case the user comes back, and checks for
expired sessions only when somebody else connects. Here a periodic cleanup ends them.
"""

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from uncus.app.job_queue import JobQueue
from uncus.app.uploaded_scan import UploadedScan

GRACE = 60.0
"""Time that a session may be disconnected (s), as during a reload."""
PATIENCE = 10.0
"""Time that its jobs go on after that (s); they are asked for again if the user comes back."""
INTERVAL = 5.0
"""Time between two cleanups (s)."""


class Sessions:
    """Scans by session."""

    def __init__(self) -> None:
        self.scans: dict[str, list[UploadedScan]] = {}
        self.browsers: dict[str, str] = {}
        self.disconnected: dict[str, float] = {}
        self.lock = threading.Lock()

    def add(self, session: str, scan: UploadedScan) -> None:
        """Add a scan to a session."""
        with self.lock:
            self.scans.setdefault(session, []).append(scan)

    def register(self, session: str, browser: str = "") -> None:
        """Register a session, which may hold uploads before there is a scan, and its browser."""
        with self.lock:
            self.scans.setdefault(session, [])
            self.browsers[session] = browser

    def take_over(self, session: str, active: Callable[[str], bool]) -> list[UploadedScan]:
        """The scans of this browser's last visit without a page, as by a reload; they are moved.

        ``active``: whether a session has a page.
        """
        with self.lock:
            browser = self.browsers.get(session)
            left = [
                name
                for name, scans in self.scans.items()
                if scans and browser and self.browsers.get(name) == browser and not active(name)
            ]
            if not left or self.scans.get(session):
                return []
            self.scans[session] = self.scans.pop(left[-1])
            return list(self.scans[session])

    def remove(self, session: str, scan: UploadedScan) -> None:
        """Remove a closed scan from its session."""
        with self.lock, suppress(KeyError, ValueError):
            self.scans[session].remove(scan)

    def find(self, token: str, browser: str | None = None) -> UploadedScan | None:
        """The scan with a token, if this browser uploaded it; None for any."""
        with self.lock:
            for session, scans in self.scans.items():
                if browser is None or self.browsers.get(session, "") == browser:
                    for scan in scans:
                        if scan.token == token:
                            return scan
        return None

    def names(self) -> list[str]:
        """All sessions."""
        with self.lock:
            return list(self.scans)

    def end(self, session: str, jobs: JobQueue | None) -> None:
        """Close all scans of a session."""
        with self.lock:
            scans = self.scans.pop(session, [])
            self.disconnected.pop(session, None)
            self.browsers.pop(session, None)
        for scan in scans:
            scan.close(jobs)

    def clean_up(
        self, runtime: Any, jobs: JobQueue | None, now: float, grace: float = GRACE
    ) -> list[str]:
        """End the sessions that have been disconnected for ``grace`` seconds; returns them.

        Jobs are canceled after `PATIENCE`, so that nobody waits for them.

        Must run on the event loop's thread, for ``runtime.close_session``.
        """
        ended = []
        for session in self.names():
            if runtime.is_active_session(session):
                self.disconnected.pop(session, None)
            elif now - self.disconnected.setdefault(session, now) >= grace:
                self.end(session, jobs)
                with suppress(Exception):  # it may have ended by itself
                    runtime.close_session(session)
                ended.append(session)
            elif jobs and now - self.disconnected[session] >= PATIENCE:
                with self.lock:
                    scans = list(self.scans.get(session, []))
                for scan in scans:
                    scan.cancel(jobs)
        return ended


SESSIONS = Sessions()
