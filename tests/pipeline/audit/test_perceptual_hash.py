"""The perceptual hash knows an anatomy again, and no other."""

import numpy as np
from scipy import ndimage

from uncus.pipeline.audit.identity import Likeness
from uncus.pipeline.audit.perceptual_hash import aligned, matches, signature, similarity

SHAPE = (44, 52, 40)  # 4 mm
COMMON = np.random.default_rng(99).standard_normal(SHAPE)


def brain(seed: int) -> np.ndarray:
    """An ellipsoid with a common texture and one of its own; background 0."""
    own = np.random.default_rng(seed).standard_normal(SHAPE)
    texture = ndimage.gaussian_filter(COMMON + 0.7 * own, 1.5)
    middle = [(n - 1) / 2 for n in SHAPE]
    axes = np.indices(SHAPE) - np.array(middle)[:, None, None, None]
    inside = (axes[0] / 17) ** 2 + (axes[1] / 21) ** 2 + (axes[2] / 15) ** 2 < 1
    return np.where(inside, 3 + texture / texture.std(), 0)


def changed(volume: np.ndarray) -> np.ndarray:
    """The same brain, turned, shifted, brighter, with noise and a bias field."""
    turned = ndimage.rotate(volume, 3, axes=(0, 1), reshape=False, order=1)
    moved = ndimage.shift(turned, (1.3, -0.8, 1.1), order=1)
    bias = np.linspace(0.8, 1.2, SHAPE[1])[:, None]
    noise = 0.2 * np.random.default_rng(5).standard_normal(SHAPE)
    return np.where(moved > 0.5, 2 * moved * bias + noise + 1, 0)


def test_the_same_brain_is_found_and_no_other() -> None:
    people = [brain(seed) for seed in range(14)]
    signatures = [signature(one, (4, 4, 4)) for one in [*people, changed(people[3])]]
    alike = similarity(np.array(signatures))
    assert matches(alike) == [(3, 14)]
    others = alike[np.triu_indices(14, 1)]
    assert alike[3, 14] > 0.8 > 0.5 > others.max()


def test_a_mirror_image_is_the_same_brain() -> None:
    people = [brain(seed) for seed in range(14)]
    signatures = [signature(one, (4, 4, 4)) for one in [*people, changed(people[3][::-1])]]
    alike = similarity(np.array(signatures))
    assert matches(alike) == [(3, 14)] and alike[3, 14 + 15] > 0.8 > 0.5 > alike[3, 14]
    names = [f"sub-{k:02d}" for k in range(15)]
    assert Likeness(names, 15, alike).mirrored == [("sub-03", "sub-14")]
    assert alike[3, 3 + 15] < 0.5, "a brain is not its own mirror image"


def test_another_grid_gives_the_same_signature() -> None:
    one = brain(1)
    finer = ndimage.zoom(one, 2, order=1, grid_mode=True, mode="nearest")
    first, second = signature(one, (4, 4, 4)).ravel(), signature(finer, (2, 2, 2)).ravel()
    assert np.corrcoef(first, second)[0, 1] > 0.95


def test_alignment_removes_position() -> None:
    one = signature(brain(1), (4, 4, 4))
    moved = ndimage.shift(one, (0.8, -0.6, 0.5), order=1)
    before = np.linalg.norm(one - moved)
    first, second = aligned(np.stack([one, moved]))
    assert np.linalg.norm(first - second) < 0.4 * before


def test_few_or_empty_scans_match_nobody() -> None:
    empty = np.zeros((3, 32, 40, 30), np.float32)
    assert matches(similarity(empty)) == []
    assert matches(np.eye(2, 4, dtype=np.float32)) == []
    assert not signature(np.zeros((10, 10, 10)), (4, 4, 4)).any()
