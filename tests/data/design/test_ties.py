"""Covariates that go with the class, against scikit-learn and by hand."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from uncus.data.design.ties import ties


def test_a_number_has_its_auc() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(120) % 2
    age = (70 + 5 * labels + rng.normal(0, 6, 120)).astype(np.float32)
    age[:5] = np.nan
    (tie,) = ties(age[:, None], ["age"], labels)
    assert tie.measure == "AUC"
    assert tie.value == pytest.approx(roc_auc_score(labels[5:], age[5:]))
    assert tie.p < 0.001 and "age goes with the class" in tie.warning
    assert f"AUC {tie.value:.2f}, Mann-Whitney test, p < 0.001" in tie.warning


def test_two_values_have_cramers_v() -> None:
    # 30 of 40 patients are men, 10 of 40 controls: phi = (30 * 30 - 10 * 10) / 40^2 = 0.5.
    labels = np.repeat([0, 1], 40)
    sex = np.r_[np.repeat([0, 1], [30, 10]), np.repeat([0, 1], [10, 30])].astype(np.float32)
    (tie,) = ties(sex[:, None], ["sex"], labels)
    assert tie.measure == "Cramér's V" and tie.value == pytest.approx(0.5)
    assert tie.p == pytest.approx(7.744e-6, rel=1e-3)  # chi-squared 20, one degree of freedom
    assert "Cramér's V 0.50" in tie.warning


def test_what_is_matched_is_not_warned_of() -> None:
    rng = np.random.default_rng(0)
    warned = 0
    for _ in range(100):
        labels = np.arange(120) % 2
        values = np.c_[rng.normal(70, 6, 120), rng.integers(0, 2, 120)].astype(np.float32)
        warned += any(tie.warning for tie in ties(values, ["age", "sex"], labels))
    assert warned <= 6
    large = np.arange(20_000) % 2
    weak = (0.06 * large + rng.normal(size=20_000)).astype(np.float32)
    (tie,) = ties(weak[:, None], ["x"], large)
    assert tie.p < 0.01 and tie.warning == "", "significant, but too weak to matter"


def test_three_classes_and_columns_without_a_tie() -> None:
    labels = np.repeat([0, 1, 2], 30)
    rng = np.random.default_rng(0)
    values = np.c_[labels * 3 + rng.normal(size=90), np.ones(90), np.full(90, np.nan)]
    (tie,) = ties(values.astype(np.float32), ["volume", "constant", "unknown"], labels)
    assert tie.covariate == "volume" and tie.test == "Kruskal-Wallis test"
    rest = max(
        (roc_auc_score(labels == k, values[:, 0]) for k in range(3)), key=lambda a: abs(a - 0.5)
    )
    assert tie.value == pytest.approx(rest, abs=1e-6)
