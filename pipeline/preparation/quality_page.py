"""``quality.html`` of a prepared cohort: every registered scan under the template's contours.

Failed scans come first, then those with warnings, then the rest from the least alike to the
template on. The page stands alone: its pictures lie inside it. It is made anew only where it would
change.
"""

import base64
import hashlib
import html
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uncus.data.bids_derivatives import Entry, read_voxels, sidecar_path
from uncus.data.files import read_json, write_text
from uncus.data.geometry.grid import Grid
from uncus.data.geometry.image import Image, points
from uncus.data.mni.template import load_template
from uncus.pipeline.preparation.workers import in_processes, process_count
from uncus.pipeline.progress_bars import progress_bar

PAGE = "quality.html"
HEAD = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Registered scans</title>
<style>body{font:15px sans-serif;margin:2em;max-width:60em}figure{margin:1.5em 0}
img{width:100%;background:#000}.odd{color:#a00}td{padding:0 1em 0 0}</style>"""
LEGEND = """<p>Each scan's extracted brain in the standard space. Lines: edges of the template's
brain (cyan) and of its white matter (yellow). They should follow the scan's own.</p>"""


def write_page(
    root: Path,
    grid: Grid,
    entries: Sequence[Entry],
    failed: Sequence[tuple[str, str]],
    workers: int = 1,
) -> None:
    """Write the page where there is none or another one would be written.

    Parameters
    ----------
    entries: the scans of the cohort.
    failed: name and reason of each scan that is not in it.
    workers: processes that draw, see :func:`uncus.pipeline.preparation.workers.process_count`.
    """
    key = f"<!-- {_key(grid, entries, failed)} -->"
    page = root / PAGE
    if page.is_file() and key in page.read_text(encoding="utf-8", errors="replace")[-200:]:
        return
    found = [(entry, registration(root, entry)) for entry in entries]
    found.sort(key=lambda pair: (not pair[0].warnings, pair[1].get("overlap", 0.0)))
    jobs = [(root, entry, grid) for entry, _ in found]
    pictures = in_processes(process_count(workers, len(jobs)), _drawn, jobs) if jobs else iter(())
    with progress_bar() as bar:
        drawn = bar.track(pictures, len(jobs), description="pictures") if jobs else ()
        text = "\n".join([*_lines(found, drawn, failed), key])
    write_text(page, text)


def _key(grid: Grid, entries: Sequence[Entry], failed: Sequence[tuple[str, str]]) -> str:
    """A hash of all that the page shows."""
    shown = [grid.as_dict(), [asdict(entry) for entry in entries], list(failed), HEAD, LEGEND]
    return hashlib.sha256(json.dumps(shown).encode()).hexdigest()


def _drawn(root: Path, entry: Entry, grid: Grid) -> str:
    """A scan's picture as the page holds it."""
    return base64.b64encode(picture(read_voxels(root, entry, grid), grid)).decode()


def registration(root: Path, entry: Entry) -> Mapping[str, float]:
    """How well a scan was registered, by its sidecar."""
    found: Mapping[str, float] = read_json(sidecar_path(root / entry.derivative))["Registration"]
    return found


def picture(array: NDArray[Any], grid: Grid) -> bytes:
    """Three slices along each axis of a placed scan [X, Y, Z] with the template's lines: PNG."""
    from matplotlib.figure import Figure

    brain, white = _template_on(grid.shape, tuple(grid.affine.ravel().tolist()))
    figure = Figure(figsize=(9, 3.6), facecolor="black")
    axes = figure.subplots(3, 3)
    figure.subplots_adjust(0, 0, 1, 1, 0, 0)
    image = np.asarray(array, np.float32)
    for row, axis in zip(axes, range(3), strict=True):
        for place, share in zip(row, (0.35, 0.5, 0.62), strict=True):
            index = round(share * (grid.shape[axis] - 1))
            shown, edge, core = (np.take(a, index, axis).T for a in (image, brain, white))
            place.imshow(shown, origin="lower", cmap="gray", vmin=-2.5, vmax=2)
            place.contour(edge, [0.5], colors="cyan", linewidths=0.6)
            place.contour(core, [0.5], colors="yellow", linewidths=0.3)
            place.axis("off")
    content = io.BytesIO()
    figure.set_size_inches(7.5, 7.5)
    figure.savefig(content, format="png", dpi=70, facecolor="black")
    return content.getvalue()


@lru_cache(maxsize=1)
def _template_on(
    shape: tuple[int, int, int], affine: tuple[float, ...]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The template's brain and white matter on a grid."""
    template = load_template()
    places = points(shape, np.array(affine).reshape(4, 4))
    maps = (template.brain.astype(np.float32), template.white)
    brain, white = (Image(a, template.affine).at(places).reshape(shape) for a in maps)
    return brain, white


def _lines(
    found: Sequence[tuple[Entry, Mapping[str, float]]],
    drawn: Iterable[str],
    failed: Sequence[tuple[str, str]],
) -> Iterator[str]:
    odd = sum(bool(entry.warnings) for entry, _ in found) + len(failed)
    yield f"{HEAD}<h1>Registered scans</h1><p>{odd} want a look; they come first.</p>{LEGEND}"
    if failed:
        yield f"<h2>Failed: {len(failed)}</h2><table>"
        for name, reason in failed:
            yield f"<tr class=odd><td>{html.escape(name)}<td>{html.escape(reason)}</tr>"
        yield "</table>"
    for (entry, numbers), source in zip(found, drawn, strict=True):
        told = ", ".join(f"{key} {value:.3f}" for key, value in numbers.items())
        odd_lines = "".join(f"<br><b class=odd>{html.escape(w)}</b>" for w in entry.warnings)
        yield (
            f"<figure><figcaption>{html.escape(entry.name)}: {told}{odd_lines}</figcaption>"
            f'<img loading=lazy alt="{html.escape(entry.name)}" '
            f'src="data:image/png;base64,{source}"></figure>'
        )
    yield "</html>"
