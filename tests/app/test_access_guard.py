"""Who comes in, and how much they may bring."""

from typing import Any

import pytest

pytest.importorskip("starlette", reason="the page needs the extra 'app'")

from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from uncus.app import access_guard
from uncus.app.access_guard import Guard


async def hello(_: Any) -> PlainTextResponse:
    return PlainTextResponse("hello")


async def talk(socket: Any) -> None:
    await socket.accept()
    await socket.send_text("hello")
    await socket.close()


def client(**options: str) -> TestClient:
    routes = [
        Route("/", hello),
        Route("/_stcore/health", hello),
        Route("/_stcore/upload_file/a/b", hello, methods=["PUT"]),
        WebSocketRoute("/_stcore/stream", talk),
    ]
    return TestClient(Guard(Starlette(routes=routes), **options), follow_redirects=False)


def said(page: TestClient) -> str:
    with page.websocket_connect("/_stcore/stream") as socket:
        return str(socket.receive_text())


def test_open_by_default_and_sealed() -> None:
    page = client()
    found = page.get("/")
    assert found.text == "hello" and said(page) == "hello"
    assert found.headers["x-content-type-options"] == "nosniff"
    policy = found.headers["content-security-policy"]
    assert "default-src 'self'" in policy and "http" not in policy


def test_a_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_guard, "WAIT", 0.0)
    page = client(password="hüsh")
    assert page.get("/").status_code == 401 and "password" in page.get("/").text
    assert page.get("/_stcore/health").text == "hello"
    with pytest.raises(WebSocketDisconnect):
        said(page)
    wrong = page.post("/", data={"password": "hush"})
    assert wrong.status_code == 401 and "Wrong password" in wrong.text
    assert page.post("/", content=b"password=" + b"x" * 10_000).status_code == 401
    page.cookies.set(access_guard.COOKIE, "guess")
    assert page.get("/").status_code == 401
    page.cookies.clear()
    right = page.post("/", data={"password": "hüsh"})
    assert right.status_code == 303
    assert "HttpOnly" in right.headers["set-cookie"] and "strict" in right.headers["set-cookie"]
    assert page.get("/").text == "hello" and said(page) == "hello"


def test_a_header_of_a_proxy() -> None:
    page = client(header="X-Remote-User")
    assert page.get("/").status_code == 401 and page.get("/_stcore/health").status_code == 200
    assert page.get("/", headers={"X-Remote-User": ""}).status_code == 401
    assert page.get("/", headers={"X-Remote-User": "ada"}).text == "hello"


def test_too_many_uploads(monkeypatch: pytest.MonkeyPatch) -> None:
    page = client()
    assert page.put("/_stcore/upload_file/a/b").status_code == 200
    monkeypatch.setattr(access_guard, "crowded", lambda: True)
    assert page.put("/_stcore/upload_file/a/b").status_code == 413
    assert page.get("/").status_code == 200
