"""Localization in a lesion: exact, uniform, opposite and misplaced maps."""

import numpy as np
import pytest

from uncus.pipeline.saliency.passport.lesions import concentration, localization


def grid():
    brain = np.zeros((10, 10, 10), dtype=bool)
    brain[2:8, 2:8, 2:8] = True  # 216 of 1000 voxels
    atrophy = np.zeros_like(brain)
    atrophy[3:6, 3:5, 3:6] = True  # 18 voxels
    return atrophy, brain


def test_a_uniform_map_scores_one():
    atrophy, brain = grid()
    assert concentration(np.ones(brain.shape), atrophy, brain)["times_volume"] == pytest.approx(1)
    assert concentration(brain * 2.0, atrophy, brain)["times_brain"] == pytest.approx(1)


def test_saliency_outside_the_brain_or_against_the_class_scores_zero():
    atrophy, brain = grid()
    exact = concentration(atrophy * 1.0, atrophy, brain)
    assert exact["share"] == 1 and exact["times_brain"] == pytest.approx(216 / 18)
    outside = np.where(brain, 0.0, 1.0)
    outside[atrophy] = 1
    assert concentration(outside, atrophy, brain)["share"] == pytest.approx(18 / (784 + 18))
    against = np.where(atrophy, -5.0, 0.0)
    against[2, 2, 2] = 1
    assert concentration(against, atrophy, brain)["share"] == 0
    assert concentration(np.zeros(brain.shape), atrophy, brain)["times_brain"] == 0


def test_an_exact_map_finds_the_lesion_and_an_even_one_does_not() -> None:
    atrophy, brain = grid()
    exact = localization(atrophy * 1.0, atrophy, brain)
    assert exact["auc"] == 1 and exact["pointing"] == 1 and exact["share"] == 1
    even = localization(np.ones(brain.shape), atrophy, brain)
    assert even["auc"] == 0.5 and even["times_volume"] == pytest.approx(1)
    against = localization(-(atrophy * 1.0), atrophy, brain)
    assert against["auc"] == 0.5 and against["pointing"] == 0
    elsewhere = localization((brain & ~atrophy) * 1.0, atrophy, brain)
    assert elsewhere["auc"] == 0


def test_the_peak_may_miss_by_a_voxel() -> None:
    atrophy, brain = grid()
    for at, hit in (((2, 3, 3), 1), ((7, 7, 7), 0)):
        peak = np.zeros(brain.shape)
        peak[at] = 1
        assert localization(peak, atrophy, brain)["pointing"] == hit
