"""Likeness of maps, against scipy and scikit-image."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from uncus.pipeline.saliency.passport.similarity import similarity, spearman, ssim

RANDOM = np.random.default_rng(0)
FIRST = RANDOM.standard_normal((12, 12, 12)).astype(np.float32)
SECOND = (FIRST + RANDOM.standard_normal(FIRST.shape)).astype(np.float32)
BRAIN = np.zeros(FIRST.shape, bool)
BRAIN[2:10, 2:10, 2:10] = True


def test_rank_correlation_is_scipys_within_the_brain_with_ties() -> None:
    tied = np.round(SECOND)
    expected = spearmanr(FIRST[BRAIN], tied[BRAIN]).statistic
    assert similarity(FIRST, tied, BRAIN)["spearman"] == pytest.approx(expected, abs=1e-6)
    absolute = similarity(FIRST, -FIRST, BRAIN)
    assert absolute["spearman"] == pytest.approx(-1)
    assert absolute["spearman_absolute"] == pytest.approx(1)


def test_a_constant_map_is_like_no_other() -> None:
    assert spearman(np.ones(9), np.arange(9)) == 0


def test_structural_similarity_is_one_for_the_same_map_at_any_scale_and_less_for_others() -> None:
    assert ssim(FIRST, 5 * FIRST, BRAIN) == pytest.approx(1, abs=1e-4)
    assert ssim(FIRST, -FIRST, BRAIN) < ssim(FIRST, SECOND, BRAIN) < 0.99
    skimage = pytest.importorskip("skimage.metrics")
    one, other = (m / np.abs(m).max() for m in (FIRST, SECOND))
    _, whole = skimage.structural_similarity(
        one,
        other,
        full=True,
        data_range=2.0,
        gaussian_weights=True,
        sigma=1.5,
        truncate=2.0,  # a window of 7 voxels
        use_sample_covariance=False,
    )
    inner = tuple(slice(3, 9) for _ in range(3))
    expected = whole[inner][BRAIN[inner]].mean()
    assert ssim(FIRST, SECOND, BRAIN) == pytest.approx(expected, abs=0.01)  # other Gaussians
