"""What a session leaves is removed soon after it has ended.

Streamlit keeps a session that lost its connection for a while, for the visitor may come back, and
looks at what has expired only when somebody else comes. Here a sweep ends it.
"""

import threading
from contextlib import suppress
from typing import Any

from uncus.app.job_queue import Desk
from uncus.app.uploaded_scan import Visit

GRACE = 60.0
"""Seconds that a session may be without a connection: a reload, a tunnel."""
EVERY = 5.0


class Sessions:
    """Which session holds which visits."""

    def __init__(self) -> None:
        self.held: dict[str, list[Visit]] = {}
        self.gone: dict[str, float] = {}
        self.lock = threading.Lock()

    def hold(self, session: str, visit: Visit) -> None:
        """A visit belongs to a session."""
        with self.lock:
            self.held.setdefault(session, []).append(visit)

    def seen(self, session: str) -> None:
        """A session that may have uploads of its own, if no visit yet."""
        with self.lock:
            self.held.setdefault(session, [])

    def drop(self, session: str, visit: Visit) -> None:
        """A visit has ended before its session."""
        with self.lock, suppress(KeyError, ValueError):
            self.held[session].remove(visit)

    def known(self) -> list[str]:
        """Sessions that have been seen."""
        with self.lock:
            return list(self.held)

    def end(self, session: str, desk: Desk | None) -> None:
        """Close all visits of a session."""
        with self.lock:
            visits = self.held.pop(session, [])
            self.gone.pop(session, None)
        for visit in visits:
            visit.close(desk)

    def sweep(self, runtime: Any, desk: Desk | None, now: float, grace: float = GRACE) -> list[str]:
        """End the sessions without a connection for longer than ``grace`` (s); returns them.

        On the event loop's thread, as ``runtime.close_session`` wants it.
        """
        ended = []
        for session in self.known():
            if runtime.is_active_session(session):
                self.gone.pop(session, None)
            elif now - self.gone.setdefault(session, now) >= grace:
                self.end(session, desk)
                with suppress(Exception):  # it may have ended by itself
                    runtime.close_session(session)
                ended.append(session)
        return ended


SESSIONS = Sessions()
