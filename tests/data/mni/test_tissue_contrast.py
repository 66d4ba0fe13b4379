"""Tissue contrast and limits of a registration: T1 passes, other images are rejected."""

from pathlib import Path

import numpy as np
import pytest

from uncus.data.errors import BadInput
from uncus.data.geometry.image import Image, coarser
from uncus.data.mni.affine import Match
from uncus.data.mni.registration import MIN_CONTRAST, MIN_LIKENESS, Attempt
from uncus.data.mni.template import load_template
from uncus.data.mni.tissue_contrast import Tissue, measure_tissue


def synthetic(fluid: float, gray: float, white: float) -> Image:
    """The template's brain at 2 mm with these intensities of its tissues."""
    template = load_template()
    rest = np.clip(template.brain - template.gray - template.white, 0, 1)
    values = fluid * rest + gray * template.gray + white * template.white
    return coarser(Image(values.astype(np.float32), template.affine), 2.0)


def attempt(tissue: Tissue, **other: object) -> Attempt:
    """A valid attempt but for the given values."""
    given = {"similarity": 0.85, "overlap": 0.95, "coverage": 1.0, "scale": 1.0} | other
    match = Match(np.diag([given["scale"]] * 3 + [1.0]), given["similarity"])
    mask = np.ones((20, 20, 20), bool)
    return Attempt(match, mask, given["overlap"], given["coverage"], tissue)


def test_the_template_passes() -> None:
    tissue = measure_tissue(synthetic(0.2, 0.65, 1.0), np.eye(4))
    assert tissue.likeness > 0.9
    assert tissue.fluid < tissue.gray < tissue.white
    # Gray matter is thin, so partial volume makes it brighter.
    assert 0.2 < tissue.contrast < 1 / 0.65 - 1
    attempt(tissue).check(Path("scan.nii"))


@pytest.mark.parametrize(
    ("name", "intensities", "cause"),
    [
        ("T2", (1.0, 0.6, 0.4), "does not look (T1-weighted|like a T1-weighted head)"),
        ("FLAIR", (0.1, 0.9, 0.7), "does not look (T1-weighted|like a T1-weighted head)"),
        ("a bottle", (1.0, 1.0, 1.0), "does not look (T1-weighted|like a T1-weighted head)"),
    ],
)
def test_other_contrasts_are_rejected(
    name: str, intensities: tuple[float, float, float], cause: str
) -> None:
    tissue = measure_tissue(synthetic(*intensities), np.eye(4))
    assert tissue.contrast < MIN_CONTRAST, name
    with pytest.raises(BadInput, match=cause) as caught:
        attempt(tissue).check(Path("scan.nii"))
    assert str(caught.value).startswith("scan.nii: ")


def test_noise_and_a_rotated_brain_have_a_low_likeness() -> None:
    brain = synthetic(0.2, 0.65, 1.0)
    noise = np.random.default_rng(0).random(brain.array.shape, np.float32)
    assert abs(measure_tissue(Image(noise, brain.affine), np.eye(4)).likeness) < 0.1
    rotated = np.diag([1.0, -1.0, -1.0, 1.0])
    assert measure_tissue(brain, rotated).likeness < MIN_LIKENESS


@pytest.mark.parametrize(
    ("other", "cause"),
    [
        ({"overlap": 0.8}, "does not look like a T1-weighted head"),
        ({"similarity": 0.5}, "does not look like a T1-weighted head"),
        ({"scale": 0.5}, "does not look like a T1-weighted head"),
        ({"scale": -1.0}, "does not look like a T1-weighted head"),
        ({"coverage": 0.7}, "only 70% of the brain is in its field of view"),
    ],
)
def test_every_limit_rejects(other: dict[str, float], cause: str) -> None:
    good = Tissue(0.6, 0.3, 0.65, 1.0)
    attempt(good).check(Path("scan.nii"))
    with pytest.raises(BadInput, match=cause):
        attempt(good, **other).check(Path("scan.nii"))


def test_a_stretched_brain_is_rejected() -> None:
    match = Match(np.diag([1.2, 1.0, 0.7, 1.0]), 0.85)
    stretched = Attempt(match, np.ones((20, 20, 20), bool), 0.95, 1.0, Tissue(0.6, 0.3, 0.65, 1.0))
    with pytest.raises(BadInput, match=r"scales 0\.70 to 1\.20"):
        stretched.check(Path("scan.nii"))


def test_a_poor_attempt_is_repeated_or_rejected() -> None:
    assert not attempt(Tissue(0.6, 0.3, 0.65, 1.0)).is_poor
    # Overlap, similarity and likeness measured on a head with anterior and posterior exchanged.
    reversed_head = attempt(Tissue(0.264, 0.81, 0.76, 1.0), overlap=0.939, similarity=0.746)
    assert reversed_head.is_poor
    with pytest.raises(BadInput, match=r"likeness 0\.26"):
        reversed_head.check(Path("scan.nii"))


def test_degrees_from_the_header() -> None:
    transform = np.eye(4)
    transform[:2, :2] = [[0, -1], [1, 0]]
    mask = np.ones((20, 20, 20), bool)
    rotated = Attempt(Match(transform, 0.9), mask, 0.9, 1.0, Tissue(1, 0, 1, 2))
    assert abs(rotated.rotation - 90) < 1e-6
