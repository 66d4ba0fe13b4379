"""A server of the page and a real Chromium, for tests of the whole way."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.signals import heed_signals

FLAGS = [
    "--no-sandbox",
    "--disable-background-networking",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
]
PATIENCE = 120_000  # ms, on a machine with other work
ROOT = Path(__file__).parents[1]


@contextlib.contextmanager
def served(
    run: Path,
    folder: Path,
    options: Sequence[str] = (),
    end: signal.Signals = signal.SIGTERM,
    **variables: str,
) -> Iterator[str]:
    """``uncus app`` in a process of its own with its files in ``folder``; its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    code = "import sys; from uncus.pipeline.cli import main; sys.exit(main())"
    arguments = [sys.executable, "-c", code, "app", str(run), "--port", str(port), *options]
    address = f"http://127.0.0.1:{port}"
    own = {**os.environ, **variables, "TMPDIR": str(folder)}
    with subprocess.Popen(arguments, env=own, cwd=ROOT, preexec_fn=heed_signals) as server:
        try:
            latest = time.monotonic() + PATIENCE / 1000
            while time.monotonic() < latest:
                with contextlib.suppress(OSError):
                    urllib.request.urlopen(f"{address}/_stcore/health", timeout=5).close()
                    break
                assert server.poll() is None
                time.sleep(0.2)
            yield address
        finally:
            server.send_signal(end)
            try:
                server.wait(60)
            except subprocess.TimeoutExpired:
                server.kill()
                raise


@contextlib.contextmanager
def chromium() -> Iterator[Any]:
    """A browser; skips where there is none."""
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("chromium is not installed")
    found = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with found.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


def open_page(browser: Any, address: str) -> Any:
    """The page in a browser context of its own."""
    page = browser.new_context(viewport={"width": 1280, "height": 1000}).new_page()
    page.set_default_timeout(PATIENCE)
    page.goto(address)
    return page


def upload(page: Any, *paths: Path) -> None:
    """Upload files in the tab for one scan."""
    page.locator("input[type=file]").first.set_input_files(list(paths))


def viewer(page: Any, before: str = "") -> Any:
    """The viewer once it shows a map other than ``before``."""
    frame = page.frame_locator("iframe[title*=viewer]").first
    body = frame.locator(f'body[data-ready]:not([data-ready="{before}"])')
    body.wait_for()
    return frame


def bright(frame: Any) -> dict[str, int]:
    """The numbers of pixels of the viewer's canvas that are not black, and that are colored."""
    counts: dict[str, int] = frame.locator("#canvas").evaluate(
        """async (canvas) => {
            await new Promise((done) => setTimeout(done, 1500));
            state.draw();
            const copy = document.createElement("canvas");
            copy.width = canvas.width; copy.height = canvas.height;
            const context = copy.getContext("2d");
            context.drawImage(canvas, 0, 0);
            const pixels = context.getImageData(0, 0, copy.width, copy.height).data;
            let lit = 0, coloured = 0;
            for (let i = 0; i < pixels.length; i += 4) {
                const [r, g, b] = [pixels[i], pixels[i + 1], pixels[i + 2]];
                lit += Math.max(r, g, b) > 40;
                coloured += r - b > 60;
            }
            return { lit, coloured };
        }"""
    )
    return counts
