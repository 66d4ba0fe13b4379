"""Estimates over subjects and seeds: against formulas, and by simulation."""

import numpy as np
import pytest
from scipy import stats

from uncus.pipeline.comparison.crossed import (
    Components,
    Estimate,
    adjusted,
    components,
    estimate,
    mean_squares,
    pseudovalues,
)


def drawn(rng, seeds, subjects, subject, seed, rest, mean=0.0):
    """[seeds, subjects] with these standard deviations."""
    return (
        mean
        + subject * rng.standard_normal(subjects)
        + seed * rng.standard_normal((seeds, 1))
        + rest * rng.standard_normal((seeds, subjects))
    )


def test_pseudovalues_of_a_mean_are_the_subjects_own():
    values = np.array([0.0, 1.0, 1.0, 0.0, 1.0])
    subjects = np.array(["b", "a", "c", "d", "e"])

    def measure(weights):
        return {"mean": weights @ values / weights.sum(axis=1)}

    assert pseudovalues(measure, subjects)["mean"] == pytest.approx([1, 0, 1, 0, 1])


def test_without_seeds_of_their_own_effect_it_is_the_paired_t_test():
    values = np.random.default_rng(0).standard_normal((1, 40))
    test = stats.ttest_1samp(values[0], 0)
    low, high = test.confidence_interval(0.95)
    found = estimate(values)
    assert found.p == pytest.approx(test.pvalue)
    assert (found.interval["low"], found.interval["high"]) == pytest.approx((low, high))


def test_equivalence_is_two_one_sided_tests():
    values = np.random.default_rng(1).normal(0.02, 0.3, (1, 500))
    sides = [
        stats.ttest_1samp(values[0], -0.05, alternative="greater").pvalue,
        stats.ttest_1samp(values[0], 0.05, alternative="less").pvalue,
    ]
    assert estimate(values).p_equal(0.05) == pytest.approx(max(sides))


def test_no_spread_at_all_is_evidence_of_nothing():
    """Two networks that are both right about 20 subjects may well differ by 0.03."""
    same = np.zeros((3, 20))
    assert np.isnan(estimate(same).p) and np.isnan(estimate(same).p_equal(0.03))
    found = estimate(same, share=True)
    assert found.p_equal(0.03) > 0.2 and found.interval["high"] > 0.1
    assert estimate(np.zeros((3, 400)), share=True).p_equal(0.03) < 0.001
    assert np.isnan(estimate(np.ones((3, 1)), share=True).p)


@pytest.mark.parametrize("subjects", [20, 60, 140])
def test_a_share_that_differs_by_the_margin_is_seldom_called_equal(subjects):
    rng, equal = np.random.default_rng(7), []
    for _ in range(2000):
        # All networks of a cell are wrong about the same subjects.
        values = np.repeat(rng.random((1, subjects)) < 0.03, 3, axis=0).astype(float)
        equal.append(estimate(values, share=True).p_equal(0.03) < 0.05)
    assert np.mean(equal) < 0.1  # 0.55 at 20 subjects without the share's own rule


@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize("spread", [(0.1, 0.05, 0.4), (0.0, 0.0, 0.3), (0.3, 0.01, 0.2)])
def test_a_family_of_true_hypotheses_is_seldom_rejected(seeds, spread):
    """By chance the spread of few seeds is far too small: in ten differences often of one."""
    rng, zero, large = np.random.default_rng(8), [], []
    for _ in range(200):
        # Ten cells less the same reference.
        cells = [drawn(rng, seeds, 100, *np.array(spread) / 2**0.5) for _ in range(11)]
        found = [estimate(cell - cells[0]) for cell in cells[1:]]
        zero.append(min(adjusted([e.p for e in found] + [1.0] * 10, 10)) < 0.05)
        found = [estimate(cell - cells[0] + 0.03) for cell in cells[1:]]
        large.append(min(adjusted([e.p_equal(0.03) for e in found] + [1.0] * 10, 10)) < 0.05)
    assert np.mean(zero) < 0.08 and np.mean(large) < 0.08


def test_components_are_found_again_and_predict_the_error():
    rng = np.random.default_rng(2)
    found = [components(drawn(rng, 8, 300, 0.3, 0.1, 0.5), folds=1) for _ in range(200)]
    mean = Components(*np.mean([(c.subject, c.network, c.rest) for c in found], axis=0))
    assert (mean.subject, mean.network, mean.rest) == pytest.approx((0.09, 0.01, 0.25), rel=0.08)
    means = [drawn(rng, 5, 300, 0.3, 0.1, 0.5).mean() for _ in range(4000)]
    assert mean.estimate(0, 300, 1, 5).error == pytest.approx(np.std(means), rel=0.06)


def test_a_family_is_corrected_as_by_holm():
    p = [0.01, 0.04, 0.03, 0.005]
    assert adjusted(p, 4) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    # Each of two differences is either zero or large: at most two hypotheses are true.
    assert adjusted([0.02, 0.9, 0.03, 0.8], 2) == pytest.approx([0.04, 1, 0.06, 1])


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [3, 8])
@pytest.mark.parametrize(
    "spread", [(0.3, 0.0, 0.3), (0.1, 0.05, 0.4), (0.0, 0.2, 0.3), (0.2, 0.01, 0.3)]
)
def test_intervals_cover_and_tests_err_at_their_level(seeds, spread):
    rng = np.random.default_rng(3)
    found = [estimate(drawn(rng, seeds, 100, *spread)) for _ in range(2000)]
    # The degrees of freedom are an approximation; the sampling error is 0.005.
    assert np.mean([e.p < 0.05 for e in found]) < 0.07
    assert np.mean([e.interval["low"] <= 0 <= e.interval["high"] for e in found]) > 0.93
    # At a true difference of the margin, equivalence is claimed in at most 5% of trials.
    assert (
        np.mean([Estimate(e.value + 0.1, e.error, e.freedom).p_equal(0.1) < 0.05 for e in found])
        < 0.062
    )


def test_shares_of_errors_are_covered_too():
    """0 or 1 for each subject and network, as errors of two cells are."""
    rng, covered = np.random.default_rng(4), []
    for _ in range(1500):
        hard = rng.normal(-1.2, 1.0, 200)
        cells = [
            (hard + rng.normal(0, 0.2, (4, 1)) + rng.logistic(0, 0.5, (4, 200)) > 0).astype(float)
            for _ in range(2)
        ]
        interval = estimate(cells[0] - cells[1]).interval
        covered.append(interval["low"] <= 0 <= interval["high"])
    assert 0.938 < np.mean(covered) < 0.985


@pytest.mark.slow
def test_resampling_few_seeds_covers_less():
    """Why seeds are not resampled: three of them vary too little among themselves."""
    rng, resampled, crossed = np.random.default_rng(5), [], []
    for _ in range(400):
        values = drawn(rng, 3, 60, 0.2, 0.2, 0.2)
        draws = [
            values[rng.integers(3, size=3)][:, rng.integers(60, size=60)].mean() for _ in range(200)
        ]
        low, high = np.quantile(draws, [0.025, 0.975])
        resampled.append(low <= 0 <= high)
        interval = estimate(values).interval
        crossed.append(interval["low"] <= 0 <= interval["high"])
    assert np.mean(resampled) < 0.85 and np.mean(crossed) > 0.92


def test_mean_squares_are_those_of_the_two_way_table():
    values = np.random.default_rng(6).standard_normal((3, 5))
    subject, seed, rest = mean_squares(values)
    total = ((values - values.mean()) ** 2).sum()
    assert 4 * subject + 2 * seed + 8 * rest == pytest.approx(total)
