"""Tissues read where the template has them: T1 passes, other contrasts and no brains do not."""

from pathlib import Path

import numpy as np
import pytest

from uncus.data.errors import BadInput
from uncus.data.geometry.image import Image, coarser
from uncus.data.mni.affine import Match
from uncus.data.mni.registration import LEAST_CONTRAST, LEAST_LIKENESS, Attempt
from uncus.data.mni.template import load_template
from uncus.data.mni.tissue_contrast import Tissue, tissue


def painted(fluid: float, grey: float, white: float) -> Image:
    """The template's brain at 2 mm with these intensities of its tissues."""
    template = load_template()
    rest = np.clip(template.brain - template.grey - template.white, 0, 1)
    values = fluid * rest + grey * template.grey + white * template.white
    return coarser(Image(values.astype(np.float32), template.affine), 2.0)


def attempt(found: Tissue, **other: object) -> Attempt:
    """An attempt that holds but for what is given."""
    given = {"similarity": 0.85, "overlap": 0.95, "seen": 1.0, "scale": 1.0} | other
    match = Match(np.diag([given["scale"]] * 3 + [1.0]), given["similarity"])
    return Attempt(match, np.ones((20, 20, 20), bool), given["overlap"], given["seen"], found)


def test_the_template_is_like_itself() -> None:
    found = tissue(painted(0.2, 0.65, 1.0), np.eye(4))
    assert found.likeness > 0.9
    assert found.fluid < found.grey < found.white
    # Grey matter is thin: its neighbours shine in.
    assert 0.2 < found.contrast < 1 / 0.65 - 1
    attempt(found).check(Path("scan.nii"))


@pytest.mark.parametrize(
    ("name", "levels", "said"),
    [
        ("T2", (1.0, 0.6, 0.4), "not T1-weighted"),
        ("FLAIR", (0.1, 0.9, 0.7), "not T1-weighted"),
        ("a bottle", (1.0, 1.0, 1.0), "not T1-weighted"),
    ],
)
def test_other_contrasts_are_refused(
    name: str, levels: tuple[float, float, float], said: str
) -> None:
    found = tissue(painted(*levels), np.eye(4))
    assert found.contrast < LEAST_CONTRAST, name
    with pytest.raises(BadInput, match=said) as caught:
        attempt(found).check(Path("scan.nii"))
    assert str(caught.value).startswith("scan.nii: ")


def test_noise_and_a_displaced_brain_are_unlike() -> None:
    noise = painted(0.2, 0.65, 1.0)
    random = np.random.default_rng(0).random(noise.array.shape, np.float32)
    assert abs(tissue(Image(random, noise.affine), np.eye(4)).likeness) < 0.1
    upside = np.diag([1.0, -1.0, -1.0, 1.0])
    assert tissue(noise, upside).likeness < LEAST_LIKENESS


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"overlap": 0.8}, "registration to the template failed"),
        ({"similarity": 0.5}, "registration to the template failed"),
        ({"scale": 0.5}, "registration to the template failed"),
        ({"scale": -1.0}, "registration to the template failed"),
        ({"seen": 0.7}, "only 70% of the brain lies in its field of view"),
    ],
)
def test_every_limit_refuses(other: dict[str, float], said: str) -> None:
    good = Tissue(0.6, 0.3, 0.65, 1.0)
    attempt(good).check(Path("scan.nii"))
    with pytest.raises(BadInput, match=said):
        attempt(good, **other).check(Path("scan.nii"))


def test_a_stretched_brain_is_refused() -> None:
    match = Match(np.diag([1.2, 1.0, 0.7, 1.0]), 0.85)
    found = Attempt(match, np.ones((20, 20, 20), bool), 0.95, 1.0, Tissue(0.6, 0.3, 0.65, 1.0))
    with pytest.raises(BadInput, match=r"sizes 0\.70 to 1\.20"):
        found.check(Path("scan.nii"))


def test_a_poor_one_is_tried_again_and_warned_of() -> None:
    assert not attempt(Tissue(0.6, 0.3, 0.65, 1.0)).is_poor
    # A head that lies back to front: overlap, similarity and likeness as they were measured.
    back = attempt(Tissue(0.264, 0.81, 0.76, 1.0), overlap=0.939, similarity=0.746)
    assert back.is_poor
    with pytest.raises(BadInput, match=r"likeness 0\.26"):
        back.check(Path("scan.nii"))


def test_degrees_from_the_header() -> None:
    turn = np.eye(4)
    turn[:2, :2] = [[0, -1], [1, 0]]
    found = Attempt(Match(turn, 0.9), np.ones((20, 20, 20), bool), 0.9, 1.0, Tissue(1, 0, 1, 2))
    assert abs(found.turned - 90) < 1e-6
