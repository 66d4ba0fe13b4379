"""Requests for other hosts than those that the server listens on are rejected (DNS rebinding)."""

import http.client
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser import served
from uncus.app.hosts import hosts_of
from uncus.data.errors import BadInput


@pytest.mark.parametrize(
    ("header", "loopback", "everywhere"),
    [
        ("localhost:8501", True, True),
        ("LOCALHOST.", True, True),
        ("127.0.0.1", True, True),
        ("[::1]:8501", True, True),
        ("scans.example", True, True),
        ("192.168.1.7:8501", False, True),
        ("[2001:db8::7]", False, True),
        (f"{socket.gethostname()}:8501", False, True),
        ("evil.example:8501", False, False),
        ("127.0.0.1.evil.example", False, False),
        ("evil.example/127.0.0.1", False, False),
        ("127.0.0.1@evil.example", False, False),
        ("evil.example@127.0.0.1", False, False),
        ("evil.example#localhost", False, False),
        ("localhost:x", False, False),
        ("localhost localhost", False, False),
        ("[::1", False, False),
        ("2130706433", False, False),
        ("", False, False),
    ],
)
def test_hosts(header: str, loopback: bool, everywhere: bool) -> None:
    for address in ("127.0.0.1", "localhost", "::1"):
        assert hosts_of(address, ["Scans.example"]).allow(header) == loopback, address
    for address in ("0.0.0.0", "::"):
        assert hosts_of(address, ["scans.example"]).allow(header) == everywhere, address


@pytest.mark.parametrize("name", ["https://a.example", "a.example:443", "a/b", "*", "", "a b"])
def test_a_name_with_more_than_a_name_is_refused(name: str) -> None:
    with pytest.raises(BadInput, match="--allow-host"):
        hosts_of("127.0.0.1", [name])


@pytest.fixture(scope="module")
def address(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    pytest.importorskip("streamlit", reason="the page needs the extra 'app'")
    files = tmp_path_factory.mktemp("files")
    with served(run, files, options=["--allow-host", "scans.example"]) as url:
        yield url.removeprefix("http://")


UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
}
SOCKET = "/_stcore/stream"


@pytest.mark.parametrize(
    "path", ["/", "/_stcore/health", SOCKET, "/files/a/scan.nii.gz", "/report/a"]
)
@pytest.mark.parametrize(
    ("hosts", "allowed"),
    [
        ([b"evil.example"], False),
        ([b"evil.example:{port}"], False),
        ([b"127.0.0.1", b"evil.example"], False),
        ([b"127.0.0.1:{port}"], True),
        ([b"localhost:{port}"], True),
        ([b"scans.example"], True),
    ],
)
def test_rebinding_is_forbidden(address: str, path: str, hosts: list[bytes], allowed: bool) -> None:
    """On pages and the websocket, whatever the Origin."""
    port = address.rpartition(":")[2].encode()
    line = http.client.HTTPConnection(address, timeout=60)
    line.putrequest("GET", path, skip_host=True)
    for host in hosts:
        line.putheader("Host", host.replace(b"{port}", port))
    if path == SOCKET:
        for name, value in UPGRADE.items():
            line.putheader(name, value)
        line.putheader("Origin", b"http://" + hosts[-1].replace(b"{port}", port))
    line.endheaders()
    status = line.getresponse().status
    line.close()
    right = {SOCKET: 101, "/": 200, "/_stcore/health": 200}.get(path, 404)
    assert status == (right if allowed else 403 if len(hosts) == 1 else 400)
