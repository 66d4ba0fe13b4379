"""AUC and balanced accuracy adjusted for age and sex, on scores whose truth is known."""

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import balanced_accuracy_score, r2_score, roc_auc_score

from uncus.pipeline.evaluation.adjustment import (
    Adjustment,
    adjusted,
    explained,
    overlap,
    residual_auc,
    spline,
)
from uncus.pipeline.evaluation.bootstrap import bootstrap, interval
from uncus.pipeline.evaluation.metrics import auc

Array = np.ndarray
EFFECT = 1.2
TRUE_AUC = 0.802  # Phi(1.2 / sqrt(2)): the AUC of two normal distributions 1.2 SDs apart


def people(
    n: int, older: float, tied: bool = True, seed: int = 0
) -> tuple[pd.DataFrame, Array, Array, Array]:
    """n people in two classes, the second ``older`` (years) and more often male, if ``tied``."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    sex = rng.random(n) < 0.35 + 0.3 * labels * tied
    age = 70 + older * labels + rng.normal(0, 6, n)
    scans = pd.DataFrame({"age": [f"{a:.4f}" for a in age], "sex": np.where(sex, "M", "F")})
    return scans, labels, age, sex


def outputs(score: Array) -> Array:
    """Probabilities [N, 2] of which ``score`` is the logit."""
    positive = 1 / (1 + np.exp(-score))
    return np.stack([1 - positive, positive], axis=1)


def measured(scans: pd.DataFrame, labels: Array, score: Array) -> dict[str, float]:
    """The figures of a score, without intervals."""
    weights, probabilities = np.ones((1, len(labels))), outputs(score)
    adjustment = Adjustment.of(scans, labels, list(scans))
    assert adjustment is not None
    found = adjusted(labels, probabilities, weights, adjustment)
    found["auc"] = auc(labels == 1, score, weights)
    found["explained"] = explained(probabilities, weights, adjustment)
    return {name: float(value[0]) for name, value in found.items()}


AGE_ALONE = {
    "linear": lambda age: 0.2 * (age - 73),
    "saturating": lambda age: 4 * np.tanh((age - 76) / 3),
    "growing": lambda age: np.exp((age - 72) / 8),
}


@pytest.mark.parametrize("shape", AGE_ALONE)
@pytest.mark.parametrize("noise", [0.02, 1.0])
def test_a_score_of_age_alone_is_worth_nothing(shape: str, noise: float) -> None:
    raw, corrected, balanced = [], [], []
    for seed in range(8):
        scans, labels, age, sex = people(400, older=6, seed=seed)
        rng = np.random.default_rng(seed)
        score = AGE_ALONE[shape](age) + 0.5 * sex + noise * rng.normal(size=400)
        found = measured(scans, labels, score)
        raw.append(found["auc"])
        corrected.append(found["auc_adjusted"])
        balanced.append(found["balanced_accuracy_weighted"])
    assert np.mean(raw) > 0.7
    assert np.mean(corrected) == pytest.approx(0.5, abs=0.025)
    assert np.mean(balanced) == pytest.approx(0.5, abs=0.025)


def test_a_score_independent_of_age_stays_what_it_is() -> None:
    differences = []
    for seed in range(8):
        scans, labels, *_ = people(400, older=0, tied=False, seed=seed)
        score = EFFECT * labels + np.random.default_rng(seed + 50).normal(size=400)
        found = measured(scans, labels, score)
        differences.append(found["auc_adjusted"] - found["auc"])
        assert found["explained"] < 0.15  # of it, what goes by chance with the class
        assert abs(differences[-1]) < 0.03
    assert np.mean(differences) == pytest.approx(0, abs=0.005)


def test_what_a_score_knows_besides_age_is_kept() -> None:
    scans, labels, age, sex = people(8000, older=5)
    rng = np.random.default_rng(1)
    score = EFFECT * labels + 0.15 * (age - 72) + 0.5 * sex + rng.normal(size=8000)
    found = measured(scans, labels, score)
    assert found["auc"] > TRUE_AUC + 0.03
    assert found["auc_adjusted"] == pytest.approx(TRUE_AUC, abs=0.015)


def test_covariates_added_to_a_score_do_not_change_its_adjusted_auc() -> None:
    """A run with age and sex as covariates adds a linear term to the logit."""
    scans, labels, age, sex = people(300, older=5)
    scan = labels + np.random.default_rng(1).normal(size=300)
    without = measured(scans, labels, scan)
    given = measured(scans, labels, scan + 0.2 * (age - 72) + 0.9 * sex)
    assert given["auc"] > without["auc"] + 0.03
    assert given["auc_adjusted"] == pytest.approx(without["auc_adjusted"], abs=1e-6)
    assert given["explained"] > without["explained"] + 0.2


def test_the_interval_covers_the_truth() -> None:
    covered = 0
    for seed in range(40):
        scans, labels, age, _ = people(120, older=5, seed=seed)
        rng = np.random.default_rng(seed + 100)
        score = EFFECT * labels + 0.15 * (age - 72) + rng.normal(size=120)
        adjustment = Adjustment.of(scans, labels, ["age", "sex"])
        assert adjustment is not None
        said = outputs(score)
        drawn = bootstrap(
            lambda w, p=said, a=adjustment, y=labels: adjusted(y, p, w, a),  # type: ignore[misc]
            np.arange(120),
            200,
            seed,
        )
        around = interval(drawn["auc_adjusted"])
        assert around["low"] is not None and around["high"] is not None
        covered += around["low"] <= TRUE_AUC <= around["high"]
    assert 35 <= covered <= 40


def test_the_residual_auc_is_that_of_the_regressions_residuals() -> None:
    rng = np.random.default_rng(0)
    design = np.c_[np.ones(60), rng.normal(size=(60, 2))]
    positive = np.arange(60) % 3 == 0
    score = np.round(design @ [0.3, 1.0, -0.5] + positive + rng.normal(size=60), 1)
    weights = rng.integers(0, 3, (3, 60)).astype(float)
    for row, value in zip(weights, residual_auc(positive, score, weights, design), strict=True):
        fit = LinearRegression().fit(design[~positive], score[~positive], row[~positive])
        residual = score - fit.predict(design)
        assert value == pytest.approx(roc_auc_score(positive, residual, sample_weight=row))


@pytest.mark.parametrize("classes", [2, 3])
def test_nothing_is_adjusted_for_what_the_classes_do_not_share(classes: int) -> None:
    """One class is all men, the others all women: no weights make them alike."""
    scans, _, _, _ = people(120, older=0)
    labels = np.arange(120) % classes
    assert Adjustment.of(scans, labels, ["age", "sex"]) is not None
    apart = scans.assign(sex=np.where(labels == 1, "M", "F"))
    assert Adjustment.of(apart, labels, ["age", "sex"]) is None


def test_ties_count_a_half() -> None:
    positive = np.array([True, True, False, False, False])
    score = np.array([2.0, 1.0, 1.0, 1.0, 0.0])
    ones, constant = np.ones((1, 5)), np.ones((5, 1))
    assert residual_auc(positive, score, ones, constant)[0] == pytest.approx(5 / 6)
    assert residual_auc(positive, np.zeros(5), ones, constant)[0] == 0.5


def test_overlap_weights_make_the_classes_alike() -> None:
    rng = np.random.default_rng(3)
    labels = np.arange(600) % 3
    x = rng.normal(size=(600, 2)) + labels[:, None] * [0.5, -0.3]
    weights = overlap(np.c_[np.ones(600), x], labels)
    means = np.array(
        [np.average(x[labels == k], axis=0, weights=weights[labels == k]) for k in range(3)]
    )
    assert np.ptp(np.array([x[labels == k].mean(axis=0) for k in range(3)]), axis=0).min() > 0.4
    assert np.ptp(means, axis=0).max() < 0.05
    two = labels < 2
    fit = LogisticRegression(C=100, max_iter=2000).fit(x[two], labels[two])
    other = fit.predict_proba(x[two])[np.arange(two.sum()), 1 - labels[two]]
    np.testing.assert_allclose(overlap(np.c_[np.ones(two.sum()), x[two]], labels[two]), other)


def test_weighted_balanced_accuracy_and_explained_variance_against_scikit_learn() -> None:
    scans, labels, age, _ = people(200, older=4)
    score = labels + 0.1 * (age - 72) + np.random.default_rng(2).normal(size=200)
    adjustment = Adjustment.of(scans, labels, ["age", "sex"])
    assert adjustment is not None
    found = measured(scans, labels, score)
    expected = balanced_accuracy_score(labels, score > 0, sample_weight=adjustment.balance)
    assert found["balanced_accuracy_weighted"] == pytest.approx(expected)
    x = adjustment.design[:, 1:]
    plain = r2_score(score, LinearRegression().fit(x, score).predict(x))
    expected = 1 - (1 - plain) * 199 / (200 - 1 - x.shape[1])
    assert found["explained"] == pytest.approx(expected, abs=1e-6)


def test_classes_that_share_no_ages_are_not_adjusted() -> None:
    scans, labels, *_ = people(200, older=60)
    assert Adjustment.of(scans, labels, ["age", "sex"]) is None


def test_what_is_unknown_is_left_out() -> None:
    scans, labels, age, _ = people(200, older=4)
    score = 0.2 * (age - 72) + np.random.default_rng(2).normal(size=200)
    known = np.arange(200) >= 40
    scans.loc[~known, "age"] = ""
    adjustment = Adjustment.of(scans, labels, ["age", "sex"])
    assert adjustment is not None
    np.testing.assert_array_equal(adjustment.known, known)
    fewer = measured(scans[known].reset_index(drop=True), labels[known], score[known])
    assert measured(scans, labels, score)["auc_adjusted"] == pytest.approx(fewer["auc_adjusted"])
    scans["age"] = [""] * 150 + list(scans["age"][150:])  # known for a quarter
    left = Adjustment.of(scans, labels, ["age", "sex"])
    assert left is not None and left.columns == ("sex",) and left.known.all()
    assert Adjustment.of(scans.assign(sex="F"), labels, ["age", "sex"]) is None


def test_a_resample_without_one_sex_has_a_value() -> None:
    scans, labels, age, _ = people(60, older=3)
    scans["sex"] = ["M"] * 2 + ["F"] * 58
    adjustment = Adjustment.of(scans, labels, ["age", "sex"])
    assert adjustment is not None
    weights = np.ones((2, 60))
    weights[1, :2] = 0
    assert np.isfinite(
        adjusted(labels, outputs(age - 70), weights, adjustment)["auc_adjusted"]
    ).all()


def test_the_spline_is_linear_at_its_ends() -> None:
    x = np.linspace(50, 100, 501)
    bent = spline(x, np.ones(501, dtype=bool))
    assert bent is not None
    curvature = np.abs(np.diff(bent[:, 0], 2))
    assert curvature[:49].max() < 1e-9 and curvature[-49:].max() < 1e-9
    assert curvature[100:400].min() > 1e-6
    assert spline(np.repeat([0.0, 1.0], 50), np.ones(100, dtype=bool)) is None


def test_three_classes() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(600) % 3
    age = 68 + 4 * labels + rng.normal(0, 6, 600)
    scans = pd.DataFrame({"age": age.astype(str)})
    raw = np.stack([-(((age - 68 - 4 * k) / 6) ** 2) for k in range(3)], axis=1)
    shares = np.exp(raw) / np.exp(raw).sum(axis=1, keepdims=True)
    adjustment = Adjustment.of(scans, labels, ["age"])
    assert adjustment is not None
    ones = np.ones((1, 600))
    areas = [auc(labels == k, shares[:, k], ones)[0] for k in range(3)]
    found = adjusted(labels, shares, ones, adjustment)
    assert np.mean(areas) > 0.6
    assert found["auc_adjusted"][0] == pytest.approx(0.5, abs=0.05)
    assert found["balanced_accuracy_weighted"][0] == pytest.approx(1 / 3, abs=0.05)
