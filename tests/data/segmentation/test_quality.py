"""A T1-weighted brain passes; other contrasts are refused, contrast agent and lesions warned of."""

from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from uncus.data.segmentation.quality import BrainQuality, measure

SHAPE = (72, 72, 72)
RADIUS = 2 * np.sqrt(((np.indices(SHAPE) - 35.5) ** 2).sum(0))  # mm
RIGHT = np.indices(SHAPE)[0] > 35.5
T1 = (0.25, 0.7, 1.0)


@dataclass
class Brain:
    """Ventricles, white matter, cortex and fluid as balls, 2 mm voxels."""

    labels: NDArray[np.uint8]
    probabilities: NDArray[np.float32]
    image: NDArray[np.float32]
    inside: NDArray[np.bool_]
    spacing: NDArray[np.float64]


def brain(fluid: float, gray: float, white: float, noise: float = 0.05) -> Brain:
    labels = np.select([RADIUS < 14, RADIUS < 44, RADIUS < 58, RADIUS < 63], [10, 5, 3, 2], 1)
    labels = (labels + (RIGHT & ~np.isin(labels, (1, 2)))).astype(np.uint8)
    sides = ((7, 8), (9, 9), (12, 13), (14, 15), (16, 17), (18, 19))
    for k, (left, right) in enumerate(sides):  # small and white
        labels[22:26, 32:40, 20 + 3 * k : 22 + 3 * k] = left
        labels[46:50, 32:40, 20 + 3 * k : 22 + 3 * k] = right
    image = np.select(
        [RADIUS < 14, RADIUS < 44, RADIUS < 58, RADIUS < 63], [fluid, white, gray, fluid]
    )
    image = np.where(RADIUS < 63, image, 0.2) + np.random.default_rng(0).normal(0, noise, SHAPE)
    return Brain(
        labels,
        np.full((1, *SHAPE), 0.9, np.float32),
        image.astype(np.float32),
        np.ones(SHAPE, bool),
        np.full(3, 2.0),
    )


def ball(x: int, radius_mm: float) -> NDArray[np.bool_]:
    middle = np.array([x, 36, 36]).reshape(3, 1, 1, 1)
    return 2 * np.sqrt(((np.indices(SHAPE) - middle) ** 2).sum(0)) < radius_mm


def test_a_t1_weighted_brain_passes_whatever_its_bias_field() -> None:
    head = brain(*T1)
    for strength in (0.0, 0.4):
        x = np.linspace(-1, 1, SHAPE[0])[:, None, None]
        head.image = (head.image * np.exp(strength * x)).astype(np.float32)
        quality = measure(head)
        assert quality.refusal == "" and quality.warnings == ()
        assert quality.gray == pytest.approx(0.7, abs=0.03)
        assert quality.fluid == pytest.approx(0.25, abs=0.03)


@pytest.mark.parametrize(
    ("kind", "levels"),
    [
        ("T2", (1.0, 0.6, 0.4)),
        ("FLAIR", (0.15, 1.0, 0.85)),
        ("PD", (1.0, 1.0, 0.85)),
        ("reversed", (1.0, 0.5, 0.2)),
        ("CT", (0.75, 1.02, 1.0)),
        ("angiography", (0.7, 1.0, 1.0)),
    ],
)
def test_other_contrasts_are_refused(kind: str, levels: tuple[float, float, float]) -> None:
    refusal = measure(brain(*levels)).refusal
    assert refusal.startswith("relative to white matter, gray matter is ")


def test_what_the_network_does_not_recognize_is_refused() -> None:
    head = brain(*T1)
    head.probabilities *= 0.4
    assert "17 of 17 structures found, with a probability of 0.36" in measure(head).refusal
    head.labels[:] = 1
    assert measure(head).refusal


def test_contrast_agent_is_warned_of() -> None:
    head = brain(*T1)
    veins = (RADIUS > 58) & (RADIUS < 61) & (np.indices(SHAPE)[0] % 12 < 3)
    head.image[veins] = 1.5
    (warning,) = measure(head).warnings
    assert warning.startswith("Probably a contrast agent was given (")
    head.inside &= ~veins  # outside the field of view: not seen
    assert measure(head).warnings == ()


@pytest.mark.parametrize("level", [0.25, 1.5])
def test_large_lesions_are_warned_of_and_small_ones_are_not(level: float) -> None:
    for radius, count in ((5, 0), (19, 1)):
        head = brain(*T1)
        head.image[ball(18, radius)] = level
        assert [w.startswith("Probably a large lesion") for w in measure(head).warnings] == (
            [True] * count
        )


def test_a_cyst_that_is_no_brain_to_the_network_is_a_lesion() -> None:
    head = brain(*T1)
    head.labels[ball(20, 17)] = 2
    assert "large lesion" in measure(head).warnings[0]


def test_noise_that_hides_the_cortex_is_warned_of() -> None:
    noisy = measure(brain(*T1, noise=0.3))
    assert noisy.separation < 1 and noisy.refusal == ""
    assert any(warning.startswith("Noise, motion or blur") for warning in noisy.warnings)
    assert isinstance(noisy, BrainQuality)


def test_ghosts_in_the_air_are_motion_and_noise_there_is_not() -> None:
    head, air = brain(*T1), RADIUS > 66
    head.labels[air] = 0
    head.image[air] = np.abs(np.random.default_rng(1).normal(0, 0.03, air.sum()))
    assert measure(head).warnings == ()
    ghost = np.roll(head.image, 36, axis=1)
    head.image[air] += 0.15 * ghost[air]
    (warning,) = measure(head).warnings
    assert warning.startswith("Probably strong motion: ghosts")
    head.inside &= ~air  # outside the field of view: not seen
    assert measure(head).ghosts == 0 and measure(head).warnings == ()


def test_a_mass_that_is_as_bright_as_gray_matter_makes_the_sides_differ() -> None:
    head = brain(*T1)
    symmetric = measure(head).asymmetry
    where = ball(20, 20)
    head.image[where], head.labels[where] = 0.7, 3
    assert symmetric < 0.05
    assert [one.startswith("Probably a mass") for one in measure(head).warnings] == [True]


def test_a_mirror_that_is_tilted_and_off_the_middle_is_found() -> None:
    head = brain(*T1)
    head.labels = ndimage.rotate(head.labels, 8, (0, 1), False, order=0)
    head.labels = ndimage.shift(head.labels, (4, 0, 0), order=0)
    assert measure(head).asymmetry < 0.1
