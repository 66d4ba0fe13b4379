"""DeLong's variance against formulas and resampling."""

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from uncus.pipeline.audit import delong


def scores(seed: int, n: int = 60) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    positive = rng.random(n) < 0.4
    shared = rng.standard_normal(n) + positive
    one, two = (np.round(shared + rng.standard_normal(n), 1) for _ in range(2))
    return positive, one, two


def test_the_area_is_that_of_scikit_learn_with_ties() -> None:
    positive, one, _ = scores(0)
    assert delong.auc(positive, one)["value"] == pytest.approx(roc_auc_score(positive, one))


def test_the_variance_is_that_of_the_definition() -> None:
    positive, one, _ = scores(1)
    kernel = one[positive][:, None] > one[~positive][None, :]
    kernel = kernel + 0.5 * (one[positive][:, None] == one[~positive][None, :])
    up, down = kernel.mean(axis=1), kernel.mean(axis=0)
    variance = up.var(ddof=1) / len(up) + down.var(ddof=1) / len(down)
    found = delong.auc(positive, one)
    assert found["high"] - found["value"] == pytest.approx(1.959964 * np.sqrt(variance))


def test_the_p_value_of_a_difference_is_uniform_where_there_is_none() -> None:
    p = [delong.difference(*scores(seed, 150))["p"] for seed in range(300)]
    assert stats.kstest(p, "uniform").pvalue > 0.01
    assert np.mean(np.array(p) < 0.05) < 0.1


def test_a_score_does_not_differ_from_itself() -> None:
    positive, one, _ = scores(2)
    assert delong.difference(positive, one, one) == {"value": 0, "low": 0, "high": 0, "p": 1}
