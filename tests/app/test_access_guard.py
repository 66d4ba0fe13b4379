"""Who comes in, and how much they may bring."""

from concurrent.futures import ThreadPoolExecutor
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
from uncus.app.logins import FREE


async def hello(_: Any) -> PlainTextResponse:
    return PlainTextResponse("hello")


async def talk(socket: Any) -> None:
    await socket.accept()
    await socket.send_text("hello")
    await socket.close()


async def echo(socket: Any) -> None:
    await socket.accept()
    async for text in socket.iter_text():
        await socket.send_text(text)
    await socket.close()


def client(**options: str) -> TestClient:
    routes = [
        Route("/", hello),
        Route("/_stcore/health", hello),
        Route("/_stcore/metrics", hello),
        Route("/report/_stcore/health", hello),
        Route("/_stcore/upload_file/a/b", hello, methods=["PUT"]),
        WebSocketRoute("/_stcore/stream", talk),
        WebSocketRoute("/_stcore/echo", echo),
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
    assert "default-src 'self'" in policy and "http" not in policy and "eval" not in policy


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


def test_the_health_check_alone_is_open() -> None:
    page = client(password="right")
    assert page.get("/_stcore/health").status_code == 200
    for path in ("/report/_stcore/health", "/_stcore/healthy", "//_stcore/health"):
        assert page.get(f"http://testserver{path}").status_code == 401, path
    page = client()
    assert page.get("/_stcore/metrics").status_code == 404
    assert page.get("/_stcore/agent/mcp").status_code == 404


def test_a_browser_is_told_from_others() -> None:
    page = client()
    cookie = page.get("/").headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=Lax" in cookie and "Secure" not in cookie
    assert "set-cookie" not in page.get("/").headers
    other = client()
    assert "set-cookie" not in other.get("/", headers={"Sec-Fetch-Dest": "image"}).headers
    assert "Secure" in other.get("https://testserver/").headers["set-cookie"]
    assert page.cookies[access_guard.BROWSER] != other.cookies[access_guard.BROWSER]


def test_guesses_in_parallel_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_guard, "WAIT", 0.2)
    page = client(password="right")

    def guess(number: int) -> Any:
        return page.post("/", data={"password": f"guess {number}"})

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(guess, range(40)))
    looked_at = [answer for answer in answers if "Wrong password" in answer.text]
    assert len(looked_at) == FREE
    late = page.post("/", data={"password": "right"})
    assert late.status_code == 429 and int(late.headers["retry-after"]) >= 1
    assert "Too many wrong passwords" in late.text


def test_sessions_are_apart_and_end() -> None:
    pages = [client(password="right")]
    pages.append(TestClient(pages[0].app, follow_redirects=False))
    for page in pages:
        answer = page.post("/", data={"password": "right"})
        assert "Max-Age" in answer.headers["set-cookie"]
    one, other = (page.cookies[access_guard.COOKIE] for page in pages)
    assert one != other
    with pages[0].websocket_connect("/_stcore/echo") as socket:
        socket.send_text("here")
        assert socket.receive_text() == "here"
        assert "password" in pages[0].get("/logout").text
        assert access_guard.COOKIE not in pages[0].cookies
        socket.send_text("still here")
        with pytest.raises(WebSocketDisconnect):
            socket.receive_text()
    pages[0].cookies.set(access_guard.COOKIE, one)
    assert pages[0].get("/").status_code == 401
    assert pages[1].get("/").text == "hello"
    again = pages[0].post("/logout", data={"password": "right"})
    assert again.headers["location"] == "/"


def test_a_login_leads_to_this_server_alone() -> None:
    page = client(password="right")
    answer = page.post("http://testserver//evil.example/a", data={"password": "right"})
    assert answer.headers["location"] == "/evil.example/a"


def test_cookies_of_other_servers_on_this_machine_do_not_matter() -> None:
    page = client(password="right")
    token = page.post("/", data={"password": "right"}).cookies[access_guard.COOKIE]
    page.cookies.clear()
    cookies = f'a={{"b": "c, d"}}; e; {access_guard.COOKIE}={token}'
    assert page.get("/", headers={"Cookie": cookies}).text == "hello"


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
