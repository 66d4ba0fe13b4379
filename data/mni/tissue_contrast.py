"""Whether a registered scan shows a brain as a T1-weighted scan does.

The outline alone says little: the extracted brain takes its shape from the template. So the scan
is compared with the template inside the brain, where a bottle, a limb or noise is like anything,
and its tissues' order is read: in T1 fluid is darkest, then grey matter, then white.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from uncus.data.geometry.image import Affine, Image, coarser, points
from uncus.data.mni.template import load_template

LOOK_MM = 3.0  # about the distance by which affinely registered brains differ
DEEP_MM = 3.0  # from the brain's edge; nearer to it anything that ends there looks alike


@dataclass(frozen=True)
class Tissue:
    """What lies where the template has its tissues.

    Parameters
    ----------
    likeness: correlation with the template's T1 deep inside its brain, -1 to 1.
    fluid, grey, white: median intensities where the template has ventricles, grey and white matter.
    """

    likeness: float
    fluid: float
    grey: float
    white: float

    @property
    def contrast(self) -> float:
        """White over grey matter, less one; above 0 in T1, below in T2, FLAIR and PD."""
        return self.white / self.grey - 1 if self.grey > 0 else 0.0


def tissue(image: Image, transform: Affine) -> Tissue:
    """Read a scan (bias corrected); ``transform``: template mm -> scan mm."""
    places, t1, parts = _expected()
    at = transform[:3, :3] @ places + transform[:3, 3:]
    values = coarser(image, LOOK_MM).at(at, outside=np.nan)
    seen = np.isfinite(values)

    def middle(part: NDArray[np.bool_]) -> float:
        shown = values[part & seen]
        return float(np.median(shown)) if shown.size else 0.0

    got, wanted = values[seen], t1[seen]
    alike = 0.0
    if got.size > 1 and got.std() > 0:
        alike = float(np.corrcoef(got, wanted)[0, 1])
    return Tissue(alike, *(middle(part) for part in parts))


@lru_cache(maxsize=1)
def _expected() -> tuple[NDArray[np.float64], NDArray[np.float32], list[NDArray[np.bool_]]]:
    """Places [3, N] (mm) in the template's brain, its T1 [N], where fluid, grey, white are [N]."""
    template = load_template()
    maps = (template.brain, template.t1, template.grey, template.white, template.distance)
    brain, t1, grey, white, distance = (
        coarser(Image(each.astype(np.float32), template.affine), LOOK_MM) for each in maps
    )
    inside = (brain.array.ravel() > 0.9) & (distance.array.ravel() < -DEEP_MM)
    places = points(brain.array.shape, brain.affine)[:, inside]
    g, w = (each.array.ravel()[inside] for each in (grey, white))
    return places, t1.array.ravel()[inside], [1 - g - w > 0.7, g > 0.7, w > 0.8]
