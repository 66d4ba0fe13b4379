"""The backbone that measures structures: which part a voxel counts in, and what changes nothing."""

import pytest
import torch
from torch import Tensor

from uncus.models.backbones.anatomy import (
    BANDS,
    MEASURED,
    RINGS,
    STRUCTURES,
    Anatomy,
    in_parts,
    scaled,
)
from uncus.models.build import ModelConfig, build_model

SIZE = (24, 4, 24)
HIPPOCAMPUS = 10


def labelled(*voxels: tuple[slice, slice, slice]) -> Tensor:
    """Scores that are sure of the hippocampus in ``voxels``, and of the outside elsewhere."""
    labels = torch.zeros(SIZE, dtype=torch.long)
    for part in voxels:
        labels[part] = HIPPOCAMPUS
    return 1000 * torch.nn.functional.one_hot(labels, STRUCTURES).movedim(-1, 0).float()[None]


def shares(scores: Tensor) -> Tensor:
    """Each structure's share of the volume by part, [structures, rings, bands]."""
    found = in_parts(scores, SIZE).mean((0, 2, 3, 4))
    return found.reshape(len(MEASURED), RINGS, BANDS)


def test_a_structure_counts_in_the_part_where_it_lies() -> None:
    every = slice(None)
    found = shares(labelled((slice(0, 2), every, slice(0, 4))))  # lateral, inferior
    row = MEASURED.index(HIPPOCAMPUS)
    assert found[row, RINGS - 1, 0] == pytest.approx(2 * 4 / (24 * 24))
    assert found.sum() == pytest.approx(float(found[row, RINGS - 1, 0]))
    found = shares(labelled((slice(11, 13), every, slice(20, 24))))  # at the midline, superior
    assert found[row, 0, BANDS - 1] == pytest.approx(float(found.sum()))


def test_left_and_right_count_alike() -> None:
    part = (slice(2, 6), slice(0, 2), slice(6, 14))
    one = labelled(part)
    torch.testing.assert_close(shares(one), shares(one.flip(2)))


def test_softer_probabilities_keep_the_total() -> None:
    scores = torch.randn(1, STRUCTURES, *SIZE, generator=torch.Generator().manual_seed(0))
    for temperature in (1.0, 4.0):
        every = in_parts(scores, SIZE, range(STRUCTURES), temperature)
        assert every.mean((2, 3, 4)).sum() == pytest.approx(1, abs=1e-5)


def test_gain_and_offset_of_the_intensities_change_nothing() -> None:
    image = torch.rand(1, 1, *SIZE, generator=torch.Generator().manual_seed(1)) + 0.1
    image[..., :4] = 0  # outside the brain
    other = torch.where(image != 0, 3.0 * image - 5.0, 0)
    torch.testing.assert_close(scaled(image), scaled(other), atol=1e-4, rtol=0)
    assert bool((scaled(other)[..., :4] == 0).all())


def test_any_size_gives_a_map_of_half_of_it() -> None:
    model = build_model(ModelConfig(backbone="anatomy", groups=4, width=4))
    assert isinstance(model, Anatomy)
    found = model.features(torch.rand(1, 1, 13, 5, 11))
    assert found.shape == (1, len(MEASURED) * RINGS * BANDS, 7, 3, 6)
