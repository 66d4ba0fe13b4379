"""The template: ICBM152 2009a, nonlinear, symmetric, 1 mm, skull-stripped, as nilearn ships it.

Fonov et al., NeuroImage 54, 2011, 313-327. Frame: MNI152, RAS+, mm; the plane x = 0 separates the
hemispheres.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from uncus.data.cache import Arrays, kept
from uncus.data.errors import BadInput
from uncus.data.geometry.grid import Grid
from uncus.data.geometry.image import Affine, Image

NAME = "MNI152NLin2009aSym"  # TemplateFlow's identifier
PAD = 20  # voxels of 1 mm around the template's brain
MARGIN_MM = 6.0  # around the template's brain, from which brains differ by a few millimeters


@dataclass(frozen=True, eq=False)
class Template:
    """The template's images and tissue maps.

    Parameters
    ----------
    t1: float32 [X, Y, Z]; white matter about 1, 0 outside the brain.
    white, gray: float32 [X, Y, Z], probabilities of the tissues.
    brain: bool [X, Y, Z].
    affine: float64 [4, 4], voxel index -> mm.
    """

    t1: NDArray[np.float32]
    white: NDArray[np.float32]
    gray: NDArray[np.float32]
    brain: NDArray[np.bool_]
    affine: Affine

    @cached_property
    def center(self) -> NDArray[np.float64]:
        """The center of the brain's bounding box, mm [3]."""
        box = np.argwhere(self.brain)
        middle = (box.min(axis=0) + box.max(axis=0)) / 2
        center: NDArray[np.float64] = self.affine[:3, :3] @ middle + self.affine[:3, 3]
        return center

    @cached_property
    def distance(self) -> NDArray[np.float32]:
        """Distance from the brain's edge, mm, negative inside: float32 [X, Y, Z]."""

        def both() -> Arrays:
            inward = ndimage.distance_transform_edt(self.brain)
            outward = ndimage.distance_transform_edt(~self.brain)
            distance = np.where(self.brain, 0.5 - inward, outward - 0.5)
            return {"distance": distance.astype(np.float32)}

        return kept("template-distance", facts(), both)["distance"]

    def near(self, mm: float) -> NDArray[np.bool_]:
        """The brain and all voxels less than ``mm`` from its edge, at most ``PAD``: [X, Y, Z].

        As by ``distance``, in a fraction of the time where that is not kept.
        """

        def outside() -> Arrays:
            return {"near": ndimage.distance_transform_edt(~self.brain) < mm + 0.5}

        return kept("template-near", facts() | {"mm": mm}, outside)["near"]


def facts() -> dict[str, Any]:
    """What is kept of the template depends on these."""
    return {"format": 2, "pad": PAD, **{name: version(name) for name in ("nilearn", "scipy")}}


@lru_cache(maxsize=1)
def load_template() -> Template:
    """Load the template at 1 mm, padded by 20 mm (cached)."""
    arrays = [read_map(name) for name in ("t1", "wm", "gm")]
    box = ndimage.find_objects((arrays[0].array > 0).astype(np.uint8))[0]
    t1, white, gray = (np.pad(each.array[box], PAD) for each in arrays)
    affine = arrays[0].affine.copy()
    affine[:3, 3] += [part.start - PAD for part in box]
    return Template(
        t1=t1 / t1[white > 0.9].mean(),
        white=white,
        gray=gray,
        brain=t1 > 0,  # it has no holes
        affine=affine,
    )


def read_map(name: str) -> Image:
    """One of nilearn's maps, from 0 to 1, as its ``load_mni152_template`` reads it.

    nilearn is not imported, which takes longer than to read the map.
    """
    package = find_spec("nilearn")
    if package is None or package.origin is None:
        raise BadInput("nilearn", "is not installed", "pip install nilearn")
    folder = Path(package.origin).parent / "datasets" / "data"
    image = nib.Nifti1Image.from_filename(
        folder / f"mni_icbm152_{name}_tal_nlin_sym_09a_converted.nii.gz"
    )
    array = np.asanyarray(image.dataobj).astype(np.float32)
    return Image(array / array.max(), np.asarray(image.affine, np.float64))


def mni_grid(spacing: NDArray[np.float64]) -> Grid:
    """The grid of space "mni": the bounding box of the template's brain plus 6 mm.

    At 1 mm it has 157 x 193 x 167 voxels. It is centered on x = 0, so a flip swaps hemispheres.
    """
    template = load_template()
    box = np.argwhere(template.brain)
    low = template.affine[:3, 3] + box.min(axis=0) - 0.5 - MARGIN_MM
    high = template.affine[:3, 3] + box.max(axis=0) + 0.5 + MARGIN_MM
    return Grid.from_box(low, high, spacing)
