"""Volumes are those of the voxels, whatever the grid, and agree with the tool's own."""

import numpy as np
import pytest

from tests.data.segmentation.heads import dlmuse_volumes, needs_heads, people
from uncus.data.segmentation.segmentation import REGIONS, Segmentation, region_volumes


def test_volumes_are_in_ml_on_an_oblique_anisotropic_grid() -> None:
    labels = np.repeat(np.arange(20, dtype=np.uint8), 50).reshape(10, 10, 10)
    turn = np.array([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([-1.0, 2.0, 4.0])
    found = Segmentation.from_labels(labels, affine, "test").volumes
    assert found.keys() == REGIONS.keys()
    assert found["left hippocampus"] == pytest.approx(50 * 8 / 1000)
    assert found["brain"] == pytest.approx(17 * 50 * 8 / 1000)
    assert found["intracranial space"] == pytest.approx(18 * 50 * 8 / 1000)


def test_volumes_of_probabilities_and_masks() -> None:
    ml = np.zeros(20)
    ml[13] = 2.5
    assert region_volumes(ml)["right hippocampus"] == region_volumes(ml)["brain"] == 2.5
    labels = np.array([[[0, 2, 12, 13]]], np.uint8)
    segmentation = Segmentation.from_labels(labels, np.eye(4), "test")
    assert segmentation.mask((12, 13)).tolist() == [[[False, False, True, True]]]


@needs_heads
def test_real_heads_have_the_volumes_that_their_authors_measured() -> None:
    for row, segmentation in people():
        expected = dlmuse_volumes(row)
        for region in ("left hippocampus", "right hippocampus", "intracranial space"):
            assert segmentation.volumes[region] == pytest.approx(expected[region], rel=0.1)
        inferior = {"left": "left", "right": "right"}
        for side in inferior:
            whole = row[f"ventricle_{side}"] + row[f"inferior_ventricle_{side}"]
            found = segmentation.volumes[f"{side} lateral ventricle"]
            assert found == pytest.approx(whole / 1000, rel=0.05)
