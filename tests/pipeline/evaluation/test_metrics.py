"""Metrics against scikit-learn, intervals against a simulation, ICC against its formula."""

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sk

from uncus.pipeline.evaluation import metrics
from uncus.pipeline.evaluation.bootstrap import bootstrap, interval, intervals
from uncus.pipeline.evaluation.retest_agreement import agreement, icc, session_pairs

RNG = np.random.default_rng(0)
N = 80


def draws(n: int = N) -> np.ndarray:
    """Weights of a plain row and of five resamples."""
    return np.concatenate([np.ones((1, n)), RNG.multinomial(n, np.full(n, 1 / n), size=5)])


def binary_case(ties: bool) -> tuple[np.ndarray, np.ndarray]:
    labels = RNG.integers(0, 2, N)
    scores = np.clip(0.5 + 0.3 * (labels - 0.5) + 0.25 * RNG.normal(size=N), 0, 1)
    return labels, np.round(scores, 1) if ties else scores


@pytest.mark.parametrize("ties", [False, True])
def test_binary_metrics_agree_with_scikit_learn(ties: bool) -> None:
    labels, p = binary_case(ties)
    weights = draws()
    got = metrics.classification(labels, np.stack([1 - p, p], 1), weights, ["CN", "AD"])
    for row, w in enumerate(weights):
        called = (p > 0.5).astype(int)
        expected = {
            "auc": sk.roc_auc_score(labels, p, sample_weight=w),
            "average_precision": sk.average_precision_score(labels, p, sample_weight=w),
            "brier": sk.brier_score_loss(labels, p, sample_weight=w),
            "accuracy": sk.accuracy_score(labels, called, sample_weight=w),
            "balanced_accuracy": sk.balanced_accuracy_score(labels, called, sample_weight=w),
            "sensitivity": sk.recall_score(labels, called, sample_weight=w),
            "specificity": sk.recall_score(labels, called, pos_label=0, sample_weight=w),
        }
        for metric, value in expected.items():
            assert got[metric][row] == pytest.approx(value, abs=1e-10), metric


def test_metrics_of_three_classes_agree_with_scikit_learn() -> None:
    labels = RNG.integers(0, 3, N)
    p = RNG.dirichlet(np.ones(3), N) + 0.5 * np.eye(3)[labels]
    p /= p.sum(axis=1, keepdims=True)
    names = ["CN", "MCI", "AD"]
    got = {k: v[0] for k, v in metrics.classification(labels, p, np.ones((1, N)), names).items()}
    called = p.argmax(axis=1)
    assert got["auc"] == pytest.approx(sk.roc_auc_score(labels, p, multi_class="ovr"))
    assert got["accuracy"] == pytest.approx(sk.accuracy_score(labels, called))
    assert got["balanced_accuracy"] == pytest.approx(sk.balanced_accuracy_score(labels, called))
    for k, name in enumerate(names):
        one = (labels == k).astype(int)
        assert got[f"auc_{name}"] == pytest.approx(sk.roc_auc_score(one, p[:, k]))
        assert got[f"brier_{name}"] == pytest.approx(sk.brier_score_loss(one, p[:, k]))
        assert got[f"sensitivity_{name}"] == pytest.approx(sk.recall_score(one, called == k))
        precision = sk.average_precision_score(one, p[:, k])
        assert got[f"average_precision_{name}"] == pytest.approx(precision)
    assert got["specificity"] == pytest.approx(
        np.mean([got[f"specificity_{name}"] for name in names])
    )
    assert list(got)[:8] == [k for k in metrics.TITLES if k in got]


def test_calibration_error_by_hand() -> None:
    p = np.array([0.05, 0.08, 0.32, 0.95, 1.0])
    positive = np.array([False, True, False, True, True])
    # Bins: two scans with mean 0.065 and share 0.5, one with 0.32 and 0, two with 0.975 and 1.
    by_hand = (2 * abs(0.5 - 0.065) + abs(0 - 0.32) + 2 * abs(1 - 0.975)) / 5
    assert metrics.calibration_error(positive, p, np.ones((1, 5)))[0] == pytest.approx(by_hand)
    # A scan drawn twice is the same as two scans.
    twice = np.array([0, 1, 2, 3, 4, 4])
    assert metrics.calibration_error(positive, p, np.array([[1.0, 1, 1, 1, 2]]))[0] == (
        pytest.approx(metrics.calibration_error(positive[twice], p[twice], np.ones((1, 6)))[0])
    )


@pytest.mark.filterwarnings("error")
def test_a_column_of_no_known_value_has_no_metrics() -> None:
    found = metrics.regression(np.full((3, 1), np.nan), np.ones((3, 1)), draws(3), ["age"])
    assert all(np.isnan(values).all() for values in found.values())


def test_regression_agrees_with_scikit_learn_and_leaves_missing_out() -> None:
    true = RNG.normal(70, 10, (N, 2))
    said = true + RNG.normal(0, 6, (N, 2))
    true[::7, 1] = np.nan
    weights = draws()
    got = metrics.regression(true, said, weights, ["age", "nwbv"])
    for row, w in enumerate(weights):
        for k, name in enumerate(["age", "nwbv"]):
            known = np.isfinite(true[:, k])
            a, b, v = true[known, k], said[known, k], w[known]
            mae = sk.mean_absolute_error(a, b, sample_weight=v)
            assert got[f"mae_{name}"][row] == pytest.approx(mae)
            assert got[f"r2_{name}"][row] == pytest.approx(sk.r2_score(a, b, sample_weight=v))
            drawn = np.repeat(np.arange(len(a)), v.astype(int))
            r = np.corrcoef(a[drawn], b[drawn])[0, 1]
            assert got[f"pearson_r_{name}"][row] == pytest.approx(r)
    assert set(metrics.regression(true[:, :1], said[:, :1], weights, ["age"])) == {
        "mae",
        "r2",
        "pearson_r",
    }


def test_small_spreads_far_from_zero_are_not_lost() -> None:
    true = 1e4 + np.array([0.0, 1e-3, 2e-3, 3e-3])
    got = metrics.numeric(true, true + 1e-4, np.ones((1, 4)))
    assert got["pearson_r"][0] == pytest.approx(1, abs=1e-6)


def test_what_is_undefined_is_nan() -> None:
    ones = np.ones((1, 4))
    p = np.array([0.2, 0.4, 0.6, 0.8])
    got = metrics.binary(np.ones(4, dtype=bool), p, p > 0.5, ones)
    assert np.isnan(got["auc"][0]) and np.isnan(got["specificity"][0])
    assert got["sensitivity"][0] == 0.5
    flat = metrics.numeric(np.array([1.0, 2.0]), np.array([3.0, 3.0]), ones[:, :2])
    assert np.isnan(flat["pearson_r"][0])
    assert np.isnan(metrics.numeric(np.array([2.0, 2.0]), np.array([1.0, 3.0]), ones[:, :2])["r2"])


def test_titles() -> None:
    assert metrics.title("balanced_accuracy_AD") == "balanced accuracy, AD"
    assert metrics.title("auc") == "AUC"
    assert metrics.base("average_precision_a_b") == "average_precision"


def test_bootstrap_draws_subjects_with_all_their_scans() -> None:
    subjects = np.array(["a", "b", "a", "c"])
    seen = []

    def measure(weights: np.ndarray) -> metrics.Values:
        seen.append(weights)
        return {"n": weights.sum(axis=1)}

    bootstrap(measure, subjects, 200, 0)
    weights = np.concatenate(seen)
    assert weights.shape == (201, 4) and (weights[0] == 1).all()
    assert (weights[:, 0] == weights[:, 2]).all()  # both scans of a, or neither
    assert (weights[:, [0, 1, 3]].sum(axis=1) == 3).all()  # three subjects are drawn
    assert weights[1:, 0].std() > 0


def test_bootstrap_is_the_same_for_a_seed_however_it_is_cut(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def measure(weights: np.ndarray) -> metrics.Values:
        return {"x": weights @ np.arange(6.0)}

    subjects = np.array(list("aabbcd"))
    once = bootstrap(measure, subjects, 50, 3)["x"]
    monkeypatch.setattr("uncus.pipeline.evaluation.bootstrap.CHUNK", 30)
    assert (bootstrap(measure, subjects, 50, 3)["x"] == once).all()
    assert (bootstrap(measure, subjects, 50, 4)["x"] != once).any()


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    # Two scans a person that share most of their noise: intervals over scans would be too short.
    rng = np.random.default_rng(1)
    people, trials, truth = 60, 300, np.sqrt(2 / np.pi)
    by_person = by_scan = 0
    for trial in range(trials):
        shared = np.repeat(rng.normal(0, np.sqrt(0.9), people), 2)
        error = shared + rng.normal(0, np.sqrt(0.1), 2 * people)

        def measure(weights: np.ndarray, error: np.ndarray = error) -> metrics.Values:
            return {
                "mae": metrics.numeric(
                    np.arange(len(error)), np.arange(len(error)) + error, weights
                )["mae"]
            }

        for unit in ("person", "scan"):
            rows = np.arange(2 * people)
            found = interval(
                bootstrap(measure, rows // 2 if unit == "person" else rows, 200, trial)["mae"]
            )
            assert found["low"] is not None and found["high"] is not None
            inside = found["low"] <= truth <= found["high"]
            by_person += inside and unit == "person"
            by_scan += inside and unit == "scan"
    assert 0.90 < by_person / trials < 0.985
    assert by_scan / trials < 0.89


def test_auc_intervals_cover() -> None:
    # Two normals one apart: the AUC is Phi(1 / sqrt(2)) = 0.760.
    rng, trials, inside = np.random.default_rng(2), 200, 0
    for trial in range(trials):
        positive = np.arange(80) < 40
        score = rng.normal(size=80) + positive

        def measure(
            w: np.ndarray, p: np.ndarray = positive, s: np.ndarray = score
        ) -> metrics.Values:
            return {"auc": metrics.auc(p, s, w)}

        found = interval(bootstrap(measure, np.arange(80), 200, trial)["auc"])
        assert found["low"] is not None and found["high"] is not None
        inside += found["low"] <= 0.7602 <= found["high"]
    assert 0.89 < inside / trials < 0.985


def test_calibration_interval_holds_its_value() -> None:
    rng = np.random.default_rng(3)
    p = rng.uniform(size=60)
    positive = rng.uniform(size=60) < p  # well calibrated: plain percentiles lie above the value
    values = bootstrap(
        lambda w: {"ece": metrics.calibration_error(positive, p, w)}, np.arange(60), 500, 0
    )
    plain, found = interval(values["ece"]), intervals(values)["ece"]
    assert found["low"] is not None and found["high"] is not None and found["value"] is not None
    assert 0 <= found["low"] <= found["value"] <= found["high"]
    assert plain["high"] is not None and plain["high"] > found["high"]


def test_interval_of_what_is_mostly_undefined_is_none() -> None:
    assert interval(np.array([0.5, np.nan, np.nan, 0.4])) == {
        "value": 0.5,
        "low": None,
        "high": None,
    }
    assert interval(np.full(4, np.nan))["value"] is None


def test_icc_by_the_formula() -> None:
    # The six subjects and four judges of Shrout & Fleiss (1979), table 2; their ICC(2,1) is 0.29.
    ratings = np.array(
        [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7.0]]
    )
    assert icc(ratings) == pytest.approx(0.29, abs=0.005)
    n, k = ratings.shape
    total = ((ratings - ratings.mean()) ** 2).sum()
    rows = k * ((ratings.mean(1) - ratings.mean()) ** 2).sum()
    columns = n * ((ratings.mean(0) - ratings.mean()) ** 2).sum()
    msr, msc = rows / (n - 1), columns / (k - 1)
    mse = (total - rows - columns) / ((n - 1) * (k - 1))
    by_hand = (msr - mse) / (msr + (k - 1) * mse + k * (msc - mse) / n)
    assert icc(ratings) == pytest.approx(by_hand, abs=1e-12)
    assert icc(np.stack([ratings, ratings + 1])).shape == (2,)
    assert np.isnan(icc(np.ones((4, 2))))


def test_agreement_of_pairs() -> None:
    pairs = np.stack([np.arange(10.0), np.arange(10.0) + [1, -1] * 5 + 0.5], axis=1)
    found = agreement(pairs, 200, 0)
    difference = pairs[:, 1] - pairs[:, 0]
    assert found["n"] == 10 and found["bias"] == pytest.approx(0.5)
    assert found["limits"][1] == pytest.approx(0.5 + 1.96 * difference.std(ddof=1))
    assert found["mean_absolute_difference"]["value"] == pytest.approx(1.0)
    assert found["icc"]["low"] <= found["icc"]["value"] <= found["icc"]["high"]


def test_sessions_are_paired_within_a_fold_in_natural_order() -> None:
    rows = pd.DataFrame(
        [
            ("sub-1", "ses-10", 0, 0.3),
            ("sub-1", "ses-2", 0, 0.1),
            ("sub-1", "ses-11", 0, 0.9),
            ("sub-2", "ses-1", 0, 0.5),
            ("sub-2", "ses-2", 1, 0.6),  # another fold, hence another network
            ("sub-3", "ses-1", 1, 0.7),
        ],
        columns=["participant_id", "session_id", "fold", "AD"],
    )
    pairs = session_pairs(rows, ["AD"])
    assert pairs.to_numpy().tolist() == [["sub-1", 0.1, 0.3]]
    assert session_pairs(rows[3:], ["AD"]).empty
