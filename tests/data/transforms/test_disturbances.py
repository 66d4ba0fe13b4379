"""Graded disturbances of prepared volumes, compared with what they should do."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from uncus.data.transforms.disturbances import DISTURBANCES, FWHM, signal
from uncus.data.transforms.normalization import NormalizeBrain

SPACING = (2.0, 2.0, 4.0)
INTENSITY = ("noise", "bias", "contrast", "blur")


def prepared() -> Tensor:
    """A ball of 24 x 24 x 16 voxels with a smooth texture, normalized; background 0."""
    random = np.random.default_rng(0)
    texture = ndimage.gaussian_filter(random.standard_normal((24, 24, 16)), 1.5)
    where = np.indices((24, 24, 16)).T * SPACING
    inside = (np.linalg.norm(where - where.mean((0, 1, 2)), axis=-1) < 20).T
    array = NormalizeBrain().normalize((100 + 90 * texture).astype(np.float32), inside)
    return torch.from_numpy(array)[None, None]


@pytest.mark.parametrize("name", DISTURBANCES)
def test_levels_are_graded_and_repeatable(name: str) -> None:
    one, volume = DISTURBANCES[name], prepared()
    before = volume.clone()
    assert one(volume, 0, 7, SPACING) is volume
    distances = [0.0]
    for level in one.levels:
        changed = one(volume, level, 7, SPACING)
        assert torch.equal(changed, one(volume, level, 7, SPACING))
        assert changed.shape == volume.shape and changed.isfinite().all()
        distances.append(float((changed - volume).square().mean()))
    assert distances == sorted(distances) and distances[1] > 0
    assert torch.equal(volume, before), "the volume itself is left as it was"
    others = [one(volume, one.levels[-1], seed, SPACING) for seed in range(6)]
    assert name == "blur" or not all(torch.equal(other, others[0]) for other in others)


@pytest.mark.parametrize("name", INTENSITY)
def test_intensities_are_normalized_and_the_background_stays(name: str) -> None:
    volume = prepared()
    for level in DISTURBANCES[name].levels:
        changed = DISTURBANCES[name](volume, level, 3, SPACING)
        inside = changed[volume != 0]
        assert (changed[volume == 0] == 0).all()
        assert inside.mean().abs() < 1e-4 and inside.std() == pytest.approx(1, abs=1e-3)


def test_noise_has_its_level() -> None:
    volume = prepared()
    bright = signal(volume) > 1  # where Rician noise is as good as normal
    changed = DISTURBANCES["noise"](volume, 0.1, 0, SPACING)
    slope, offset = np.polyfit(volume[bright].numpy(), changed[bright].numpy(), 1)
    rest = changed[bright] - (slope * volume[bright] + offset)
    assert float(rest.std()) == pytest.approx(0.1, rel=0.15)


def test_a_bias_field_has_its_level() -> None:
    volume = prepared()
    inside = volume != 0
    # Undone up to normalization: the ratio of the largest to the smallest gain is known.
    flat = torch.where(inside, torch.where(torch.rand(volume.shape) < 0.5, -1.0, 1.0), 0)
    changed = DISTURBANCES["bias"](flat, 40, 1, SPACING)
    field = (changed - changed[flat == -1].median())[flat == 1]  # the dark half has signal 0
    assert float(field.max() / field.min()) == pytest.approx(1.4**2, rel=0.2)


def test_a_shift_moves_by_its_level_and_a_rotation_turns_by_it() -> None:
    spot = torch.zeros(1, 1, 25, 25, 25)
    spot[..., 11:14, 11:14, 18:21] = 1
    center = np.array([12, 12, 12])
    start = np.array([12.0, 12, 19]) - center
    for level in (2, 4):
        moved = DISTURBANCES["shift"](spot, level, 5, (2.0, 2.0, 2.0))[0, 0].numpy()
        way = np.array(ndimage.center_of_mass(moved)) - center - start
        assert np.linalg.norm(way) * 2.0 == pytest.approx(level, rel=0.05)
    angles = []
    for seed in range(12):
        turned = DISTURBANCES["rotation"](spot, 16, seed, (2.0, 2.0, 2.0))[0, 0].numpy()
        end = np.array(ndimage.center_of_mass(turned)) - center
        assert np.linalg.norm(end) == pytest.approx(7, rel=0.03)
        angles.append(np.degrees(np.arccos(start @ end / np.linalg.norm(end) / 7)))
    assert 12 < max(angles) < 17 and min(angles) < 10  # less about an axis near the spot


def test_blur_is_a_gaussian_of_its_width() -> None:
    volume = prepared()
    inside = (volume != 0)[0, 0].numpy()
    sigma = [6 / FWHM / size for size in SPACING]
    smooth = ndimage.gaussian_filter(volume[0, 0].numpy(), sigma, mode="constant", truncate=4)
    share = ndimage.gaussian_filter(inside.astype(float), sigma, mode="constant", truncate=4)
    expected = NormalizeBrain().normalize(smooth / np.maximum(share, 1e-6), inside)
    found = DISTURBANCES["blur"](volume, 6, 0, SPACING)[0, 0].numpy()
    np.testing.assert_allclose(found, expected, atol=0.1)  # MONAI integrates over voxels


def test_slices_are_missing_whole_and_nested() -> None:
    volume, lost = prepared(), []
    there = (volume != 0).amax((0, 1, 2, 3))
    for level in (5, 10, 20, 40):
        changed = DISTURBANCES["slices"](volume, level, 2, SPACING)
        gone = there & ~(changed != 0).amax((0, 1, 2, 3))
        assert int(gone.sum()) == int(np.ceil(int(there.sum()) * level / 100))
        assert torch.equal(changed[..., ~gone], volume[..., ~gone])
        lost.append(gone)
    assert all((more | less == more).all() for less, more in pairwise(lost))
