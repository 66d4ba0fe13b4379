"""Conformal sets: those of crepes, with the stated share of errors in each class."""

import json
import math
import warnings

import numpy as np
import pytest
from crepes import ConformalClassifier, ConformalRegressor

from tests.pipeline.trust.outputs import made
from uncus.pipeline.trust.conformal import LEVELS, Conformal, level_index, thresholds
from uncus.pipeline.trust.out_of_fold import OutOfFold


@pytest.mark.parametrize("scans", [9, 10, 57])
def test_the_sets_are_those_of_crepes(scans: int) -> None:
    rng = np.random.default_rng(scans)
    scores = rng.random(scans).round(2)  # with ties
    new = np.r_[rng.random(200), scores, 0.0, 1.0]
    p_values = ConformalClassifier().fit(scores).predict_p(new, smoothing=False)
    for level, most in zip(LEVELS, thresholds(scores), strict=True):
        assert ((new <= most) == (p_values > level)).all(), level


def test_intervals_are_those_of_crepes() -> None:
    rng = np.random.default_rng(0)
    true, outputs = rng.normal(70, 9, (80, 1)), rng.normal(70, 9, (80, 1))
    base = made(80)
    known = OutOfFold(("age",), base.scans, base.folds, true, outputs)
    low, high = Conformal.fit(known).intervals({"age": 70.0}, 0.1)["age"] or (0.0, 0.0)
    theirs = ConformalRegressor().fit(np.abs(true - outputs)[:, 0])
    assert [low, high] == pytest.approx(theirs.predict_int(np.array([70.0]), confidence=0.9)[0])


@pytest.mark.parametrize("names", [("CN", "AD"), ("CN", "MCI", "AD")])
@pytest.mark.parametrize("level", [0.05, 0.1, 0.3])
def test_each_class_is_covered(names: tuple[str, ...], level: float) -> None:
    shares = np.array([0.7, 0.2, 0.1][: len(names)])
    law = {"shares": (shares / shares.sum()).tolist(), "temperature": 3.0}
    covered = []
    for seed in range(30):  # coverage is a mean over calibration samples
        fitted = Conformal.fit(made(300, names, seed, **law))
        new = made(2000, names, 1000 + seed, **law)
        most = np.array([fitted.at(level)[name] for name in names])
        fits = 1 - new.outputs <= most
        covered.append([fits[new.labels == k, k].mean() for k in range(len(names))])
    assert np.mean(covered, axis=0) == pytest.approx(1 - level, abs=0.025)


def test_too_few_scans_exclude_nothing() -> None:
    assert math.isinf(thresholds(np.linspace(0, 1, 8))[level_index(0.1)])
    assert thresholds(np.linspace(0, 1, 9))[level_index(0.1)] == 1
    assert all(map(math.isinf, thresholds(np.array([]))))
    fitted = Conformal.fit(made(300, shares=[0.99, 0.01]))
    assert set(fitted.too_few(0.1)) == {"AD"} and fitted.too_few(0.1)["AD"] == fitted.scans["AD"]
    assert fitted.fitting({"CN": 1.0, "AD": 0.0}, 0.1) == ("CN", "AD")


def test_the_level_is_the_next_lower_one() -> None:
    assert [LEVELS[level_index(level)] for level in (0.01, 0.1, 0.29, 0.105, 0.5)] == [
        *(0.01, 0.1, 0.29, 0.1, 0.5)
    ]


def test_the_card_gives_the_same_sets_back() -> None:
    known = made(40)
    fitted = Conformal.fit(known)
    assert Conformal.from_dict(json.loads(json.dumps(fitted.as_dict())), known.names) == fitted


def test_the_warnings_of_others_stay_as_they_are() -> None:
    before = list(warnings.filters)
    thresholds(np.linspace(0, 1, 20))
    assert warnings.filters == before
