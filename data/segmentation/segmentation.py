"""A segmented scan: its classes on the scan's own voxels, and the volumes of its regions."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from uncus.data.segmentation.correction import Corrections
from uncus.data.segmentation.labels import BRAIN, INTRACRANIAL, LABELS

REGIONS: Mapping[str, Iterable[int]] = {
    "left hippocampus": (12,),
    "right hippocampus": (13,),
    "left amygdala": (14,),
    "right amygdala": (15,),
    "left lateral ventricle": (10,),
    "right lateral ventricle": (11,),
    "brain": BRAIN,
    "intracranial space": INTRACRANIAL,
}
"""Region -> its classes; the brain includes the lateral ventricles."""


@dataclass(frozen=True, eq=False)
class Segmentation:
    """A segmented scan.

    Parameters
    ----------
    labels: uint8 [X, Y, Z], numbers of ``LABELS`` on the scan's voxels, in RAS+ order as
        ``Volume.array``.
    affine: float64 [4, 4], voxel index -> mm, RAS+, as ``Volume.affine``.
    volumes: region -> ml, see :func:`region_volumes`; of a network, from the sums of its
        probabilities, which partial volume does not bias.
    method: what segmented it: the SHA-256 of a network's weights, or a name.
    corrections: of this method, see :func:`uncus.data.segmentation.correction.load`; without them
        there are no centiles.
    """

    labels: NDArray[np.uint8]
    affine: NDArray[np.float64]
    volumes: Mapping[str, float]
    method: str
    corrections: Corrections = field(default_factory=dict)

    @classmethod
    def from_labels(
        cls,
        labels: NDArray[np.uint8],
        affine: NDArray[np.float64],
        method: str,
        corrections: Corrections = MappingProxyType({}),
    ) -> "Segmentation":
        """One whose volumes are counts of voxels."""
        voxel = abs(float(np.linalg.det(affine[:3, :3]))) / 1000
        counts = np.bincount(labels.ravel(), minlength=len(LABELS))
        return cls(labels, affine, region_volumes(counts * voxel), method, corrections)

    def mask(self, classes: Iterable[int]) -> NDArray[np.bool_]:
        """The voxels [X, Y, Z] of some classes."""
        chosen = np.zeros(len(LABELS), bool)
        chosen[list(classes)] = True
        return chosen[self.labels]


def region_volumes(classes: NDArray[np.floating]) -> dict[str, float]:
    """Region -> ml, from the ml of each class [20]."""
    return {name: float(classes[list(parts)].sum()) for name, parts in REGIONS.items()}
