"""The names under which the server is reached.

A browser that resolves an attacker's name to this machine (DNS rebinding) lets the attacker's page
read what the server sends; such requests have the attacker's name in their Host header.
"""

import ipaddress
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from uncus.data.errors import BadInput

THIS_MACHINE = ("localhost", "127.0.0.1", "::1")
EVERY_ADDRESS = ("0.0.0.0", "::")


@dataclass(frozen=True)
class Hosts:
    """Allowed hosts: ``names``, and with ``any_address`` every IP address, which is no name."""

    names: tuple[str, ...]
    any_address: bool = False

    def allow(self, header: str) -> bool:
        """Whether a Host header has an allowed host; its port does not matter."""
        host = host_of(header)
        return host in self.names or (self.any_address and is_address(host))


def hosts_of(address: str, more: Sequence[str] = ()) -> Hosts:
    """The hosts of a server that listens on ``address``; ``more`` are the names of proxies.

    On every address (0.0.0.0) the server does not know its addresses: in a container they are the
    host's.

    Raises
    ------
    BadInput: one of ``more`` is not a host name alone.
    """
    for name in more:
        if not re.fullmatch(r"[\w.:-]+", name) or host_of(netloc(name)) != name.lower():
            raise BadInput(f"--allow-host {name}", "is not a host name", "give it as app.example")
    names = [*THIS_MACHINE, address.lower(), *(name.lower() for name in more)]
    if not is_loopback(address):
        names.append(socket.gethostname().lower())
    return Hosts(tuple(dict.fromkeys(names)), any_address=address in EVERY_ADDRESS)


def host_of(header: str) -> str:
    """The host of a Host header in lower case, without port and final dot; "" if malformed."""
    try:
        parts = urlsplit(f"//{header}")
        _ = parts.port  # raises if it is not a number
        malformed = parts.netloc != header or "@" in header
    except ValueError:
        return ""
    return "" if malformed else (parts.hostname or "").removesuffix(".")


def netloc(host: str) -> str:
    """A host as in a URL: IPv6 addresses in brackets."""
    return f"[{host}]" if ":" in host else host


def is_address(host: str) -> bool:
    """Whether a host is an IP address."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def is_loopback(address: str) -> bool:
    """Whether only this machine reaches a server on ``address``."""
    try:
        found = socket.getaddrinfo(address, None, type=socket.SOCK_STREAM)
    except OSError:
        return False
    return all(ipaddress.ip_address(target[0]).is_loopback for *_, target in found)
