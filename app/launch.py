"""``uncus app``: start the web app."""

import ctypes
import importlib.util
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from uncus import NOTICE
from uncus.app.hosts import hosts_of, is_loopback
from uncus.app.settings import (
    FOLDER_VARIABLE,
    HEADER_VARIABLE,
    LOGIN_VARIABLE,
    PASSWORD_VARIABLE,
    RUN_VARIABLE,
)
from uncus.data.errors import BadInput
from uncus.pipeline.builtin.catalog import default_run, is_built_in, named_run
from uncus.pipeline.runs import Run, find_runs

DEMO = Path("runs/demo")


@dataclass(frozen=True)
class App:
    """Serve a page to upload scans and see a run's predictions with saliency maps.

    Scans are kept in a temporary folder until their session ends, and are not sent elsewhere.
    The password can also be set by the environment variable UNCUS_APP_PASSWORD.
    """

    trained: Annotated[
        Path | None,
        tyro.conf.Positional,
        tyro.conf.arg(metavar="RUN", help_behavior_hint=""),
    ] = None
    """A run of uncus train, a folder of runs, or the name of a built-in model (uncus models); by
    default all built-in models, or the demo where there is none."""
    port: int = 8501
    """Port to listen on."""
    address: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 opens the page to the whole network, which requires a password
    or a proxy's user header."""
    password_file: Path | None = None
    """File with the password in its first line."""
    allow_host: tuple[str, ...] = ()
    """Names under which a proxy or other machines reach the page, besides the address; requests for
    other hosts are rejected."""
    user_header: str = ""
    """Header in which a reverse proxy passes the user's name; requests without it are rejected."""
    insecure: bool = False
    """Serve other machines without password and user header: everybody who reaches the address sees
    the runs and can upload scans."""

    def run(self) -> int:
        """Serve until interrupted; returns the server's exit code."""
        if importlib.util.find_spec("streamlit") is None:
            raise ValueError("streamlit is not installed; pip install 'uncus[app]'")
        hosts_of(self.address, self.allow_host)
        password = self.password()
        if not (password or self.user_header or self.insecure or is_loopback(self.address)):
            raise BadInput(
                f"--address {self.address}",
                "lets other machines in, without a password",
                "give --password-file, UNCUS_APP_PASSWORD or --user-header, or insist: --insecure",
            )
        check_free(self.address, self.port)
        first, folder = find(self.trained)
        print(f"{first} on http://{self.address}:{self.port}, Ctrl+C to stop. {NOTICE}", flush=True)
        variables = {
            RUN_VARIABLE: str(first.resolve()),
            FOLDER_VARIABLE: str(folder.resolve()),
            LOGIN_VARIABLE: "1" if password else "",
            HEADER_VARIABLE: self.user_header,
        }
        # Scans remove their own folders; this one is removed with what a crash has left in it.
        with tempfile.TemporaryDirectory(
            prefix="uncus-app-", ignore_cleanup_errors=True
        ) as temporary:
            arguments = command(self.address, self.port, self.allow_host)
            return serve(arguments, environment(variables, temporary), temporary, password)

    def password(self) -> str:
        """The password; "" for none. It is taken out of the environment, which others inherit."""
        given = taken(PASSWORD_VARIABLE)
        if self.password_file is None:
            return given.partition("\n")[0].strip()
        try:
            word = self.password_file.read_text(encoding="utf-8").partition("\n")[0].strip()
        except (OSError, UnicodeError) as error:
            cause = f"cannot be read ({error})"
            raise BadInput(self.password_file, cause, "name a text file") from error
        if not word:
            raise BadInput(
                self.password_file, "contains no password", "write it into the first line"
            )
        return word


def taken(variable: str) -> str:
    """An environment variable, removed also from what /proc shows of this process."""
    with suppress(AttributeError, TypeError, OSError):  # the C library of Unix only
        getenv = ctypes.CDLL(None).getenv
        getenv.restype = ctypes.c_void_p
        if place := getenv(variable.encode()):
            ctypes.memset(place, 0, len(os.environb.get(variable.encode(), b"")))
    return os.environ.pop(variable, "")


def find(trained: Path | None) -> tuple[Path, Path]:
    """The run to start with, and the folder of it and the others to choose from.

    It is the one given, the newest of a folder, the built-in model, or the demo's.
    """
    trained = trained or default_run() or DEMO
    if trained == DEMO and not trained.exists():
        from uncus.pipeline.demo import Demo

        print("There is no run yet; the demo makes one within minutes.", flush=True)
        Demo(DEMO).run()
    trained = named_run(trained) or trained
    if not trained.exists():
        raise ValueError(f"{trained}: does not exist; name a run of uncus train: uncus app RUN")
    runs = [trained] if Run(trained).config_path.exists() else find_runs(trained)
    if not runs:
        Run(trained).verify()  # raises with the reason
    newest = max(
        runs, key=lambda run: Run(run).model_folder.stat().st_mtime if len(runs) > 1 else 0.0
    )
    Run(newest).verify()
    return newest, trained.parent if is_built_in(trained) else trained


def check_free(address: str, port: int) -> None:
    """Check that the address can be listened on.

    Raises
    ------
    ValueError: the port is taken or out of range, or the address is not this machine's.
    """
    if not 1 <= port <= 65535:
        raise ValueError(f"--port {port}: ports go from 1 to 65535")
    try:
        family, kind, _, _, target = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(target)
    except OSError as error:
        raise ValueError(
            f"cannot listen on {address} port {port}: {error.strerror or error}; "
            "choose another with --port or --address"
        ) from error


def command(address: str, port: int, allow_host: Sequence[str] = ()) -> list[str]:
    """The server's command line."""
    code = f"from uncus.app.server import main; main({address!r}, {port}, {[*allow_host]!r})"
    return [sys.executable, "-P", "-c", code]


def environment(variables: dict[str, str], folder: str) -> dict[str, str]:
    """The server's environment: this process's import path, temporary files in ``folder``."""
    ours = os.pathsep.join(entry for entry in sys.path if entry)
    return {**os.environ, **variables, "TMPDIR": folder, "PYTHONPATH": ours}


def serve(arguments: list[str], variables: dict[str, str], folder: str, password: str = "") -> int:
    """Run the server until it ends; it ends with this process, even if that is killed.

    Its working folder is ``folder``, which contains no Streamlit settings of other projects.
    """
    with subprocess.Popen(
        arguments, env=variables, cwd=folder, stdin=subprocess.PIPE, text=True, encoding="utf-8"
    ) as server:
        ends = [signal.SIGTERM, signal.SIGHUP]  # the latter when a terminal is closed, unless nohup
        ends = [number for number in ends if signal.getsignal(number) != signal.SIG_IGN]
        before = [signal.signal(number, lambda *_: server.terminate()) for number in ends]
        try:
            assert server.stdin  # open as long as this process lives
            with suppress(OSError):
                server.stdin.write(f"{password}\n")
                server.stdin.flush()
            return max(0, server.wait())
        except KeyboardInterrupt:
            server.terminate()
            server.wait()
            return 0
        finally:
            for number, handler in zip(ends, before, strict=True):
                signal.signal(number, handler)
