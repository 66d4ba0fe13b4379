"""The template: ICBM152 2009a, nonlinear, symmetric, 1 mm, skull-stripped, as nilearn ships it.

Fonov et al., NeuroImage 54, 2011, 313-327. Frame: MNI152, RAS+, mm; the plane x = 0 separates the
hemispheres.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from uncus.data.geometry.grid import Grid
from uncus.data.geometry.image import Affine, Image, coarser

NAME = "MNI152NLin2009aSym"  # TemplateFlow's identifier
MARGIN_MM = 6.0  # around the template's brain, from which brains differ by a few millimeters
SHELL_MM = (2.0, 7.0)  # distance from the brain's edge of fluid and bone, dark in T1
SHELL_VALUE = 0.2  # relative to white matter
SHELL_WEIGHT = 0.4


@dataclass(frozen=True, eq=False)
class Template:
    """The template's images and tissue maps.

    Parameters
    ----------
    t1: float32 [X, Y, Z]; white matter about 1, 0 outside the brain.
    white, gray: float32 [X, Y, Z], probabilities of the tissues.
    brain: bool [X, Y, Z].
    distance: float32 [X, Y, Z], mm from the brain's edge, negative inside.
    affine: float64 [4, 4], voxel index -> mm.
    """

    t1: NDArray[np.float32]
    white: NDArray[np.float32]
    gray: NDArray[np.float32]
    brain: NDArray[np.bool_]
    distance: NDArray[np.float32]
    affine: Affine

    @cached_property
    def center(self) -> NDArray[np.float64]:
        """The center of the brain's bounding box, mm [3]."""
        box = np.argwhere(self.brain)
        middle = (box.min(axis=0) + box.max(axis=0)) / 2
        center: NDArray[np.float64] = self.affine[:3, :3] @ middle + self.affine[:3, 3]
        return center


@lru_cache(maxsize=1)
def load_template() -> Template:
    """Load the template at 1 mm, padded by 20 mm (cached; about 5 s)."""
    from nilearn import datasets

    loaders = (
        datasets.load_mni152_template,
        datasets.load_mni152_wm_template,
        datasets.load_mni152_gm_template,
    )
    images = [load(resolution=1) for load in loaders]
    arrays = [np.asarray(image.dataobj, dtype=np.float32) for image in images]
    box = ndimage.find_objects((arrays[0] > 0).astype(np.uint8))[0]
    pad = 20
    t1, white, gray = (np.pad(array[box], pad) for array in arrays)
    affine = images[0].affine.astype(np.float64)
    affine[:3, 3] += [part.start - pad for part in box]
    brain = ndimage.binary_fill_holes(t1 > 0)
    outward = ndimage.distance_transform_edt(~brain)
    inward = ndimage.distance_transform_edt(brain)
    return Template(
        t1=t1 / t1[white > 0.9].mean(),
        white=white,
        gray=gray,
        brain=brain,
        distance=(np.where(brain, 0.5 - inward, outward - 0.5)).astype(np.float32),
        affine=affine,
    )


@lru_cache(maxsize=4)
def pattern(spacing: float) -> tuple[Image, Image]:
    """The expected intensities of a head in and around its brain, and their weights.

    The template's T1 with a dark shell around its superior part for fluid and skull, at
    ``spacing`` mm.
    """
    template = load_template()
    height = template.affine[2, 3] + np.arange(template.t1.shape[2])
    low, high = SHELL_MM
    shell = (template.distance > low) & (template.distance < high) & (height > -20)
    values = np.where(template.brain, template.t1, SHELL_VALUE).astype(np.float32)
    weight = template.brain + np.float32(SHELL_WEIGHT) * shell
    mean = coarser(Image(values * weight, template.affine), spacing)
    share = coarser(Image(weight.astype(np.float32), template.affine), spacing)
    array = (mean.array / np.maximum(share.array, 1e-3)).astype(np.float32)
    return Image(array, share.affine), share


def mni_grid(spacing: NDArray[np.float64]) -> Grid:
    """The grid of space "mni": the bounding box of the template's brain plus 6 mm.

    At 1 mm it has 157 x 193 x 167 voxels. It is centered on x = 0, so a flip swaps hemispheres.
    """
    template = load_template()
    box = np.argwhere(template.brain)
    low = template.affine[:3, 3] + box.min(axis=0) - 0.5 - MARGIN_MM
    high = template.affine[:3, 3] + box.max(axis=0) + 0.5 + MARGIN_MM
    return Grid.from_box(low, high, spacing)
