"""Boxes around hippocampus and amygdala: both sides by one network, drawn where they lie."""

import numpy as np
import pytest
import torch
from torch import Tensor

from uncus.data.geometry.image import Image
from uncus.data.segmentation.boxes import COUNT, FOUND, Box, box_affine, label_box

HEAD = np.array([[-1.0, 0, 0, 60], [0, 0, 2, -50], [0, 1, 0, -40], [0, 0, 0, 1]])


def by_intensity(image: Tensor) -> Tensor:
    """What is bright in the lateral half is hippocampus, in the medial half amygdala."""
    bright = image[0, 0] > 0.5
    lateral = torch.arange(image.shape[2]) < image.shape[2] / 2
    scores = torch.zeros(1, COUNT, *image.shape[2:])
    scores[0, 0] = 10
    scores[0, FOUND[0]][bright & lateral[:, None, None]] = 20
    scores[0, FOUND[1]][bright & ~lateral[:, None, None]] = 20
    return scores


def head(middle: tuple[float, float, float], shape: tuple[int, int, int]) -> Image:
    """A bar of 20 x 8 x 8 mm along left-right, on voxels of 1 x 2 x 1 mm, stored LSA."""
    index = np.indices(shape).reshape(3, -1)
    at = (HEAD[:3, :3] @ index + HEAD[:3, 3:]).T - middle
    inside = (np.abs(at) < [10, 4, 4]).all(1).reshape(shape)
    return Image(np.where(inside, 1.0, 0.0).astype(np.float32), HEAD)


@pytest.mark.parametrize("side", [0, 1])
def test_both_sides_have_their_structures_outwards_and_inwards(side: int) -> None:
    sign = 1 if side else -1
    middle = (sign * 25.0, -10.0, 5.0)
    image = head(middle, (120, 80, 60))
    box = label_box(by_intensity, image, box_affine(np.array(middle), np.eye(3), side), side)
    hippocampus, amygdala = box.structures
    assert (hippocampus, amygdala) == ((13, 15) if side else (12, 14))
    half = 19 * 3 * 7 * 2 / 1000 / 2  # ml
    assert box.volumes()[hippocampus] == pytest.approx(half, rel=0.2)
    labels = np.zeros(image.array.shape, np.uint8)
    box.draw(labels, image.affine)
    for label, expected in ((hippocampus, sign * 30.0), (amygdala, sign * 20.0)):
        found = HEAD[:3, :3] @ np.argwhere(labels == label).mean(0) + HEAD[:3, 3]
        assert found == pytest.approx([expected, -10, 5], abs=1.01)


def test_what_lies_beyond_the_scan_is_nothing() -> None:
    """The box begins outside: nothing is found there, and nothing drawn beyond the array."""
    image = head((25.0, -10.0, 5.0), (40, 80, 60))  # from x = 21 mm on
    box = label_box(by_intensity, image, box_affine(np.array([25.0, -10, 5]), np.eye(3), 1), 1)
    assert sum(box.volumes().values()) < 0.8 * 19 * 3 * 7 * 2 / 1000
    labels = np.zeros(image.array.shape, np.uint8)
    box.draw(labels, image.affine)
    far = Box(0, box.probabilities, box_affine(np.array([900.0, 0, 0]), np.eye(3), 0))
    before = labels.copy()
    far.draw(labels, image.affine)
    assert labels.any() and np.array_equal(labels, before)
