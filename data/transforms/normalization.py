"""Normalize intensities inside the brain."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from monai.data.meta_tensor import MetaTensor
from monai.transforms.transform import Transform
from numpy.typing import NDArray

from uncus.data.transforms.dictionary import DictionaryTransform
from uncus.data.transforms.scan_tensor import affine_of, voxels, with_voxels

BACKGROUND = 0.0


class NormalizeBrain(Transform):
    """Z-scores over ``mask`` in ``meta`` after clipping to percentiles inside it; 0 outside.

    (v - mean) / std, with the mean and std of the clipped values inside. A constant gives 0.
    MONAI's NormalizeIntensity(nonzero=True) takes dark tissue for background.

    Parameters
    ----------
    percentiles: to which values are clipped.
    """

    def __init__(self, percentiles: Sequence[float] = (0.5, 99.5)) -> None:
        low, high = percentiles
        if not 0 <= low < high <= 100:
            raise ValueError(f"percentiles {low} and {high}: must be ascending, 0 to 100")
        self.percentiles = (float(low), float(high))

    def parameters(self) -> dict[str, Any]:
        """The parameters for JSON."""
        return {"percentiles": list(self.percentiles)}

    def __call__(self, image: MetaTensor) -> MetaTensor:
        """``image`` [1, X, Y, Z], normalized."""
        array = self.normalize(voxels(image), image.meta["mask"][0].numpy())
        return with_voxels(image, array, affine_of(image))

    def normalize(self, array: NDArray[np.float32], mask: NDArray[np.bool_]) -> NDArray[np.float32]:
        """The same for arrays [X, Y, Z]."""
        values = array[mask].astype(np.float64)
        low, high = np.percentile(values, self.percentiles)
        values = np.clip(values, low, high)
        spread = values.std()
        result = np.full(array.shape, BACKGROUND, np.float32)
        if spread > 1e-12 * max(1.0, abs(low), abs(high)):
            result[mask] = (values - values.mean()) / spread
        return result


class NormalizeBraind(DictionaryTransform):
    """The dictionary form of :class:`NormalizeBrain`."""

    form = NormalizeBrain
