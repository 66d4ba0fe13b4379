"""Nested figures: honest, of every scan, and refused where subjects are too few."""

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss

from tests.pipeline.trust.outputs import made
from uncus.pipeline.trust.nested import Nested
from uncus.pipeline.trust.out_of_fold import OutOfFold


def test_calibration_helps_subjects_that_it_was_not_fitted_on() -> None:
    nested = Nested.of(made(300, temperature=5.0, seeds=2))
    assert len(nested.known.scans.drop_duplicates()) == len(nested.calibrated) == 300
    labels = nested.known.labels
    before, after = (
        brier_score_loss(labels, p[:, 1]) for p in (nested.known.outputs, nested.calibrated)
    )
    truth = made(300).outputs[:, 1]
    assert after < before - 0.01
    assert after < brier_score_loss(made(300).labels, truth) + 0.01


def test_chance_is_not_made_better() -> None:
    known = made(120)
    random = np.random.default_rng(0).permutation(known.labels)
    nested = Nested.of(OutOfFold(known.names, known.scans, known.folds, random, known.outputs))
    p = nested.calibrated[np.arange(120), nested.known.labels]
    assert p.mean() < 0.55


@pytest.mark.parametrize("level", [0.1, 0.2])
def test_each_class_is_covered_at_the_level(level: float) -> None:
    covered = []
    for seed in range(10):
        nested = Nested.of(made(250, ("CN", "AD"), seed, shares=[0.7, 0.3]), level)
        labels = nested.known.labels
        covered.append([nested.fits[labels == k, k].mean() for k in range(2)])
    assert np.mean(covered, axis=0) == pytest.approx(1 - level, abs=0.03)


def test_values_are_covered_by_their_intervals() -> None:
    base, rng = made(400), np.random.default_rng(0)
    true = rng.normal(70, 9, (400, 2))
    true[:50, 1] = np.nan
    outputs = np.nan_to_num(true, nan=70) + rng.standard_normal((400, 2)) * [1, 5]
    nested = Nested.of(OutOfFold(("age", "mmse"), base.scans, base.folds, true, outputs))
    known = np.isfinite(nested.known.labels)
    for k in range(2):
        assert nested.fits[known[:, k], k].mean() == pytest.approx(0.9, abs=0.03)


@pytest.mark.parametrize(("scans", "reason"), [(12, "at least 10"), (22, "without those measured")])
def test_few_subjects_are_not_measured(scans: int, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Nested.of(made(scans, seed=3))
