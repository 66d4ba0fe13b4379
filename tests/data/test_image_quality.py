"""Noise and ghosting are measured, and warned about only in scans that have them."""

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from uncus.data.image_quality import WARN_GHOST, WARN_NOISE, measure
from uncus.data.imageio.volume import Native, Volume
from uncus.data.space import Grid
from uncus.data.transforms.path import place

SHAPE = (72, 80, 64)
AFFINE = np.diag([3.0, 3, 3, 1])
INDEX = np.indices(SHAPE) - (np.array(SHAPE).reshape(3, 1, 1, 1) - 1) / 2
RADIUS = np.sqrt((INDEX**2).sum(axis=0))


def head(noise: float = 0.01, ghost: float = 0.0, outside: float | None = None) -> Volume:
    """A head with a bright core and Rician noise; ``outside`` replaces the background."""
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
def test_noise_is_measured_with_and_without_background(share: float, outside: float | None) -> None:
    # Added as a share of 500, measured as one of the head's median (400 to 700).
    assert 0.6 * share < measure(head(noise=share, outside=outside)).noise < 1.4 * share


def test_ghosting_is_distinguished_from_noise() -> None:
    assert measure(head(ghost=0.2)).ghost > WARN_GHOST
    assert measure(head(noise=0.1)).ghost < WARN_GHOST
    assert measure(head(ghost=0.2, outside=0.0)).ghost == 0


def test_each_warning_is_a_sentence_and_a_clean_scan_has_none() -> None:
    assert measure(head()).warnings == ()
    (noisy,) = measure(head(noise=2 * WARN_NOISE)).warnings
    assert noisy.startswith("Noisy (the signal is ")
    (ghosted,) = measure(head(ghost=0.2)).warnings
    assert "ghosts of the head" in ghosted and ghosted.endswith(".")


def test_a_placed_scan_has_these_warnings() -> None:
    grid = Grid(SHAPE, AFFINE)
    assert not any("Noisy" in warning for warning in place(head(), grid).warnings)
    assert any("Noisy" in warning for warning in place(head(noise=0.3), grid).warnings)


def test_constant_and_tiny_scans_have_no_noise() -> None:
    for array in (np.zeros((20, 20, 20)), np.ones((2, 3, 2)), np.full((30, 30, 30), 7.0)):
        native = Native(Path("scan.nii"), array.shape, AFFINE, "RAS", (None, 0), (AFFINE, 1))
        quality = measure(Volume(array.astype(np.float32), AFFINE, native))
        assert (quality.noise, quality.ghost) == (0.0, 0.0)
