"""The web app: how soon a scan is answered and shown, many uploads in a row, several users.

``python docs/results/app.py [RUNS] [--scan SCAN] [--uploads 50] [--users 4]`` starts the page with
a built-in model, a run or a folder of runs, drives it with Chromium, and writes app.json and app.md
beside this file.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT)]

from tests.browser import chromium, open_page, served, upload, viewer  # noqa: E402
from uncus.app.sessions import GRACE, INTERVAL  # noqa: E402

HERE = Path(__file__).parent
MEGABYTE = 1 << 20
PAINT = """(canvas, view) => {
  document.getElementById("view").value = view;
  arrange();
  const gl = state.viewer.gl, pixel = new Uint8Array(4), times = [];
  for (let k = 0; k < 5; k += 1) {
    const start = performance.now();
    state.draw();
    gl.readPixels(0, 0, 1, 1, gl.RGBA, gl.UNSIGNED_BYTE, pixel); // waits until it is painted
    times.push(performance.now() - start);
  }
  return times.sort((a, b) => a - b)[2] / 1000;
}"""
VIEWS = {"all": "three planes and 3D", "coronal": "one plane", "render": "3D alone"}


def main() -> None:
    """Measure, and write both files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path, nargs="?", default=Path("dementia"))
    parser.add_argument("--scan", type=Path, default=ROOT / "app" / "example.nii.gz")
    parser.add_argument("--uploads", type=int, default=50)
    parser.add_argument("--users", type=int, default=4)
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        served(
            runs.resolve() if (runs := options.runs).exists() else runs, Path(folder)
        ) as address,
        chromium() as browser,
    ):
        found: dict[str, Any] = {"run": options.runs.name, "scan": options.scan.name}
        found["cores"] = os.cpu_count()
        found["load"] = round(os.getloadavg()[0], 1)
        found["alone"] = alone(browser, address, options.scan)
        found["users"] = users(browser, address, options.scan, options.users)
        found["uploads"] = row(browser, address, options.scan, options.uploads)
        time.sleep(GRACE + 3 * INTERVAL)
        found["left on disk"] = sorted(
            path.name for path in Path(folder).rglob("*") if path.is_file()
        )
    (HERE / "app.json").write_text(json.dumps(found, indent=2) + "\n")
    (HERE / "app.md").write_text(text(found))
    print(text(found))


def alone(browser: Any, address: str, scan: Path) -> dict[str, Any]:
    """One user and one scan: seconds from the upload, and of painting it in software."""
    page = open_page(browser, address)
    page.locator("input[type=file]").first.wait_for(state="attached")
    start, before = time.monotonic(), processor()
    seconds = {}
    upload(page, scan)
    page.locator(".uncus-checks").first.wait_for()
    seconds["result"] = round(time.monotonic() - start, 2)
    used = {"result": round(processor() - before, 2)}
    frame = viewer(page)
    seconds["map"] = round(time.monotonic() - start, 2)
    used["map"] = round(processor() - before, 2)
    page.wait_for_timeout(3000)
    canvas = frame.locator("#canvas")
    painted = {view: round(canvas.evaluate(PAINT, view), 3) for view in VIEWS}
    shape = canvas.evaluate("() => state.viewer.volumes[0].hdr.dims.slice(1, 4)")
    page.context.close()
    return {"seconds": seconds, "processor": used, "paint": painted, "voxels": shape}


def row(browser: Any, address: str, scan: Path, count: int) -> dict[str, Any]:
    """One user uploads ``count`` scans, one after another."""
    page = open_page(browser, address)
    page.route(
        "**/niivue.umd.js", lambda route: route.abort()
    )  # the browser's own work is not measured
    memory, seconds, before = [], [], ""
    for number in range(count):
        start = time.monotonic()
        upload(page, scan)
        link = page.locator(f'a[href$="prediction.json"]:not([href="{before}"])')
        link.wait_for()
        before = link.get_attribute("href") or ""
        seconds.append(round(time.monotonic() - start, 2))
        memory.append(resident() // MEGABYTE)
        print(f"upload {number + 1}: {seconds[-1]} s, {memory[-1]} MB", flush=True)
    page.context.close()
    return {"count": count, "seconds": seconds, "megabytes": memory}


def users(browser: Any, address: str, scan: Path, count: int) -> dict[str, Any]:
    """Several users upload at the same moment, each a file with its own name."""
    content = scan.read_bytes()
    pages = [open_page(browser, address) for _ in range(count)]
    for page in pages:
        page.locator("input[type=file]").first.wait_for(state="attached")
    start = time.monotonic()
    for number, page in enumerate(pages):
        file = {"name": f"user-{number}.nii.gz", "mimeType": "application/gzip", "buffer": content}
        page.locator("input[type=file]").first.set_input_files(file)
    seconds, own = [], 0
    for number, page in enumerate(pages):
        link = page.get_by_role("link", name="Prediction (JSON)")
        link.wait_for()
        seconds.append(round(time.monotonic() - start, 2))
        answer = page.request.get(address + (link.get_attribute("href") or "")).json()
        own += answer["scan"] == f"user-{number}.nii.gz"
    for page in pages:
        page.context.close()
    print(f"{count} users: {own} own predictions after {seconds} s", flush=True)
    return {"count": count, "own": own, "seconds": seconds}


def resident() -> int:
    """Bytes in memory of the server and all of its children."""
    return sum(pages for pages, _ in processes().values()) * os.sysconf("SC_PAGE_SIZE")


def processor() -> float:
    """Processor time of the server and all of its children, with those that have ended (s)."""
    return sum(ticks for _, ticks in processes().values()) / os.sysconf("SC_CLK_TCK")


def processes() -> dict[int, tuple[int, int]]:
    """Process of the server or a child -> pages in memory, and ticks of processor time."""
    parents: dict[int, int] = {}
    used: dict[int, tuple[int, int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            pages = int((folder / "statm").read_text().split()[1])
            used[int(folder.name)] = pages, sum(map(int, fields[11:15]))
            parents[int(folder.name)] = int(fields[1])
        except (OSError, IndexError, ValueError):
            continue
    own = os.getpid()
    ours = {pid for pid in parents if parents[pid] == own and b"uncus.pipeline.cli" in command(pid)}
    for _ in range(4):
        ours |= {pid for pid, parent in parents.items() if parent in ours}
    return {pid: used[pid] for pid in ours if pid in used}


def command(pid: int) -> bytes:
    """A process's command line."""
    try:
        return (Path("/proc") / str(pid) / "cmdline").read_bytes()
    except OSError:
        return b""


def text(found: dict[str, Any]) -> str:
    """The text of app.md."""
    many, some, one = found["uploads"], found["users"], found["alone"]
    memory, seconds = many["megabytes"], sorted(many["seconds"])
    growth = max(memory[3:], default=memory[-1]) - memory[min(2, len(memory) - 1)]
    middle = f"{seconds[len(seconds) // 2]} ({seconds[0]} to {seconds[-1]})"
    left = ", ".join(found["left on disk"]) or "nothing"
    paint = ", ".join(f"{VIEWS[view]} {seconds:.2f} s" for view, seconds in one["paint"].items())
    shape = " × ".join(map(str, one["voxels"]))
    wall, used = one["seconds"], one["processor"]
    return f"""# The web app: times, memory, queue

Made by `python docs/results/app.py [RUNS]` with the run {found["run"]} on {found["cores"]} cores
shared with the browser and other work (load {found["load"]} at the start; on a machine without
other work it is about 1), with `{found["scan"]}` uploaded through Chromium. During the
consecutive uploads the viewer's own script is not loaded: the server is measured.

| measure | value |
|---|---|
| from the upload to the result | {wall["result"]} s ({used["result"]} s of processor time) |
| to the first map in the viewer | {wall["map"]} s ({used["map"]} s of processor time) |
| to paint {shape} voxels without a graphics card (SwiftShader, median) | {paint} |
| consecutive uploads, each with prediction, map and reports | {many["count"]} |
| seconds per upload, median (range) | {middle} |
| memory of server and worker after the third | {memory[min(2, len(memory) - 1)]} MB |
| its largest growth after that | {growth} MB |
| simultaneous users | {some["count"]} |
| who got their own prediction | {some["own"]} |
| seconds until each | {", ".join(map(str, some["seconds"]))} |
| files left on disk after all sessions ended | {left} |
"""


if __name__ == "__main__":
    main()
