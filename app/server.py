"""The server: Streamlit's pages, files and reports behind the access guard, periodic cleanup."""

import asyncio
import contextlib
import gc
import importlib
import os
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from uncus.app.access_guard import BROWSER, Guard
from uncus.app.hosts import Hosts, hosts_of
from uncus.app.job_queue import JobQueue
from uncus.app.run_catalog import report_page
from uncus.app.sessions import INTERVAL, SESSIONS
from uncus.app.settings import HEADER_VARIABLE, job_queue
from uncus.app.uploaded_scan import VIEWER_FILES
from uncus.app.uploads import LIMIT

HOME = Path(__file__).with_name("pages") / "home.py"


async def file(request: Any) -> Any:
    """A file of a scan, by the scan's secret token, for its own browser; never cached."""
    from starlette.responses import FileResponse, PlainTextResponse

    scan = SESSIONS.find(request.path_params["token"], request.cookies.get(BROWSER, ""))
    name = request.path_params["name"]
    path = scan.file(name) if scan else None
    if path is None:
        return PlainTextResponse("not found", status_code=404)
    headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
    headers["Content-Security-Policy"] = "sandbox; default-src 'none'"
    kind = "application/octet-stream" if path.name.endswith(".gz") else None
    last = path.name
    if last in VIEWER_FILES:
        return FileResponse(path, headers=headers, media_type=kind)
    return FileResponse(path, headers=headers, media_type=kind, filename=last)


async def report(request: Any) -> Any:
    """The report of an evaluation or a comparison, sandboxed."""
    from starlette.responses import FileResponse, PlainTextResponse

    path = report_page(request.path_params["name"])
    if path is None:
        return PlainTextResponse("not found", status_code=404)
    policy = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    headers = {"Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff"}
    return FileResponse(path, headers=headers, media_type="text/html")


@contextlib.asynccontextmanager
async def lifetime(_app: Any) -> AsyncIterator[None]:
    """Load the networks before the first user; clean up until the end."""
    jobs = job_queue()
    # Streamlit collects garbage after every rerun; what is loaded now stays.
    # (uncus.app.pages.map must wait for Streamlit's runtime, with which it registers the viewer.)
    for name in ("answer", "card", "runs"):
        importlib.import_module(f"uncus.app.pages.{name}")
    gc.collect()
    gc.freeze()
    task = asyncio.create_task(clean_up(jobs))
    yield
    task.cancel()
    jobs.close()  # first, so that nothing writes to the scans' folders any more
    for session in SESSIONS.names():
        SESSIONS.end(session, None)


async def clean_up(jobs: JobQueue) -> None:
    """Remove the scans of ended sessions, every few seconds."""
    from streamlit.runtime import Runtime

    while True:
        await asyncio.sleep(INTERVAL)
        if Runtime.exists():
            SESSIONS.clean_up(Runtime.instance(), jobs, time.monotonic())


def settings(address: str, port: int, hosts: Hosts | None = None) -> dict[str, Any]:
    """Streamlit's options: no details to clients, no usage statistics, and what it listens on.

    It has no way to allow every IP address; the guard, which comes first, has.
    """
    names = [] if hosts is None or hosts.any_address else list(hosts.names)
    return {
        "server.allowedHosts": names,
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
        "theme.headingFontSizes": ["2rem", "1.4rem", "1.1rem"],
        "theme.primaryColor": "#0b7285",
        "theme.dark.primaryColor": "#3fb6cc",
    }


def end_with_input() -> None:
    """End this process in order when its input ends."""
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGTERM)


def main(address: str, port: int, allow_host: Sequence[str] = ()) -> None:
    """Serve until interrupted; not at all, with exit code 2, if the networks cannot be loaded.

    The password is the first line of the standard input, whose end is that of the command.
    """
    password = sys.stdin.readline().rstrip("\n")
    threading.Thread(target=end_with_input, daemon=True).start()
    jobs = job_queue()
    import streamlit as st  # while they are loaded
    from starlette.middleware import Middleware
    from starlette.routing import Route

    jobs.ready.wait()
    if jobs.failure:
        print(f"uncus: {jobs.failure}", file=sys.stderr)
        sys.exit(2)
    hosts = hosts_of(address, allow_host)
    guard = Middleware(
        Guard,
        hosts=hosts,
        password=password,
        header=os.environ.get(HEADER_VARIABLE, ""),
    )
    routes = [Route("/files/{token}/{name:path}", file), Route("/report/{name:path}", report)]
    app = st.App(HOME, routes=routes, middleware=[guard], lifespan=lifetime)
    app.run(config=settings(address, port, hosts))
