"""Noise and ghosts are told; a scan without them is not spoken of."""

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from uncus.data.image_quality import WARN_GHOST, WARN_NOISE, look
from uncus.data.imageio.volume import Native, Volume
from uncus.data.space import Grid, place

SHAPE = (72, 80, 64)
AFFINE = np.diag([3.0, 3, 3, 1])
INDEX = np.indices(SHAPE) - (np.array(SHAPE).reshape(3, 1, 1, 1) - 1) / 2
RADIUS = np.sqrt((INDEX**2).sum(axis=0))


def head(noise: float = 0.01, ghost: float = 0.0, outside: float | None = None) -> Volume:
    """A head with a bright core in air of Rician noise; ``outside``: what the air is set to."""
    soft = 400.0 * (RADIUS < 22) + 300.0 * (RADIUS < 15)
    image = ndimage.gaussian_filter(soft, 1.0)
    image += ghost * np.roll(image, SHAPE[1] // 2, axis=1)
    rng = np.random.default_rng(0)
    image = np.hypot(image + rng.normal(0, noise * 500, SHAPE), rng.normal(0, noise * 500, SHAPE))
    if outside is not None:
        image = np.where(RADIUS < 21, image, outside)
    native = Native(Path("scan.nii.gz"), SHAPE, AFFINE, "RAS", (None, 0), (AFFINE, 1))
    return Volume(image.astype(np.float32), AFFINE, native)


@pytest.mark.parametrize("share", [0.03, 0.08, 0.2])
@pytest.mark.parametrize("outside", [None, 0.0])
def test_noise_is_measured_with_and_without_air(share: float, outside: float | None) -> None:
    # A share of 500, told as one of the head's median, which lies between 400 and 700.
    assert 0.6 * share < look(head(noise=share, outside=outside)).noise < 1.4 * share


def test_a_ghost_is_told_from_noise() -> None:
    assert look(head(ghost=0.2)).ghost > WARN_GHOST
    assert look(head(noise=0.1)).ghost < WARN_GHOST
    assert look(head(ghost=0.2, outside=0.0)).ghost == 0


def test_each_warning_is_a_sentence_and_a_clean_scan_has_none() -> None:
    assert look(head()).warnings == ()
    (noisy,) = look(head(noise=2 * WARN_NOISE)).warnings
    assert noisy.startswith("The scan is noisy: its signal is ")
    (ghosted,) = look(head(ghost=0.2)).warnings
    assert "ghost in the air" in ghosted and ghosted.endswith(".")


def test_a_placed_scan_carries_them() -> None:
    grid = Grid(SHAPE, AFFINE)
    assert not any("noisy" in warning for warning in place(head(), grid).warnings)
    assert any("noisy" in warning for warning in place(head(noise=0.3), grid).warnings)


def test_constant_and_tiny_scans_are_no_crash() -> None:
    for array in (np.zeros((20, 20, 20)), np.ones((2, 3, 2)), np.full((30, 30, 30), 7.0)):
        native = Native(Path("scan.nii"), array.shape, AFFINE, "RAS", (None, 0), (AFFINE, 1))
        found = look(Volume(array.astype(np.float32), AFFINE, native))
        assert (found.noise, found.ghost) == (0.0, 0.0)
