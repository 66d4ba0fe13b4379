"""Access control, upload limits and security headers, for every request, websockets included.

Without a password and a user header anyone who can reach the port has access; by default the
server listens on this machine only.
"""

import asyncio
import html
import math
import secrets
from typing import Any
from urllib.parse import parse_qs

from uncus import NOTICE
from uncus.app.hosts import Hosts
from uncus.app.logins import LIFETIME, Logins

OPEN = ("/_stcore/health",)
"""Paths of health checks, which need no password."""
CLOSED = ("/_stcore/metrics", "/_stcore/agent")
"""Paths of Streamlit's own that nobody needs: sizes of sessions and caches, and remote control."""
BROWSER = "uncus-browser"
"""Cookie that tells browsers apart; a scan's files are sent to the browser that uploaded it."""
COOKIE = "uncus"
LOGOUT = "/logout"
"""Path that ends the session of a user who gave the password."""
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
        b"default-src 'self'; script-src 'self' 'unsafe-inline' blob:; "
        b"style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
        b"font-src 'self' data:; connect-src 'self' data: blob: ws: wss:; "
        b"worker-src 'self' blob:; frame-src 'self' blob: data:; frame-ancestors 'self'; "
        b"object-src 'none'; base-uri 'self'; form-action 'self'"
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
        self.app, self.hosts = app, hosts
        self.header = header.lower().encode()
        self.logins = Logins(password) if password else None

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
        if scope["path"].startswith(CLOSED):
            await reject(scope, receive, send, 404, "not found")
            return
        headers = dict(scope["headers"])
        if self.header and not headers.get(self.header):
            await reject(scope, receive, send, 401, "log in through the proxy")
        elif self.logins and not self.logins.logged_in(token := cookie(scope, COOKIE)):
            await self.ask(scope, receive, send, self.logins)
        elif self.logins and scope["path"] == LOGOUT:
            self.logins.logout(token)
            await self.ask(scope, receive, send, self.logins)
        elif self.logins and scope["type"] == "websocket":
            await self.app(scope, while_logged_in(receive, self.logins, token), send)
        elif "/_stcore/upload_file/" in scope["path"] and scope["method"] == "PUT" and crowded():
            await reject(scope, receive, send, 413, "too much is being uploaded; try again later")
        else:
            await self.app(scope, receive, sealed(send, new_browser(scope)))

    async def ask(self, scope: Any, receive: Any, send: Any, logins: Logins) -> None:
        """The password form; the correct password gets a cookie, valid for a working day."""
        from starlette.requests import Request
        from starlette.responses import HTMLResponse, RedirectResponse

        if scope["type"] == "websocket":
            await reject(scope, receive, send, 401, "no password")
            return
        address = (scope.get("client") or [""])[0]
        said, status, more = "", 401, {}
        if scope["method"] == "POST":
            given = parse_qs(await small_body(Request(scope, receive))).get("password", [""])[0]
            if not (wait := logins.wait(address)):
                if token := logins.login(address, given):
                    path = "/" if scope["path"] == LOGOUT else scope["path"]
                    response = RedirectResponse("/" + path.lstrip("/"), 303)
                    secure = scope["scheme"] == "https"
                    response.set_cookie(
                        COOKIE,
                        token,
                        int(LIFETIME),
                        httponly=True,
                        samesite="strict",
                        secure=secure,
                    )
                    await response(scope, receive, send)
                    return
                await asyncio.sleep(WAIT)
                said = "Wrong password."
            else:
                said = f"Too many wrong passwords; try again in {math.ceil(wait)} s."
                status, more = 429, {"Retry-After": str(math.ceil(wait))}
        form = FORM % (said and f"<p class=wrong>{said}</p>", html.escape(NOTICE))
        page = HTMLResponse(form, status, {"Cache-Control": "no-store", **more})
        if cookie(scope, COOKIE):
            page.delete_cookie(COOKIE)  # its session has ended
        await page(scope, receive, sealed(send))


def cookie(scope: Any, name: str) -> str:
    """The value of a request's cookie; "" without it."""
    from starlette.requests import HTTPConnection

    return HTTPConnection(scope).cookies.get(name, "")


def while_logged_in(receive: Any, logins: Logins, token: str) -> Any:
    """Messages of a websocket until its session has ended."""

    async def inner() -> Any:
        message = await receive()
        if logins.logged_in(token):
            return message
        return {"type": "websocket.disconnect", "code": 1008}

    return inner


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


def new_browser(scope: Any) -> tuple[tuple[bytes, bytes], ...]:
    """The cookie for a browser that opens a page and has none."""
    if scope["type"] != "http" or cookie(scope, BROWSER):
        return ()
    if dict(scope["headers"]).get(b"sec-fetch-dest", b"document") != b"document":
        return ()
    secure = "; Secure" * (scope["scheme"] == "https")
    value = f"{BROWSER}={secrets.token_urlsafe(24)}; HttpOnly; Path=/; SameSite=Lax{secure}"
    return ((b"set-cookie", value.encode()),)


def sealed(send: Any, more: tuple[tuple[bytes, bytes], ...] = ()) -> Any:
    """Add the security headers to a response, and ``more``."""

    async def inner(message: Any) -> None:
        if message["type"] == "http.response.start":
            there = {name.lower() for name, _ in message["headers"]}
            ours = [(name, value) for name, value in HEADERS.items() if name not in there]
            message = {**message, "headers": [*message["headers"], *ours, *more]}
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
