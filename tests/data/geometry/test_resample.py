"""Both implementations of linear resampling agree."""

import numpy as np
from scipy import ndimage

from uncus.data.geometry import resample


def test_separable_and_general_resampling_agree() -> None:
    """Products along the axes, for grids that are not oblique, and scipy's general transform."""
    rng = np.random.default_rng(0)
    array = rng.random((13, 9, 17), np.float32)
    step, offset, shape = np.array([1.7, 0.6, 2.2]), np.array([-0.8, 0.3, 1.1]), (8, 14, 9)
    sigma = np.array([0.6, 0.0, 0.9])
    fast = resample.sample(array, np.diag(step), offset, shape, sigma)
    for axis, width in enumerate(sigma):
        if width:
            array = ndimage.gaussian_filter1d(array, width, axis, mode="constant")
    slow = ndimage.affine_transform(array, step, offset, shape, order=1, mode="grid-constant")
    np.testing.assert_allclose(fast, slow, atol=1e-6)
