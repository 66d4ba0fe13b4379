"""The template is nilearn's, read without nilearn."""

import numpy as np
from nilearn import datasets

from uncus.data.mni.template import read_map


def test_maps_are_those_that_nilearn_reads() -> None:
    for name, load in (
        ("t1", datasets.load_mni152_template),
        ("gm", datasets.load_mni152_gm_template),
        ("wm", datasets.load_mni152_wm_template),
    ):
        image, ours = load(resolution=1), read_map(name)
        np.testing.assert_array_equal(ours.array, np.asarray(image.dataobj, np.float32))
        np.testing.assert_array_equal(ours.affine, image.affine)
