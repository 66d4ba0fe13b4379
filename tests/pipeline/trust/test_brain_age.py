"""Brain age: the line of predicted ages, the corrected gap, and the interval."""

import math

import numpy as np
import pandas as pd
import pytest

from uncus.pipeline.trust.brain_age import BrainAge
from uncus.pipeline.trust.out_of_fold import OutOfFold


def people(ages: np.ndarray, predicted: np.ndarray, name: str = "age") -> OutOfFold:
    """Each person's scan predicted by two seeds, whose mean is ``predicted``; and a volume."""
    count = len(ages)
    scans = pd.DataFrame(
        {"participant_id": [f"sub-{k % count:03d}" for k in range(2 * count)], "session_id": ""}
    )
    noise = np.random.default_rng(1).normal(0, 2, count)
    outputs = np.concatenate([predicted + noise, predicted - noise])
    labels = np.stack([np.tile(ages, 2), np.ones(2 * count)], 1)
    return OutOfFold(
        (name, "nwbv"), scans, np.zeros(2 * count, int), labels, np.stack([outputs] * 2, 1)
    )


@pytest.fixture
def drawn() -> tuple[np.ndarray, np.ndarray]:
    """Ages, and predictions that are drawn to the mean."""
    random = np.random.default_rng(0)
    ages = random.uniform(20, 90, 200)
    return ages, 30 + 0.5 * ages + random.normal(0, 4, 200)


def test_the_corrected_gap_does_not_go_with_age(drawn: tuple[np.ndarray, np.ndarray]) -> None:
    ages, predicted = drawn
    fitted = BrainAge.fit(people(ages, predicted))
    assert fitted and fitted.scans == 200
    rows = np.stack([np.ones(200), ages], 1)
    intercept, slope = np.linalg.lstsq(rows, predicted, rcond=None)[0]
    assert (fitted.slope, fitted.intercept) == pytest.approx((slope, intercept))
    gaps = np.array([fitted.gap(p, a) for p, a in zip(predicted, ages, strict=True)])
    assert np.corrcoef(predicted - ages, ages)[0, 1] < -0.9
    assert abs(np.corrcoef(gaps, ages)[0, 1]) < 1e-9 and abs(gaps.mean()) < 1e-9


def test_the_interval_is_the_conformal_one(drawn: tuple[np.ndarray, np.ndarray]) -> None:
    ages, predicted = drawn
    fitted = BrainAge.fit(people(ages, predicted))
    assert fitted
    errors = np.sort(abs(predicted - ages))
    assert fitted.error == pytest.approx(errors[math.ceil(0.9 * 201) - 1])
    found = fitted.answer(70.0, 60.0)
    assert found["high"] - 70 == pytest.approx(fitted.error, abs=0.01)
    assert 70 - found["low"] == pytest.approx(fitted.error, abs=0.01)
    assert found["gap"] == pytest.approx(70 - fitted.intercept - 60 * fitted.slope, abs=0.01)
    assert found["level"] == 0.9
    assert "gap" not in fitted.answer(70.0, None)
    assert BrainAge.of_card({"brain_age": fitted.as_card()}) == fitted


def test_a_predicted_age_ends_with_those_of_the_training_subjects(
    drawn: tuple[np.ndarray, np.ndarray],
) -> None:
    fitted = BrainAge.fit(people(*drawn))
    assert fitted
    assert (fitted.youngest, fitted.oldest) == (drawn[0].min(), drawn[0].max())
    old, young = fitted.answer(118.0, 80.0), fitted.answer(3.0, None)
    assert old["value"] == round(fitted.oldest, 2) and old["beyond"] == "older"
    assert old["gap"] == pytest.approx(fitted.gap(fitted.oldest, 80.0), abs=0.01)
    assert young["value"] == round(fitted.youngest, 2) and young["beyond"] == "younger"
    assert "beyond" not in fitted.answer(60.0, None)
    # A card of an earlier version has no ages.
    card = {key: fitted.as_card()[key] for key in ("slope", "intercept", "error", "scans")}
    earlier = BrainAge.of_card({"brain_age": card})
    assert earlier and earlier.answer(118.0, None)["value"] == 118


def test_there_is_none_without_ages_or_with_too_few(
    drawn: tuple[np.ndarray, np.ndarray],
) -> None:
    ages, predicted = drawn
    assert BrainAge.fit(people(ages, predicted, "education")) is None
    assert BrainAge.fit(people(ages[:8], predicted[:8])) is None
    assert BrainAge.fit(people(ages[:9], predicted[:9])) is not None
    assert BrainAge.fit(people(np.full(20, 70.0), predicted[:20])) is None
    missing = np.where(np.arange(200) < 100, np.nan, ages)
    fitted, rest = (
        BrainAge.fit(people(missing, predicted)),
        BrainAge.fit(people(ages[100:], predicted[100:])),
    )
    assert fitted and rest and fitted.scans == 100
    assert fitted.slope == pytest.approx(rest.slope, abs=0.02)
    assert BrainAge.of_card({}) is None
