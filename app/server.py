"""The server: Streamlit's pages, the files of visits, a guard before both, a sweep beside them."""

import asyncio
import contextlib
import gc
import importlib
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from uncus.app.access_guard import Guard
from uncus.app.job_queue import Desk
from uncus.app.run_catalog import page_of
from uncus.app.sessions import EVERY, SESSIONS
from uncus.app.settings import HEADER_VARIABLE, PASSWORD_VARIABLE, desk
from uncus.app.uploaded_scan import REGISTER, SHOWN
from uncus.app.uploads import LIMIT

HOME = Path(__file__).with_name("pages") / "home.py"


async def file(request: Any) -> Any:
    """A file of a visit; nobody finds it without the visit's token, and no cache keeps it."""
    from starlette.responses import FileResponse, PlainTextResponse

    visit = REGISTER.get(request.path_params["token"])
    name = request.path_params["name"]
    path = visit.file(name) if visit else None
    if path is None:
        return PlainTextResponse("not there", status_code=404)
    headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
    headers["Content-Security-Policy"] = "sandbox; default-src 'none'"
    kind = "application/octet-stream" if path.name.endswith(".gz") else None
    last = path.name
    if last in SHOWN:
        return FileResponse(path, headers=headers, media_type=kind)
    return FileResponse(path, headers=headers, media_type=kind, filename=last)


async def report(request: Any) -> Any:
    """The page that an evaluation or a comparison has written, shut off from ours."""
    from starlette.responses import FileResponse, PlainTextResponse

    path = page_of(request.path_params["name"])
    if path is None:
        return PlainTextResponse("not there", status_code=404)
    policy = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    headers = {"Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff"}
    return FileResponse(path, headers=headers, media_type="text/html")


@contextlib.asynccontextmanager
async def lifetime(_app: Any) -> AsyncIterator[None]:
    """Load the networks before the first visitor; sweep until the end."""
    shared = desk()
    # Streamlit collects garbage after every look of every visitor; what is loaded now is none.
    # (uncus.app.pages.map must wait for Streamlit's runtime, with which it registers the viewer.)
    for name in ("answer", "card", "runs"):
        importlib.import_module(f"uncus.app.pages.{name}")
    gc.collect()
    gc.freeze()
    task = asyncio.create_task(sweep(shared))
    yield
    task.cancel()
    for session in SESSIONS.known():
        SESSIONS.end(session, None)
    shared.close()


async def sweep(shared: Desk) -> None:
    """End what sessions have left, every few seconds."""
    from streamlit.runtime import Runtime

    while True:
        await asyncio.sleep(EVERY)
        if Runtime.exists():
            SESSIONS.sweep(Runtime.instance(), shared, time.monotonic())


def settings(address: str, port: int) -> dict[str, Any]:
    """Streamlit's: nothing is told to strangers, nor to streamlit's makers."""
    return {
        "server.address": address,
        "server.port": port,
        "server.headless": True,
        "server.enableXsrfProtection": True,
        "server.enableCORS": True,
        "server.maxUploadSize": LIMIT,
        "server.fileWatcherType": "none",
        "server.disconnectedSessionTTL": 60,
        "browser.gatherUsageStats": False,
        "client.showErrorDetails": "none",
        "client.toolbarMode": "minimal",
        "logger.level": "error",
        "theme.primaryColor": "#0b7285",
        "theme.dark.primaryColor": "#3fb6cc",
    }


def main(address: str, port: int) -> None:
    """Serve until interrupted."""
    import streamlit as st
    from starlette.middleware import Middleware
    from starlette.routing import Route

    guard = Middleware(
        Guard,
        password=os.environ.get(PASSWORD_VARIABLE, ""),
        header=os.environ.get(HEADER_VARIABLE, ""),
    )
    routes = [Route("/files/{token}/{name:path}", file), Route("/report/{name:path}", report)]
    app = st.App(HOME, routes=routes, middleware=[guard], lifespan=lifetime)
    app.run(config=settings(address, port))
