"""``uncus app``: start the web page."""

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from pipeline.notice import NOTICE
from pipeline.runs import Run

RUN_VARIABLE = "UNCUS_APP_RUN"
"""Environment variable that tells the page which run answers."""
DEMO = Path("runs/demo/run")
UPLOAD_LIMIT = 512  # MiB


@dataclass(frozen=True)
class App:
    """Serve a page to upload a scan and see what the run's networks say of it, and why.

    Scans stay in a temporary folder of the visit, are never kept, and nothing is sent elsewhere.
    """

    trained: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")] = DEMO
    """Folder of uncus train."""
    port: int = 8501
    """Port to listen on."""
    address: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 opens the page to the whole network, without a password."""

    def run(self) -> int:
        """Serve until interrupted; returns the server's exit code."""
        if not self.trained.exists():
            raise ValueError(
                f"{self.trained}: not there; make it with uncus demo, or name a run: uncus app RUN"
            )
        run = Run(self.trained.resolve())
        run.verify()
        if importlib.util.find_spec("streamlit") is None:
            raise ValueError("streamlit is not installed; pip install 'uncus[app]'")
        check_free(self.address, self.port)
        print(f"{self.trained} on http://{self.address}:{self.port}, Ctrl+C ends it. {NOTICE}")
        # Visits remove their own folders; this one goes with whatever a crash has left in it.
        with tempfile.TemporaryDirectory(prefix="uncus-app-", ignore_cleanup_errors=True) as folder:
            return serve(command(self.address, self.port), environment(run.path, folder), folder)


def check_free(address: str, port: int) -> None:
    """Refuse an address that cannot be listened on.

    Raises
    ------
    ValueError: the port is taken or out of range, or the address is not this machine's.
    """
    if not 1 <= port <= 65535:
        raise ValueError(f"--port {port}: ports go from 1 to 65535")
    try:
        family, kind, _, _, place = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(place)
    except OSError as error:
        raise ValueError(
            f"cannot listen on {address} port {port}: {error.strerror or error}; "
            "choose another with --port or --address"
        ) from error


def command(address: str, port: int) -> list[str]:
    """The server's command line: nothing is told to strangers, nor to streamlit's makers."""
    options = {
        "server.address": address,
        "server.port": port,
        "server.headless": "true",
        "server.enableXsrfProtection": "true",
        "server.maxUploadSize": UPLOAD_LIMIT,
        "server.fileWatcherType": "none",
        "browser.gatherUsageStats": "false",
        "client.showErrorDetails": "none",
        "client.toolbarMode": "minimal",
    }
    page = Path(__file__).with_name("page.py")
    flags = [f"--{name}={value}" for name, value in options.items()]
    return [sys.executable, "-P", "-m", "streamlit", "run", str(page), *flags]


def environment(run: Path, folder: str) -> dict[str, str]:
    """The server's environment: the run, our own import path, temporary files in ``folder``."""
    ours = os.pathsep.join(entry for entry in sys.path if entry)
    return {**os.environ, RUN_VARIABLE: str(run), "TMPDIR": folder, "PYTHONPATH": ours}


def serve(arguments: list[str], variables: dict[str, str], folder: str) -> int:
    """Run the server until it ends; it ends with this process.

    It works in ``folder``, where no settings of another project's streamlit lie.
    """
    with subprocess.Popen(arguments, env=variables, cwd=folder) as server:
        before = signal.signal(signal.SIGTERM, lambda *_: server.terminate())
        try:
            return max(0, server.wait())
        except KeyboardInterrupt:
            server.terminate()
            server.wait()
            return 0
        finally:
            signal.signal(signal.SIGTERM, before)
