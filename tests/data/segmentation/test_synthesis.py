"""Synthetic heads: reproducible, anatomical, left and right kept apart."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from uncus.data.segmentation import slabs
from uncus.data.segmentation.boxes import CLASSES, HIPPOCAMPUS
from uncus.data.segmentation.labels import MIRRORED
from uncus.data.segmentation.synthesis import view
from uncus.data.segmentation.synthesis.images import SyntheticBoxes, SyntheticHeads, SyntheticSlabs
from uncus.data.segmentation.synthesis.label_map import LabelMap
from uncus.data.segmentation.synthesis.random_numbers import Random
from uncus.data.segmentation.synthesis.view import View


@pytest.fixture(scope="module")
def label_map(tmp_path_factory: pytest.TempPathFactory) -> LabelMap:
    """A head of spheres and boxes at 4 mm, 256 mm wide, with FreeSurfer's numbers."""
    x, y, z = np.indices((64, 64, 64)) - 32
    head = np.zeros((64, 64, 64), np.int16)
    head[x**2 + y**2 + z**2 < 25**2] = 507
    brain = x**2 + y**2 + z**2 < 19**2
    head[brain] = 24
    inner = x**2 + y**2 + z**2 < 17**2
    head[inner] = np.where(x < 0, 3, 42)[inner]
    white = x**2 + y**2 + z**2 < 14**2
    head[white] = np.where(x < 0, 2, 41)[white]
    for sign, ventricle, hippocampus in ((-1, 4, 17), (1, 43, 53)):
        head[((x - sign * 4) ** 2 + y**2 + z**2) < 9] = ventricle
        head[((x - sign * 8) ** 2 + (y / 2) ** 2 + (z + 6) ** 2) < 9] = hippocampus
    path = tmp_path_factory.mktemp("maps") / "sub-1_dseg.nii.gz"
    nib.save(nib.Nifti1Image(head, np.diag([4.0, 4, 4, 1])), path)
    return LabelMap.load(path)


def test_an_image_follows_from_its_seed_and_index(label_map: LabelMap) -> None:
    heads = SyntheticHeads([label_map], 4.0, [(48, 48, 48)], seed=3)
    image, labels = heads(5)
    again, same = heads(5)
    other, _ = heads(6)
    assert image.shape == (1, 48, 48, 48) and labels.shape == (48, 48, 48)
    assert torch.equal(image, again) and torch.equal(labels, same)
    assert not torch.equal(image, other)
    assert torch.isfinite(image).all() and image.min() >= 0


def test_left_stays_left(label_map: LabelMap) -> None:
    """Also in the images that are mirrored: their labels change sides too."""
    heads = SyntheticHeads([label_map], 4.0, [(56, 56, 56)], seed=1)
    seen = 0
    for index in range(12):
        labels = heads(index)[1].numpy()
        for left, right in ((3, 4), (5, 6), (10, 11), (12, 13)):
            if (labels == left).any() and (labels == right).any():
                sides = [np.argwhere(labels == side)[:, 0].mean() for side in (left, right)]
                assert sides[0] < sides[1], (index, left)
                seen += 1
    assert seen > 30


def test_atrophy_grows_the_ventricles(label_map: LabelMap, monkeypatch: pytest.MonkeyPatch) -> None:
    heads = SyntheticHeads([label_map], 4.0, [(48, 48, 48)], seed=2)
    sizes = []
    for amount in (-1.0, 4.0):
        fixed = tuple(
            (numbers, -amount, amount) if 4 in numbers else (numbers, 0.0, 0.0)
            for numbers, _, _ in view.ATROPHY
        )
        monkeypatch.setattr(view, "ATROPHY", fixed)
        sizes.append(sum(int(((heads(k)[1] == 10) | (heads(k)[1] == 11)).sum()) for k in range(6)))
    assert sizes[1] > 1.3 * sizes[0]


def test_a_box_shows_a_hippocampus_of_the_left(label_map: LabelMap) -> None:
    """In the middle, whichever side it was; the lateral ventricle lies towards the midline."""
    boxes = SyntheticBoxes([label_map], seed=4)
    for index in range(8):
        image, labels = boxes(index)
        assert image.shape == (1, 48, 64, 48) and torch.isfinite(image).all()
        where = np.argwhere(labels.numpy() == CLASSES[HIPPOCAMPUS])
        assert np.abs(where.mean(0) - [24, 32, 24]).max() < 12
        ventricle = np.argwhere(labels.numpy() == CLASSES[10])
        assert not len(ventricle) or ventricle[:, 0].mean() > where[:, 0].mean()


def test_a_slab_shows_what_lies_there_in_the_template(label_map: LabelMap) -> None:
    drawn = SyntheticSlabs([label_map], seed=5)
    image, labels = drawn(0)
    assert image.shape == (1, *slabs.SHAPE) and labels.shape == slabs.SHAPE
    assert torch.isfinite(image).all() and int(labels.max()) < len(slabs.CLASSES)
    again, same = drawn(0)
    assert torch.equal(image, again) and torch.equal(labels, same)
    middle = torch.tensor([*((size - 1) / 2 for size in slabs.SHAPE), 1.0])
    expected = label_map.placed @ torch.from_numpy(slabs.TO_MNI).float() @ middle
    view = View(expected[:3], torch.zeros(3), slabs.SHAPE, 1.0, False, 0.0, ())
    at = view.coordinates(label_map, Random(0, 0))
    assert torch.linalg.norm(at[:, 72, 5, 72] - expected[:3]) < 4


def test_a_hippocampus_that_is_hardly_there_is_not_drawn_from(tmp_path: Path) -> None:
    head = np.zeros((16, 16, 16), np.int16)
    head[2:6, 4:8, 4:8], head[10:12, 4:6, 4:6] = 17, 53
    nib.save(nib.Nifti1Image(head, np.diag([4.0, 4, 4, 1])), tmp_path / "sub-1_dseg.nii.gz")
    left, right = LabelMap.load(tmp_path / "sub-1_dseg.nii.gz").sides
    assert left is not None and right is None


def test_mirrored_labels_swap_sides() -> None:
    assert [MIRRORED[label] for label in MIRRORED] == list(range(20))
    assert MIRRORED[12] == 13 and MIRRORED[9] == 9
