"""Access control, upload limits and security headers, for every request, websockets included.

Without a password and a user header anyone who can reach the port has access; by default the
server listens on this machine only.
"""

import asyncio
import hmac
import html
import secrets
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import parse_qs

from uncus import NOTICE
from uncus.app.hosts import Hosts

OPEN = ("/_stcore/health",)
"""Paths of health checks, which need no password."""
COOKIE = "uncus"
MAX_UPLOADS = 4_000
"""Files in memory, of all sessions, before they are written to disk."""
MAX_BYTES = 4 << 30
WAIT = 1.0
"""Delay after a wrong password (s)."""
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
    password: the password; "" for none.
    header: the header in which a reverse proxy passes the user's name; requests without it are
        rejected. "" for none. The proxy must remove the header from external requests.
    hosts: requests for any other host are rejected; None for no check.
    """

    def __init__(
        self, app: Any, password: str = "", header: str = "", hosts: Hosts | None = None
    ) -> None:
        self.app, self.password, self.hosts = app, password, hosts
        self.header = header.lower().encode()
        self.key = secrets.token_urlsafe(32)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass a request on, or reject it."""
        if scope["type"] not in {"http", "websocket"}:
            await self.app(scope, receive, send)
            return
        named = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
        if self.hosts and not (len(named) == 1 and self.hosts.allow(named[0])):
            why = "unknown host; start uncus app with --allow-host NAME to allow it"
            await reject(scope, receive, send, 403, why)
            return
        if scope["path"] in OPEN:
            await self.app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        if self.header and not headers.get(self.header):
            await reject(scope, receive, send, 401, "log in through the proxy")
        elif self.password and not self.authorized(headers):
            await self.ask(scope, receive, send)
        elif "/_stcore/upload_file/" in scope["path"] and scope["method"] == "PUT" and crowded():
            await reject(scope, receive, send, 413, "too much is being uploaded; try again later")
        else:
            await self.app(scope, receive, sealed(send))

    def authorized(self, headers: dict[bytes, bytes]) -> bool:
        """Whether the request has the cookie of the password."""
        cookies = SimpleCookie(headers.get(b"cookie", b"").decode("latin-1"))
        cookie = cookies.get(COOKIE)
        return cookie is not None and hmac.compare_digest(cookie.value.encode(), self.key.encode())

    async def ask(self, scope: Any, receive: Any, send: Any) -> None:
        """The password form; the correct password gets a cookie, valid until the server ends."""
        from starlette.requests import Request
        from starlette.responses import HTMLResponse, RedirectResponse

        if scope["type"] == "websocket":
            await reject(scope, receive, send, 401, "no password")
            return
        wrong = ""
        if scope["method"] == "POST":
            given = parse_qs(await small_body(Request(scope, receive))).get("password", [""])[0]
            if hmac.compare_digest(given.encode(), self.password.encode()):
                response = RedirectResponse(scope.get("root_path", "") + scope["path"], 303)
                secure = scope["scheme"] == "https"
                response.set_cookie(
                    COOKIE, self.key, httponly=True, samesite="strict", secure=secure
                )
                await response(scope, receive, send)
                return
            await asyncio.sleep(WAIT)
            wrong = "<p class=wrong>Wrong password.</p>"
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


async def reject(scope: Any, receive: Any, send: Any, status: int, why: str) -> None:
    """Reject a request with one line."""
    from starlette.responses import PlainTextResponse

    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": why})
        return
    await PlainTextResponse(why + "\n", status)(scope, receive, send)


def sealed(send: Any) -> Any:
    """Add the security headers to a response."""

    async def inner(message: Any) -> None:
        if message["type"] == "http.response.start":
            there = {name.lower() for name, _ in message["headers"]}
            more = [(name, value) for name, value in HEADERS.items() if name not in there]
            message = {**message, "headers": [*message["headers"], *more]}
        await send(message)

    return inner


def crowded() -> bool:
    """Whether too many uploads are in memory."""
    from streamlit.runtime import Runtime

    if not Runtime.exists():
        return False
    manager: Any = Runtime.instance().uploaded_file_mgr
    records = [record for files in list(manager.file_storage.values()) for record in files.values()]
    return len(records) >= MAX_UPLOADS or sum(len(record.data) for record in records) > MAX_BYTES
