"""Screenshots of the web app for the docs: ``python docs/screenshots.py [FOLDER OF RUNS]``.

It starts the page with the runs (the demo's, made on the spot, where none is given), goes through
it in Chromium with the bundled example, light and dark, wide and narrow, and writes
docs/images/app-*.png.
"""

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

from tests.browser import PATIENCE, chromium, served, viewer  # noqa: E402

OUT = ROOT / "docs" / "images"
VIEWS = (("light", 1440), ("light", 800), ("dark", 1440), ("dark", 390))
"""Color scheme and width (pixels)."""
COLOURS = 128


def main() -> None:
    """Take all screenshots."""
    runs = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/demo").resolve()
    with (
        tempfile.TemporaryDirectory() as folder,
        served(runs, Path(folder)) as address,
        chromium() as browser,
    ):
        for scheme, width in VIEWS:
            context = browser.new_context(
                viewport={"width": width, "height": 900}, color_scheme=scheme
            )
            page = context.new_page()
            page.set_default_timeout(PATIENCE)
            for name, take in PAGES.items():
                take(page, address)
                shoot(page, OUT / f"app-{name}-{scheme}-{width}.png")
            context.close()


def first(page: Any, address: str) -> None:
    """The page as it opens."""
    page.goto(address)
    page.get_by_role("button", name="Try the bundled example").wait_for()
    page.wait_for_timeout(1500)


def predict(page: Any, address: str) -> None:
    """The example's prediction with the viewer."""
    page.goto(address)
    page.get_by_role("button", name="Try the bundled example").click()
    viewer(page)
    page.mouse.move(5, 500)  # no tooltip in the image
    page.wait_for_timeout(3000)


def refused(page: Any, address: str) -> None:
    """A damaged file."""
    first(page, address)
    broken = (ROOT / "app" / "example.nii.gz").read_bytes()[:4000]
    upload = {"name": "broken.nii.gz", "mimeType": "application/gzip", "buffer": broken}
    page.locator("input[type=file]").first.set_input_files([upload])
    page.get_by_text("No prediction for").wait_for()


def batch(page: Any, address: str) -> None:
    """Two scans in the table, one of them broken."""
    page.goto(address)
    page.get_by_role("tab", name="Several scans").click()
    good = (ROOT / "app" / "example.nii.gz").read_bytes()
    uploads = [
        {"name": "phantom.nii.gz", "mimeType": "application/gzip", "buffer": good},
        {"name": "broken.nii.gz", "mimeType": "application/gzip", "buffer": good[:4000]},
    ]
    page.locator("input[type=file]").nth(1).set_input_files(uploads)
    page.get_by_role("button", name="Table (CSV)").wait_for()
    page.wait_for_timeout(1500)


def runs(page: Any, address: str) -> None:
    """The page Runs."""
    page.goto(f"{address}/runs")
    page.get_by_text("Out-of-fold metrics").first.wait_for()
    page.locator("img.uncus-paper").first.wait_for()
    page.wait_for_timeout(3000)


def card(page: Any, address: str) -> None:
    """The page Model card."""
    page.goto(f"{address}/card")
    page.get_by_text("Hashes").first.wait_for()
    page.wait_for_timeout(3000)


PAGES = {
    "first": first,
    "predict": predict,
    "refused": refused,
    "batch": batch,
    "runs": runs,
    "card": card,
}


def shoot(page: Any, path: Path) -> None:
    """The whole page, however long, in few colours."""
    size = page.viewport_size
    block = page.locator("[data-testid=stMainBlockContainer]")
    height = min(4000, int(block.evaluate("element => element.scrollHeight")) + 40)
    page.set_viewport_size({**size, "height": max(height, 500)})
    page.wait_for_timeout(2500)
    page.screenshot(path=path)
    page.set_viewport_size(size)
    image = Image.open(path).convert("RGB")
    image.quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)


if __name__ == "__main__":
    if shutil.which("chromium") is None:
        sys.exit("chromium is not installed; apt-get install chromium")
    main()
