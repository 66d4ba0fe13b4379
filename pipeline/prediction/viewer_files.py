"""What a viewer needs of an answer: the scan on its own grid, the map beside it, its regions.

The map is not resampled: a viewer does that itself, from the run's grid, through the affine that
leads to the scan's mm. So it is small, and soon there.
"""

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from uncus.data import atlas
from uncus.data.imageio.volume import native_array, write_nifti
from uncus.data.space import Placed
from uncus.pipeline.prediction.results import Explanation

SHADES = 255
STRONGEST = 127
BRIGHT = 99.9
"""Percentile of the scan that is shown white; single voxels of vessels and fat lie far above."""

STRONG = 99.9
"""Percentile of a map's strength that the colours end at; single voxels may lie far above."""


def write_scan(path: Path, placed: Placed) -> None:
    """The scan in its file's voxel order and affine, in 256 shades of grey."""
    volume = placed.volume
    low = float(volume.array.min())
    high = float(np.percentile(volume.array[::2, ::2, ::2], BRIGHT))
    high = high if high > low else float(volume.array.max())
    shades = (volume.array - low) * np.float32(SHADES / (high - low))
    grey = np.clip(shades, 0, SHADES, out=shades).astype(np.uint8)
    write_nifti(path, native_array(volume, grey), volume.native.affine)


def write_map(path: Path, explanation: Explanation) -> dict[str, Any]:
    """Write a map on the run's grid, within the brain, with the affine to the scan's mm.

    Coarse maps often extend far beyond the brain and may peak there, which would hide the rest.

    Returns
    -------
    ``top``, the stored value at the end of the color scale; ``signed``, whether there are negative
    values; ``peak``, the position of the strongest voxel in the scan's mm (RAS+); ``outside``, the
    share of the whole map that is outside the brain and so left out.
    """
    placed, grid = explanation.prediction.placed, explanation.grid
    whole = float(np.abs(explanation.saliency).sum())
    saliency = np.where(placed.mask, explanation.saliency, np.float32(0))
    inside = float(np.abs(saliency).sum())
    strength = np.abs(saliency)
    top = float(np.percentile(strength[strength > 0], STRONG)) if inside else 0.0
    scaled = np.clip(saliency * (STRONGEST / top if top else 0.0), -STRONGEST, STRONGEST)
    scaled = np.rint(scaled).astype(np.int8)
    affine = np.linalg.inv(placed.to_grid) @ grid.affine
    write_nifti(path, scaled, affine)
    voxel = np.unravel_index(int(np.abs(saliency).argmax()), saliency.shape)
    peak = affine @ [*voxel, 1.0]
    return {
        "top": STRONGEST,
        "signed": bool((scaled < 0).any()),
        "peak": [round(float(c), 1) for c in peak[:3]],
        "outside": round(1 - inside / whole, 4) if whole else 0.0,
    }


def centres(placed: Placed) -> dict[str, list[float]]:
    """Region -> a point inside it, in the scan's mm (RAS+)."""
    back = np.linalg.inv(placed.to_grid)
    found = {}
    for name, point in _standard_centres().items():
        x, y, z, _ = back @ [*point, 1.0]
        found[name] = [round(float(c), 1) for c in (x, y, z)]
    return found


@lru_cache(maxsize=1)
def _standard_centres() -> dict[str, tuple[float, float, float]]:
    """Region -> the voxel of its own that is nearest to its centre of mass, in MNI152 mm."""
    whole = atlas.load_atlas()
    found = {}
    places = np.argwhere(whole.labels > 0)
    labels = whole.labels[tuple(places.T)]
    for label, name in whole.names.items():
        own = places[labels == label]
        if len(own):
            nearest = own[((own - own.mean(0)) ** 2).sum(1).argmin()]
            x, y, z, _ = whole.affine @ [*nearest, 1.0]
            found[name] = (float(x), float(y), float(z))
    return found
