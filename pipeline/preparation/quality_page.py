"""``quality.html`` of a prepared cohort: every registered scan with the template's contours.

Failed scans come first, then those with warnings, then the others by ascending overlap with the
template. The page is one file, with its images embedded, and is rewritten only if it would change.
"""

import base64
import hashlib
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from contourpy import contour_generator
from numpy.typing import NDArray

from uncus.data.bids_derivatives import Entry, read_voxels, sidecar_path
from uncus.data.files import read_json, write_text
from uncus.data.geometry.grid import Grid
from uncus.data.geometry.image import Image, points
from uncus.data.mni.template import load_template
from uncus.data.text import grouped
from uncus.pipeline.preparation.refusals import picture_path
from uncus.pipeline.preparation.workers import in_processes, process_count
from uncus.pipeline.progress_bars import progress_bar
from uncus.pipeline.rendering.html import document, image, notice, table, text

Lines = list[NDArray[np.float64]]
"""[N, 2] points in the plane each."""

PAGE = "quality.html"
CSS = """
.warning { color:#a00 } figure { margin:1.5em 0 } img { width:100%; background:#000 }
"""
LEGEND = """<p>The extracted brain of each scan in the template's space, with the outlines of the
template's brain (cyan) and white matter (yellow). They should follow the outlines of the
scan.</p>"""


def write_page(
    root: Path,
    grid: Grid,
    entries: Sequence[Entry],
    failed: Sequence[tuple[str, str]],
    workers: int = 1,
) -> None:
    """Write the page, unless the same page is there.

    Parameters
    ----------
    entries: the scans of the cohort.
    failed: name and reason of each failed scan.
    workers: number of processes, see :func:`uncus.pipeline.preparation.workers.process_count`.
    """
    pictures = {
        name: path.read_bytes()
        for name, _ in failed
        if (path := picture_path(root, name)).is_file()
    }
    key = f"<!-- {_key(grid, entries, failed, list(pictures))} -->"
    page = root / PAGE
    if page.is_file() and key in page.read_text(encoding="utf-8", errors="replace")[-200:]:
        return
    scans = [(entry, registration(root, entry)) for entry in entries]
    scans.sort(key=lambda scan: (not scan[0].warnings, scan[1].get("overlap", 0.0)))
    jobs = [(root, entry, grid) for entry, _ in scans]
    montages = in_processes(process_count(workers, len(jobs)), _encoded, jobs) if jobs else iter(())
    with progress_bar() as bar:
        images = bar.track(montages, len(jobs), description="images") if jobs else ()
        content = document("Registered scans", _parts(scans, images, failed, pictures), CSS)
    write_text(page, f"{content}{key}\n")


def _key(
    grid: Grid,
    entries: Sequence[Entry],
    failed: Sequence[tuple[str, str]],
    pictured: Sequence[str],
) -> str:
    """A hash of the page's content."""
    content = [grid.as_dict(), [asdict(entry) for entry in entries], list(failed)]
    content += [list(pictured), CSS, LEGEND]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _encoded(root: Path, entry: Entry, grid: Grid) -> str:
    """A scan's montage as base64 for the page."""
    return base64.b64encode(montage(read_voxels(root, entry, grid), grid)).decode()


def registration(root: Path, entry: Entry) -> Mapping[str, float]:
    """The quality measures of a scan's registration, from its sidecar."""
    measures: Mapping[str, float] = read_json(sidecar_path(root / entry.derivative))["Registration"]
    return measures


def montage(array: NDArray[Any], grid: Grid) -> bytes:
    """A PNG of three slices along each axis of a placed scan [X, Y, Z], with contours."""
    from matplotlib.collections import LineCollection
    from matplotlib.figure import Figure

    outlines = _outlines(grid.shape, tuple(grid.affine.ravel().tolist()))
    image, cell = np.asarray(array, np.float32), max(grid.shape)
    figure = Figure(figsize=(7.5, 7.5), facecolor="black")
    # One pair of axes: making nine of them takes most of the time.
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, 3 * cell), ylim=(3 * cell, 0))
    axes.axis("off")
    brain: Lines = []
    white: Lines = []
    for row in range(3):
        for column, index in enumerate(_cuts(grid.shape[row])):
            plane = np.take(image, index, row).T[::-1]
            height, width = plane.shape
            left, top = column * cell + (cell - width) / 2, row * cell + (cell - height) / 2
            extent = (left, left + width, top + height, top)
            axes.imshow(plane, cmap="gray", vmin=-2.5, vmax=2, extent=extent)
            # A line's points are voxel centers, from the bottom.
            corner, upwards = (left + 0.5, top + height - 0.5), (1, -1)
            for lines, found in zip((brain, white), outlines[row, index], strict=True):
                lines += [line * upwards + corner for line in found]
    axes.set(xlim=(0, 3 * cell), ylim=(3 * cell, 0))
    axes.add_collection(LineCollection(brain, colors="cyan", linewidths=0.6))
    axes.add_collection(LineCollection(white, colors="yellow", linewidths=0.3))
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=70, facecolor="black")
    return content.getvalue()


def _cuts(size: int) -> tuple[int, ...]:
    """Indices of the slices shown along an axis of ``size`` voxels."""
    return tuple(round(share * (size - 1)) for share in (0.35, 0.5, 0.62))


@lru_cache(maxsize=1)
def _outlines(
    shape: tuple[int, int, int], affine: tuple[float, ...]
) -> dict[tuple[int, int], tuple[Lines, Lines]]:
    """(axis, index) of each slice -> outlines of the template's brain and white matter on a grid.

    They are the same for every scan.
    """
    brain, white = _template_on(shape, affine)

    def lines(array: NDArray[np.float32], axis: int, index: int) -> Lines:
        found: Any = contour_generator(z=np.take(array, index, axis).T).lines(0.5)
        return list(found)

    return {
        (axis, index): (lines(brain, axis, index), lines(white, axis, index))
        for axis in range(3)
        for index in _cuts(shape[axis])
    }


def _template_on(
    shape: tuple[int, int, int], affine: tuple[float, ...]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The template's brain and white matter on a grid [X, Y, Z]."""
    template = load_template()
    centers = points(shape, np.array(affine).reshape(4, 4))
    maps = (template.brain.astype(np.float32), template.white)
    brain, white = (Image(a, template.affine).at(centers).reshape(shape) for a in maps)
    return brain, white


def _parts(
    scans: Sequence[tuple[Entry, Mapping[str, float]]],
    images: Iterable[str],
    failed: Sequence[tuple[str, str]],
    pictures: Mapping[str, bytes],
) -> Iterator[str]:
    """The parts of the page."""
    count = sum(bool(entry.warnings) for entry, _ in scans) + len(failed)
    first = f"{count} of {len(scans) + len(failed)} scans failed or have warnings; they come first."
    yield f"<h1>Registered scans</h1>{notice()}<p>{first}</p>{LEGEND}"
    if failed:
        yield f"<h2>Failed: {len(failed)}</h2>{table(('scan', 'reason'), failed)}"
        for name, reason in failed:
            if name in pictures:
                yield image(pictures[name], name, reason)
    found = ((entry.name, warning) for entry, _ in scans for warning in entry.warnings)
    if rows := [(one, ", ".join(names)) for one, names in grouped(found, len(scans))]:
        yield f"<h2>Warnings</h2>{table(('warning', 'scans'), rows)}"
    for (entry, measures), montage_image in zip(scans, images, strict=True):
        values = ", ".join(f"{key} {value:.3f}" for key, value in measures.items())
        warnings = "".join(f"<p class=warning>{text(w)}</p>" for w in entry.warnings)
        yield f"<h3>{text(entry.name)}</h3>{warnings}{image(montage_image, entry.name, values)}"
