"""Localization: is a map's evidence where the disease is known to be?"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from sklearn.metrics import roc_auc_score

TOLERANCE = 1
"""Voxels by which a map's peak may miss the lesion: maps are smooth, and lesions thin."""


def localization(
    saliency: NDArray[Any], lesion: NDArray[np.bool_], brain: NDArray[np.bool_]
) -> dict[str, float]:
    """How well a map [X, Y, Z] finds a lesion; negative values, evidence against, count as 0.

    Returns
    -------
    ``auc``: of the lesion's voxels against the rest of the brain; 0.5 for a map that does not know.
    ``pointing``: 1 if the map's peak in the brain is in the lesion, or at most a voxel from it
    (pointing game, Zhang 2018, arXiv 1608.00507). ``share``, ``times_brain``, ``times_volume``: see
    :func:`concentration`.
    """
    mass = np.clip(saliency, 0, None)
    at = np.unravel_index(int(np.where(brain, mass, -1).argmax()), mass.shape)
    near = ndimage.binary_dilation(lesion, iterations=TOLERANCE)
    inside = lesion & brain
    known = inside.any() and not inside[brain].all()
    return {
        "auc": float(roc_auc_score(inside[brain], mass[brain])) if known else 0.5,
        "pointing": float(bool(near[at]) and bool(mass[at] > 0)),
        **concentration(saliency, lesion, brain),
    }


def concentration(
    saliency: NDArray[Any], lesion: NDArray[np.bool_], brain: NDArray[np.bool_]
) -> dict[str, float]:
    """Localization of positive saliency in a lesion, relative to a uniform map.

    Parameters
    ----------
    saliency: [X, Y, Z]; negative values, evidence against the class, are ignored.
    lesion, brain: [X, Y, Z], on the same grid.

    Returns
    -------
    ``share``: the share of the saliency inside the lesion. ``times_brain``, ``times_volume``: that
    share divided by the share of a map that is uniform over the brain, or over the volume.
    """
    mass = np.clip(saliency.astype(np.float64), 0, None)
    share = float(mass[lesion].sum() / mass.sum()) if mass.any() else 0.0
    inside = int(lesion.sum())
    return {
        "share": share,
        "times_brain": share * int(brain.sum()) / inside,
        "times_volume": share * lesion.size / inside,
    }
