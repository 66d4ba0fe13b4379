"""Files for the viewer: the scan around its head, the map on the run's grid, region positions.

The viewer resamples the map itself, through the affine to the scan's mm, so its file stays small.
"""

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from uncus.data import atlas
from uncus.data.geometry.foreground import otsu
from uncus.data.imageio.volume import Volume
from uncus.data.imageio.writer import write_nifti
from uncus.data.space import Placed
from uncus.pipeline.prediction.results import Explanation

SHADES = 255
STRONGEST = 127
BRIGHT = 99.9
"""Percentile of the scan shown as white; single voxels of vessels and fat are far above it."""
AIR, AROUND_MM = 0.01, 10.0
"""Share of bright voxels below which a slice is air, and what is kept of it beside the head."""
STRONG = 99.9
"""Percentile of a map's absolute values at the end of the color scale."""


def write_scan(path: Path, placed: Placed) -> None:
    """Write the scan's own voxels around the head, in 256 shades of gray.

    The air beside it is left out: the browser paints a small volume sooner, and larger.
    """
    volume = placed.volume
    low = float(volume.array.min())
    high = float(np.percentile(volume.array[::2, ::2, ::2], BRIGHT))
    high = high if high > low else float(volume.array.max())
    box = head_box(volume)
    shades = (volume.array[box] - low) * np.float32(SHADES / (high - low))
    gray = np.clip(shades, 0, SHADES, out=shades).astype(np.uint8)
    affine = volume.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ [one.start for one in box]
    write_nifti(path, gray, affine)


def head_box(volume: Volume) -> tuple[slice, ...]:
    """The part of a scan that the head is in, with a margin; all of it where that is not seen."""
    coarse, box = volume.array[::2, ::2, ::2], []
    bright = coarse > otsu(coarse)
    for axis, (size, step) in enumerate(zip(volume.array.shape, volume.spacing, strict=True)):
        rest = tuple(other for other in range(3) if other != axis)
        ends = 2 * np.flatnonzero(bright.mean(axis=rest) > AIR)
        margin = round(AROUND_MM / step)
        first, last = (int(ends[0]), int(ends[-1])) if len(ends) else (0, size)
        box.append(slice(max(0, first - margin), min(size, last + 2 + margin)))
    return tuple(box)


def write_map(path: Path, explanation: Explanation) -> dict[str, Any]:
    """Write a map on the run's grid, within the brain, with the affine to the scan's mm.

    Coarse maps often extend far beyond the brain and may peak there, which would hide the rest.

    Returns
    -------
    ``top``, the stored value at the end of the color scale; ``signed``, whether there are negative
    values; ``peak``, the position of the largest value, most of all for what is explained, in
    the scan's mm (RAS+), None of an empty map; ``outside``, the
    share of the whole map that is outside the brain and so left out. ``doubts``: why not to trust
    the map; one without structure is empty. ``check``: the verdict on its method.
    """
    placed, grid = explanation.prediction.placed, explanation.grid
    total = float(np.abs(explanation.saliency).sum())
    saliency = np.where(placed.mask, explanation.saliency, np.float32(0))
    if not explanation.has_structure:
        saliency, total = np.zeros_like(saliency), 0.0
    inside = float(np.abs(saliency).sum())
    strength = np.abs(saliency)
    top = float(np.percentile(strength[strength > 0], STRONG)) if inside else 0.0
    scaled = np.clip(saliency * (STRONGEST / top if top else 0.0), -STRONGEST, STRONGEST)
    scaled = np.rint(scaled).astype(np.int8)
    affine = np.linalg.inv(placed.to_grid) @ grid.affine
    write_nifti(path, scaled, affine)
    best = np.where(placed.mask, saliency, -np.inf).argmax()
    voxel = np.unravel_index(int(best), saliency.shape)
    peak = affine @ [*voxel, 1.0]
    return {
        "top": STRONGEST,
        "signed": bool((scaled < 0).any()),
        "peak": [round(float(c), 1) for c in peak[:3]] if inside else None,
        "outside": round(1 - inside / total, 4) if total else 0.0,
        "doubts": list(explanation.doubts),
        "check": explanation.check,
    }


def write_atlas(path: Path, placed: Placed) -> None:
    """Write the labels of the regions on their own grid, with the affine to the scan's mm."""
    regions = atlas.load_atlas()
    affine = np.linalg.inv(placed.to_grid) @ regions.affine
    write_nifti(path, regions.labels.astype(np.uint8), affine)


def region_rows(rows: list[dict[str, Any]], placed: Placed) -> list[dict[str, Any]]:
    """The regions of a map in words, memory structures first, each with a point inside it (mm)."""
    points, order = centres(placed), list(atlas.GROUPS)
    labels = {name: label for label, name in atlas.load_atlas().names.items()}
    listed = [
        {
            "region": atlas.full_name(row["region"]),
            "group": atlas.group(row["region"]),
            "label": labels[row["region"]],
            "share": row["saliency_share"],
            "net": row["net_share"],
            "mm": points[row["region"]],
        }
        for row in rows
    ]
    return sorted(listed, key=lambda row: order.index(str(row["group"])))


def centres(placed: Placed) -> dict[str, list[float]]:
    """Region -> a point inside it, in the scan's mm (RAS+)."""
    to_scan = np.linalg.inv(placed.to_grid)
    points = {}
    for name, point in _standard_centres().items():
        x, y, z, _ = to_scan @ [*point, 1.0]
        points[name] = [round(float(c), 1) for c in (x, y, z)]
    return points


@lru_cache(maxsize=1)
def _standard_centres() -> dict[str, tuple[float, float, float]]:
    """Region -> the centre of its voxel nearest to its centre of mass, in MNI152 mm."""
    regions = atlas.load_atlas()
    points = {}
    voxels = np.argwhere(regions.labels > 0)
    labels = regions.labels[tuple(voxels.T)]
    for label, name in regions.names.items():
        own = voxels[labels == label]
        if len(own):
            nearest = own[((own - own.mean(0)) ** 2).sum(1).argmin()]
            x, y, z, _ = regions.affine @ [*nearest, 1.0]
            points[name] = (float(x), float(y), float(z))
    return points
