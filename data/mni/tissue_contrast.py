"""Check that a registered scan looks like a T1-weighted brain inside.

The outline is no evidence, since brain extraction takes its shape from the template. So the scan is
compared with the template deep inside the brain, which tells a brain from a bottle, a limb or
noise, and by the order of its tissues: in T1, fluid is darkest, then gray matter, then white.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from uncus.data.geometry.image import Affine, Image, coarser, points
from uncus.data.mni.template import load_template

SAMPLING_MM = 3.0  # about the distance by which affinely registered brains differ
MIN_DEPTH_MM = 3.0  # from the brain's edge, near which everything extracted looks alike


@dataclass(frozen=True)
class Tissue:
    """Intensities of a scan in the template's tissues.

    Parameters
    ----------
    likeness: correlation with the template's T1 deep inside its brain, -1 to 1.
    fluid, gray, white: median intensities where the template has ventricles, gray and white matter.
    """

    likeness: float
    fluid: float
    gray: float
    white: float

    @property
    def contrast(self) -> float:
        """White over gray matter, less one; above 0 in T1, below in T2, FLAIR and PD."""
        return self.white / self.gray - 1 if self.gray > 0 else 0.0


def measure_tissue(image: Image, transform: Affine) -> Tissue:
    """Measure a bias-corrected scan; ``transform``: template mm -> scan mm."""
    coordinates, t1, tissues = _expected()
    at = transform[:3, :3] @ coordinates + transform[:3, 3:]
    values = coarser(image, SAMPLING_MM).at(at, outside=np.nan)
    in_view = np.isfinite(values)

    def median(tissue: NDArray[np.bool_]) -> float:
        inside = values[tissue & in_view]
        return float(np.median(inside)) if inside.size else 0.0

    actual, expected = values[in_view], t1[in_view]
    likeness = 0.0
    if actual.size > 1 and actual.std() > 0:
        likeness = float(np.corrcoef(actual, expected)[0, 1])
    return Tissue(likeness, *map(median, tissues))


@lru_cache(maxsize=1)
def _expected() -> tuple[NDArray[np.float64], NDArray[np.float32], list[NDArray[np.bool_]]]:
    """Coordinates [3, N] (mm) in the template's brain; its T1 [N]; masks of its tissues [N]."""
    template = load_template()
    maps = (template.brain, template.t1, template.gray, template.white, template.distance)
    brain, t1, gray, white, distance = (
        coarser(Image(each.astype(np.float32), template.affine), SAMPLING_MM) for each in maps
    )
    inside = (brain.array.ravel() > 0.9) & (distance.array.ravel() < -MIN_DEPTH_MM)
    coordinates = points(brain.array.shape, brain.affine)[:, inside]
    g, w = (each.array.ravel()[inside] for each in (gray, white))
    return coordinates, t1.array.ravel()[inside], [1 - g - w > 0.7, g > 0.7, w > 0.8]
