"""The standard brain: ICBM152 2009a, nonlinear, symmetric, as nilearn ships it (1 mm, stripped).

Fonov et al., NeuroImage 54, 2011, 313-327. Frame: MNI152, RAS+, mm; x = 0 lies between the
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
MARGIN_MM = 6.0  # around the template's brain: brains differ from it by a few millimetres
SHELL_MM = (2.0, 7.0)  # beyond the brain's edge lie fluid and bone, dark in a T1
SHELL_VALUE = 0.2  # of white matter
SHELL_WEIGHT = 0.4


@dataclass(frozen=True, eq=False)
class Template:
    """The template.

    Parameters
    ----------
    t1: float32 [X, Y, Z]; white matter about 1, 0 outside the brain.
    white, grey: float32 [X, Y, Z], probabilities of the tissues.
    brain: bool [X, Y, Z].
    distance: float32 [X, Y, Z], mm from the brain's edge, negative inside.
    affine: float64 [4, 4], voxel index -> mm.
    """

    t1: NDArray[np.float32]
    white: NDArray[np.float32]
    grey: NDArray[np.float32]
    brain: NDArray[np.bool_]
    distance: NDArray[np.float32]
    affine: Affine

    @cached_property
    def centre(self) -> NDArray[np.float64]:
        """The middle of the brain's box, mm [3]."""
        box = np.argwhere(self.brain)
        middle = (box.min(axis=0) + box.max(axis=0)) / 2
        found: NDArray[np.float64] = self.affine[:3, :3] @ middle + self.affine[:3, 3]
        return found


@lru_cache(maxsize=1)
def load_template() -> Template:
    """The template at 1 mm with 20 mm of air around the brain (made once, in about 5 s)."""
    from nilearn import datasets

    loaders = (
        datasets.load_mni152_template,
        datasets.load_mni152_wm_template,
        datasets.load_mni152_gm_template,
    )
    images = [load(resolution=1) for load in loaders]
    arrays = [np.asarray(image.dataobj, dtype=np.float32) for image in images]
    box = ndimage.find_objects((arrays[0] > 0).astype(np.uint8))[0]
    air = 20
    t1, white, grey = (np.pad(array[box], air) for array in arrays)
    affine = images[0].affine.astype(np.float64)
    affine[:3, 3] += [part.start - air for part in box]
    brain = ndimage.binary_fill_holes(t1 > 0)
    outward = ndimage.distance_transform_edt(~brain)
    inward = ndimage.distance_transform_edt(brain)
    return Template(
        t1=t1 / t1[white > 0.9].mean(),
        white=white,
        grey=grey,
        brain=brain,
        distance=(np.where(brain, 0.5 - inward, outward - 0.5)).astype(np.float32),
        affine=affine,
    )


@lru_cache(maxsize=4)
def pattern(spacing: float) -> tuple[Image, Image]:
    """What a head should look like around its brain, and how much each place counts.

    The template's T1 with a dark shell around its upper part, where the skull lies, at
    ``spacing`` mm: values and weights.
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
    """The grid of space "mni": the template's brain box and 6 mm around it.

    At 1 mm it has 157 x 193 x 167 voxels. Its middle is x = 0, so a flip swaps the hemispheres.
    """
    template = load_template()
    box = np.argwhere(template.brain)
    low = template.affine[:3, 3] + box.min(axis=0) - 0.5 - MARGIN_MM
    high = template.affine[:3, 3] + box.max(axis=0) + 0.5 + MARGIN_MM
    return Grid.from_box(low, high, spacing)
