"""The grid of scans that are not registered: it covers the brains of all of them."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from uncus.data import bids_derivatives
from uncus.data.cohorts.scans import Scan
from uncus.data.errors import BadInput
from uncus.data.files import write_json
from uncus.data.geometry.foreground import brain_mask
from uncus.data.imageio.volume import Limits, load_files, read_volume
from uncus.data.space import Grid
from uncus.pipeline.preparation.refusals import pictured

MEASURES = ".measures"
STRAY_MM = 15.0


@dataclass(frozen=True)
class Measure:
    """A scan's hash and the bounding box of its brain (outer faces, mm, RAS+)."""

    source_sha256: str
    low: tuple[float, ...]
    high: tuple[float, ...]


def measure(root: Path, scan: Scan) -> Measure:
    """Find the bounding box of a scan's brain; stored in ``root`` under the source's hash."""
    files = load_files(scan.path)
    source_hash = bids_derivatives.source_sha256(files, scan.series)
    stored = root / MEASURES / f"{source_hash}-{bids_derivatives.SCHEMA}.json"
    try:
        value = json.loads(stored.read_text(encoding="utf-8"))
        low, high = tuple(map(float, value["low"])), tuple(map(float, value["high"]))
        return Measure(source_hash, low, high)
    except (OSError, ValueError, TypeError, KeyError):
        pass  # not measured yet, or the file is damaged
    volume = read_volume(scan.path, series=scan.series, files=files)
    with pictured(root, scan.name, volume):
        box = np.argwhere(brain_mask(volume))
    ends = np.array([box.min(axis=0) - 0.5, box.max(axis=0) + 0.5])
    corners = np.stack(np.meshgrid(*ends.T, indexing="ij"), axis=-1).reshape(-1, 3)
    corners_mm = corners @ volume.affine[:3, :3].T + volume.affine[:3, 3]
    result = Measure(
        source_hash,
        tuple(corners_mm.min(axis=0).round(4).tolist()),
        tuple(corners_mm.max(axis=0).round(4).tolist()),
    )
    write_json(stored, asdict(result))
    return result


def common_grid(measures: Sequence[Measure], spacing: NDArray[np.float64]) -> Grid:
    """The grid of ``spacing`` (mm) that covers the union of the brains' boxes.

    A face far beyond the median one (15 mm, or 5 robust standard deviations if positions vary more)
    is ignored: one misplaced scan must not enlarge the grid of all.

    Raises BadInput if the grid has too many voxels.
    """
    lows = np.array([measure.low for measure in measures])
    highs = np.array([measure.high for measure in measures])

    def extreme(outward: NDArray[np.float64]) -> NDArray[np.float64]:
        middle = np.median(outward, axis=0)
        reach = np.maximum(STRAY_MM, 5 * 1.4826 * np.median(np.abs(outward - middle), axis=0))
        farthest: NDArray[np.float64] = np.where(outward <= middle + reach, outward, -np.inf).max(
            axis=0
        )
        return farthest

    grid = Grid.from_box(-extreme(-lows), extreme(highs), spacing)
    if np.prod(grid.shape, dtype=float) > Limits().voxels:
        raise BadInput(
            f"--spacing {' x '.join(f'{step:g}' for step in grid.spacing)}",
            f"gives a grid of {' x '.join(map(str, grid.shape))} voxels",
            "choose larger voxels",
        )
    return grid
