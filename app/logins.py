"""Logins by password: limits on guessing, and sessions that end.

A wrong password costs its address more and more time; addresses together have a number of wrong
passwords per minute, so that many of them guess no faster. Users who are logged in notice neither.
"""

import hmac
import ipaddress
import secrets
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

LIFETIME = 12 * 3600.0
"""Time after which a user must log in again (s)."""
FREE = 5
"""Wrong passwords of one address before it has to wait."""
FIRST_LOCK, LONGEST_LOCK = 10.0, 3600.0
"""Waiting time after the first wrong password beyond these, doubled by each other one (s)."""
PER_MINUTE = 20
"""Wrong passwords of all addresses in a minute."""
FORGET = 24 * 3600.0
"""Time after which an address's wrong passwords are forgotten (s)."""
MAX_ADDRESSES = 10_000
"""Addresses with wrong passwords that are remembered."""


@dataclass
class Wrong:
    """The wrong passwords of an address: how many, when the last, and until when it must wait."""

    count: int = 0
    last: float = 0.0
    locked: float = 0.0


class Logins:
    """Checks passwords and knows who is logged in; ``clock`` in s."""

    def __init__(self, password: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.password, self.clock = password, clock
        self.sessions: dict[str, float] = {}
        self.wrong: dict[str, Wrong] = {}
        self.recent: deque[float] = deque()

    def wait(self, address: str) -> float:
        """How long an address must wait before its next password is looked at (s)."""
        now = self.clock()
        while self.recent and self.recent[0] <= now - 60:
            self.recent.popleft()
        everybody = self.recent[0] + 60 - now if len(self.recent) >= PER_MINUTE else 0.0
        own = self.wrong.get(group(address))
        return max(0.0, everybody, own.locked - now if own else 0.0)

    def login(self, address: str, given: str) -> str:
        """A new session's secret; "" for a wrong password, and while the address must wait."""
        if self.wait(address) > 0:
            return ""
        now, key = self.clock(), group(address)
        if hmac.compare_digest(given.encode(), self.password.encode()):
            self.wrong.pop(key, None)
            self.sessions = {token: end for token, end in self.sessions.items() if end > now}
            token = secrets.token_urlsafe(32)
            self.sessions[token] = now + LIFETIME
            return token
        self.recent.append(now)
        entry = self.wrong.pop(key, Wrong())
        if now - entry.last > FORGET:
            entry = Wrong()
        entry.count, entry.last = entry.count + 1, now
        if entry.count >= FREE:
            doublings = min(entry.count - FREE, 20)
            entry.locked = now + min(FIRST_LOCK * 2**doublings, LONGEST_LOCK)
        self.wrong[key] = entry  # the latest is last
        while len(self.wrong) > MAX_ADDRESSES:
            del self.wrong[next(iter(self.wrong))]
        return ""

    def logged_in(self, token: str) -> bool:
        """Whether a session's secret is valid."""
        return self.sessions.get(token, 0.0) > self.clock()

    def logout(self, token: str) -> None:
        """End a session."""
        self.sessions.pop(token, None)


def group(address: str) -> str:
    """What counts as one address: an IPv4 address, or a /64 network, which one user has."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    if found.ipv4_mapped:
        return str(found.ipv4_mapped)
    return str(ipaddress.ip_network((found, 64), strict=False))
