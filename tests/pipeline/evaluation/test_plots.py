"""Plots of an evaluation."""

import xml.etree.ElementTree as ET

import numpy as np
import pytest

from uncus.pipeline.evaluation import plots


def test_dollar_signs_are_not_mathematics() -> None:
    drawn = plots.confusion([[1, 2], [3, 4]], ["$\\frac{$", "$x^$"])
    ET.fromstring(drawn)


def test_roc_curve_has_the_area_that_the_metric_says() -> None:
    rng = np.random.default_rng(0)
    positive = rng.random(50) < 0.4
    scores = np.round(rng.random(50) + 0.3 * positive, 1)
    false, true = plots.curve(positive, scores)
    assert (false[0], true[0], false[-1], true[-1]) == (0, 0, 1, 1)
    area = plots.auc(positive, scores, np.ones((1, 50)))[0]
    assert np.trapezoid(true, false) == pytest.approx(area)


def test_wilson_interval() -> None:
    low, high = plots.wilson(0.5, 10)
    assert (low, high) == (pytest.approx(0.2366, abs=1e-3), pytest.approx(0.7634, abs=1e-3))
    assert plots.wilson(0.0, 5)[0] == pytest.approx(0, abs=1e-9)
