"""The template is nilearn's, read without nilearn; what is measured on it is kept."""

from pathlib import Path

import numpy as np
import pytest
from nilearn import datasets
from scipy import ndimage

from uncus.data.cache import cache_folder
from uncus.data.mni.template import load_template, read_map


def test_maps_are_those_that_nilearn_reads() -> None:
    for name, load in (
        ("t1", datasets.load_mni152_template),
        ("gm", datasets.load_mni152_gm_template),
        ("wm", datasets.load_mni152_wm_template),
    ):
        image, ours = load(resolution=1), read_map(name)
        np.testing.assert_array_equal(ours.array, np.asarray(image.dataobj, np.float32))
        np.testing.assert_array_equal(ours.affine, image.affine)


def test_the_surroundings_of_the_brain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Computed for themselves, and kept, they are those of the distance from its edge."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    template = load_template()
    assert not (ndimage.binary_fill_holes(template.brain) & ~template.brain).any()
    near = template.near(4.0)
    names = [path.name.rpartition("-")[0] for path in cache_folder().iterdir()]
    assert names == ["template-near"]
    np.testing.assert_array_equal(near, template.near(4.0))
    np.testing.assert_array_equal(near, template.distance < 4.0)
    assert template.near(1.0).sum() < near.sum()
