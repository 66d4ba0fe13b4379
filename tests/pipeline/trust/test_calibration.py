"""Calibration: the true probabilities are found again, scikit-learn agrees, and few say why not."""

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import log_loss

from tests.pipeline.trust.outputs import made
from uncus.pipeline.trust.calibration import Calibration, log_odds, why_not


class Scores(ClassifierMixin, BaseEstimator):
    """A fitted classifier for scikit-learn: its scores are its input."""

    classes_ = np.array([0, 1])
    n_features_in_ = 1

    def fit(self, x, y):
        return self

    def predict(self, x):
        return np.zeros(len(x), int)

    def decision_function(self, x):
        return x[:, 0] if x.shape[1] == 1 else x


def by_scikit_learn(known, method):
    """Calibrated probabilities by scikit-learn's own class."""
    scores, model = log_odds(known.outputs), Scores()
    if len(known.names) == 2:
        scores = scores[:, 1:]
    model.classes_ = np.arange(len(known.names))
    model.n_features_in_ = scores.shape[1]
    fitted = CalibratedClassifierCV(FrozenEstimator(model), method=method, ensemble=False)
    return fitted.fit(scores, known.labels).predict_proba(scores)


@pytest.mark.parametrize("names", [("CN", "AD"), ("CN", "MCI", "AD")])
def test_it_is_scikit_learns_sigmoid(names: tuple[str, ...]) -> None:
    known = made(300, names, temperature=3.0)
    ours = Calibration.fit(known)(known.outputs)
    assert np.allclose(ours, by_scikit_learn(known, "sigmoid"), atol=2e-3)
    assert np.allclose(ours.sum(axis=1), 1)


def test_a_temperature_is_found() -> None:
    known = made(20_000, temperature=4.0)
    fitted = Calibration.fit(known)
    assert fitted.slope == pytest.approx([0.25, 0.25], rel=0.05)
    assert fitted.offset == pytest.approx([0, 0], abs=0.1)
    ours, theirs = fitted(known.outputs), by_scikit_learn(known, "temperature")
    assert np.abs(ours - theirs).max() < 0.02
    new = made(20_000, temperature=4.0, seed=1)
    truth = made(20_000, temperature=1.0, seed=1).outputs
    assert np.abs(fitted(new.outputs) - truth).max() < 0.03


@pytest.mark.parametrize("names", [("CN", "AD"), ("CN", "MCI", "AD")])
def test_networks_that_do_not_know_the_shares_learn_them(names: tuple[str, ...]) -> None:
    # As of networks that were trained on balanced classes: a temperature alone cannot mend this.
    shares = np.array([0.7, 0.2, 0.1][: len(names)]) / sum([0.7, 0.2, 0.1][: len(names)])
    law = {"shares": shares.tolist(), "offset": -np.log(shares)}
    known, new = made(8000, names, **law), made(8000, names, seed=1, **law)
    fitted = Calibration.fit(known)
    assert np.abs(fitted(new.outputs).mean(axis=0) - fitted.prevalence).max() < 0.02
    before, after = (log_loss(new.labels, p) for p in (new.outputs, fitted(new.outputs)))
    assert after < before - 0.03


def test_a_shift_of_prevalence_is_bayes_rule() -> None:
    rare, even = [0.9, 0.1], [0.5, 0.5]
    known = made(20_000, shares=even)
    there = made(20_000, shares=rare, seed=1)
    # The networks were trained on even classes; only the scans come from elsewhere.
    outputs = there.outputs * np.array(even) / np.array(rare)
    fitted = Calibration.fit(known)
    calibrated = fitted(outputs / outputs.sum(axis=1, keepdims=True))
    assert calibrated[:, 1].mean() > 0.15
    shifted = fitted.shifted(calibrated, np.array(rare))
    assert np.abs(shifted - there.outputs).max() < 0.05
    assert np.allclose(fitted.shifted(calibrated, fitted.prevalence), calibrated)


def test_separated_classes_do_not_become_certain() -> None:
    known = made(60, temperature=1.0)
    sure = np.where(np.eye(2)[known.labels] == 1, 0.55, 0.45)
    fitted = Calibration.fit(type(known)(known.names, known.scans, known.folds, known.labels, sure))
    most = fitted(sure).max()
    counts = np.bincount(known.labels)
    assert 0.9 < most < (counts.max() + 1) / (counts.max() + 2) + 1e-3


def test_networks_worse_than_chance_give_the_share_of_the_class() -> None:
    known = made(400, shares=[0.75, 0.25])
    against = type(known)(
        known.names, known.scans, known.folds, known.labels, known.outputs[:, ::-1]
    )
    calibrated = Calibration.fit(against)(np.array([[0.01, 0.99], [0.5, 0.5], [1.0, 0.0]]))
    assert np.ptp(calibrated, axis=0).max() == 0
    assert calibrated[0] == pytest.approx(Calibration.fit(known).prevalence, abs=0.02)


def test_nothing_is_more_certain_than_what_was_seen() -> None:
    known = made(60)
    near = 0.5 + (known.outputs - 0.5) / 100  # networks that hardly learned: a steep map
    fitted = Calibration.fit(type(known)(known.names, known.scans, known.folds, known.labels, near))
    assert fitted.slope.min() > 20
    assert fitted(np.array([0.999, 0.001]))[0] == fitted(near)[:, 0].max() < 0.999


def test_probabilities_of_0_and_1_stay_finite() -> None:
    known = made(400)
    assert np.isfinite(Calibration.fit(known)(np.array([[0.0, 1.0], [1.0, 0.0]]))).all()


def test_few_subjects_are_counted_not_their_scans() -> None:
    known = made(19, seeds=3)
    few = known.take(np.flatnonzero(np.cumsum(known.labels == 1) <= 9))
    assert "subjects of" in why_not(few) and "at least 10 are needed" in why_not(few)
    with pytest.raises(ValueError, match="at least 10"):
        Calibration.fit(few)
    assert why_not(made(100)) == ""


def test_the_card_gives_the_same_map_back() -> None:
    known = made(100, temperature=2.0)
    fitted = Calibration.fit(known)
    again = Calibration.from_dict(fitted.as_dict(known.names), known.names)
    assert (again(known.outputs) == fitted(known.outputs)).all() and again.scans == 100
    with pytest.raises(KeyError):
        Calibration.from_dict(fitted.as_dict(known.names), ("CN", "FTD"))
