"""Screenshots of the web app.

    python docs/screenshots.py [RUNS] [--scan SCAN] [--age AGE] [--sex SEX] [--out FOLDER]

It starts the page with a run or a folder of runs (the built-in models where none is given), goes
through it in Chromium with the bundled phantom, a damaged file, several scans and ``--scan``, light
and dark, wide and narrow, and writes app-PAGE-SCHEME-WIDTH.png.
"""

import argparse
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

from tests.browser import PATIENCE, chromium, served, upload, viewer  # noqa: E402

EXAMPLE = ROOT / "app" / "example.nii.gz"
SCHEMES, WIDTHS = ("light", "dark"), (1440, 800, 390)
COLOURS, TALLEST = 128, {"card": 1500}
Person = tuple[str, str]


def main() -> None:
    """Take all screenshots."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path, nargs="?", default=Path("dementia"))
    parser.add_argument("--scan", type=Path)
    parser.add_argument("--age", default="")
    parser.add_argument("--sex", default="")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "images")
    parser.add_argument("--pages", nargs="+", default=list(PAGES))
    parser.add_argument("--schemes", nargs="+", default=SCHEMES)
    parser.add_argument("--widths", nargs="+", type=int, default=WIDTHS)
    options = parser.parse_args()
    runs = options.runs.resolve() if options.runs.exists() else options.runs
    options.out.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as folder,
        served(runs, Path(folder)) as address,
        chromium() as browser,
    ):
        for name in options.pages:
            path, start, seen = PAGES[name]
            if name == "scan" and not options.scan:
                continue
            page = browser.new_context(viewport={"width": WIDTHS[0], "height": 900}).new_page()
            page.set_default_timeout(PATIENCE)
            page.goto(address + path)
            start(page, options.scan, (options.age, options.sex))
            for scheme in options.schemes:
                page.emulate_media(color_scheme=scheme)
                for width in options.widths:
                    page.set_viewport_size({"width": width, "height": 900})
                    page.reload()  # which finds its visit again
                    seen(page)
                    path = options.out / f"app-{name}-{scheme}-{width}.png"
                    shoot(page, path, TALLEST.get(name, 6000))
            page.context.close()


def nothing(page: Any, scan: Path, person: Person) -> None:
    """The page as it opens."""


def phantom(page: Any, scan: Path, person: Person) -> None:
    """The bundled example."""
    page.get_by_role("button", name="Try the bundled example").click()
    result(page)


def own(page: Any, scan: Path, person: Person) -> None:
    """The given scan, of this person."""
    age, sex = person
    if age:
        page.get_by_label("Age in years").fill(age)
        page.keyboard.press("Enter")
    if sex:
        page.get_by_label("Sex").click()
        page.get_by_role("option", name=sex, exact=True).click()
    page.wait_for_timeout(1000)
    upload(page, scan)
    result(page)


def damaged(page: Any, scan: Path, person: Person) -> None:
    """A file that ends too early."""
    first(page)
    broken = {"name": "broken.nii.gz", "mimeType": "application/gzip"}
    page.locator("input[type=file]").first.set_input_files(
        [broken | {"buffer": EXAMPLE.read_bytes()[:4000]}]
    )
    refused(page)


def several(page: Any, scan: Path, person: Person) -> None:
    """The phantom, the given scan and a damaged file."""
    page.get_by_role("tab", name="Several scans").click()
    contents = {"phantom.nii.gz": EXAMPLE.read_bytes(), "broken.nii.gz": b"\x1f\x8b" + bytes(99)}
    if scan:
        contents[scan.name] = scan.read_bytes()
    kind = {"mimeType": "application/gzip"}
    files = [kind | {"name": name, "buffer": data} for name, data in contents.items()]
    page.locator("input[type=file]").nth(1).set_input_files(files)
    page.get_by_role("button", name="Table (CSV)").wait_for(timeout=5 * PATIENCE)


def first(page: Any) -> None:
    """The first screen."""
    page.get_by_role("button", name="Try the bundled example").wait_for()


def result(page: Any) -> None:
    """A result with its map."""
    viewer(page)
    page.mouse.move(5, 500)  # no tooltip in the image


def refused(page: Any) -> None:
    """Why there is no prediction."""
    page.get_by_text("No prediction for").wait_for()


def table(page: Any) -> None:
    """The table of several scans."""
    page.get_by_role("tab", name="Several scans").click()
    page.get_by_role("button", name="Table (CSV)").wait_for()


def headed(text: str) -> Callable[[Any], None]:
    """A page with this heading."""
    return lambda page: page.get_by_role("heading", name=text).first.wait_for()


PAGES = {
    "first": ("", nothing, first),
    "scan": ("", own, result),
    "phantom": ("", phantom, result),
    "refused": ("", damaged, refused),
    "batch": ("", several, table),
    "runs": ("/runs", nothing, headed("Runs")),
    "card": ("/card", nothing, headed("Hashes")),
}
"""Name -> its path, what is done there once, and what is waited for."""


def shoot(page: Any, path: Path, tallest: int) -> None:
    """The page down to ``tallest`` pixels, in few colors."""
    size = page.viewport_size
    page.wait_for_timeout(2500)
    block = page.locator("[data-testid=stMainBlockContainer]")
    height = min(tallest, int(block.evaluate("element => element.scrollHeight")) + 40)
    page.set_viewport_size({**size, "height": max(height, 500)})
    page.wait_for_timeout(2500)
    page.screenshot(path=path)
    image = Image.open(path).convert("RGB")
    image.quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)
    print(path, flush=True)


if __name__ == "__main__":
    if shutil.which("chromium") is None:
        sys.exit("chromium is not installed; apt-get install chromium")
    main()
