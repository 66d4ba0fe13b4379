"""Who may come in, how much they may bring, and what their browser may do with it.

It stands before every request, websockets included. Without a password and without a header's
name everybody who reaches the port comes in: the server listens on this machine alone by default.
"""

import asyncio
import hmac
import html
import secrets
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import parse_qs

from uncus import NOTICE

OPEN = ("/_stcore/health",)
"""Paths that a health check asks for without a password."""
COOKIE = "uncus"
MOST_UPLOADS = 4_000
"""Files of all sessions that may lie in memory until they are taken to disk."""
MOST_BYTES = 4 << 30
WAIT = 1.0
"""Seconds that a wrong password costs."""
HEADERS = {
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"SAMEORIGIN",
    b"referrer-policy": b"no-referrer",
    b"content-security-policy": (
        b"default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
        b"style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
        b"font-src 'self' data:; connect-src 'self' data: blob: ws: wss:; "
        b"worker-src 'self' blob:; frame-src 'self' blob: data:; frame-ancestors 'self'"
    ),
}
FORM = """<!doctype html><html lang="en"><meta charset="utf-8"><title>uncus</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><style>
:root{color-scheme:light dark}body{font:16px/1.5 system-ui,sans-serif;max-width:22rem;
margin:18vh auto;padding:0 1.5rem}input,button{font:inherit;padding:.4rem .6rem;width:100%%;
box-sizing:border-box;margin:.3rem 0}p.wrong{color:#c0392b}</style><h1>uncus</h1>%s
<form method="post"><label>Password<input name="password" type="password" autofocus
autocomplete="current-password"></label><button>Open</button></form><p>%s</p></html>"""


class Guard:
    """ASGI middleware.

    Parameters
    ----------
    password: what visitors must give; "" for none.
    header: name of the header by which a reverse proxy names who has logged in; a request without
        it is refused. "" for none. The proxy must remove the header from what comes from outside.
    """

    def __init__(self, app: Any, password: str = "", header: str = "") -> None:
        self.app, self.password = app, password
        self.header = header.lower().encode()
        self.key = secrets.token_urlsafe(32)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Let a request through, or answer it here."""
        if scope["type"] not in {"http", "websocket"} or scope["path"].endswith(OPEN):
            await self.app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        if self.header and not headers.get(self.header):
            await refuse(scope, receive, send, 401, "come through the proxy that knows you")
        elif self.password and not self.knows(headers):
            await self.ask(scope, receive, send)
        elif "/_stcore/upload_file/" in scope["path"] and scope["method"] == "PUT" and crowded():
            await refuse(scope, receive, send, 413, "too much is being uploaded; try again later")
        else:
            await self.app(scope, receive, sealed(send))

    def knows(self, headers: dict[bytes, bytes]) -> bool:
        """Whether the visitor has given the password before."""
        cookies = SimpleCookie(headers.get(b"cookie", b"").decode("latin-1"))
        found = cookies.get(COOKIE)
        return found is not None and hmac.compare_digest(found.value.encode(), self.key.encode())

    async def ask(self, scope: Any, receive: Any, send: Any) -> None:
        """The form; a right password gets a cookie that lives as long as the server."""
        from starlette.requests import Request
        from starlette.responses import HTMLResponse, RedirectResponse

        if scope["type"] == "websocket":
            await refuse(scope, receive, send, 401, "no password")
            return
        wrong = ""
        if scope["method"] == "POST":
            given = parse_qs(await small_body(Request(scope, receive))).get("password", [""])[0]
            if hmac.compare_digest(given.encode(), self.password.encode()):
                come = RedirectResponse(scope.get("root_path", "") + scope["path"], 303)
                secure = scope["scheme"] == "https"
                come.set_cookie(COOKIE, self.key, httponly=True, samesite="strict", secure=secure)
                await come(scope, receive, send)
                return
            await asyncio.sleep(WAIT)
            wrong = "<p class=wrong>That is not the password.</p>"
        page = HTMLResponse(FORM % (wrong, html.escape(NOTICE)), 401)
        await page(scope, receive, sealed(send))


async def small_body(request: Any) -> str:
    """The first kilobytes of a form."""
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > 4096:
            break
    return body[:4096].decode("utf-8", "replace")


async def refuse(scope: Any, receive: Any, send: Any, status: int, why: str) -> None:
    """One line instead of the page."""
    from starlette.responses import PlainTextResponse

    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": why})
        return
    await PlainTextResponse(why + "\n", status)(scope, receive, send)


def sealed(send: Any) -> Any:
    """Add the headers that bind the browser."""

    async def inner(message: Any) -> None:
        if message["type"] == "http.response.start":
            there = {name.lower() for name, _ in message["headers"]}
            more = [(name, value) for name, value in HEADERS.items() if name not in there]
            message = {**message, "headers": [*message["headers"], *more]}
        await send(message)

    return inner


def crowded() -> bool:
    """Whether the uploads that lie in memory are too many."""
    from streamlit.runtime import Runtime

    if not Runtime.exists():
        return False
    keeper: Any = Runtime.instance().uploaded_file_mgr
    found = [record for files in list(keeper.file_storage.values()) for record in files.values()]
    return len(found) >= MOST_UPLOADS or sum(len(record.data) for record in found) > MOST_BYTES
