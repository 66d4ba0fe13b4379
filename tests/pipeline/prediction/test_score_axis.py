"""The axis of an answer: the run's out-of-fold scores, on the scale of the answer."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.pipeline.run_files.cards import CARD
from tests.pipeline.trust.outputs import made
from uncus.data import files
from uncus.pipeline.prediction.answer_html import axis_html
from uncus.pipeline.prediction.score_axis import BINS, axes_of, histogram, scores
from uncus.pipeline.runs import Run
from uncus.pipeline.trust.reliability import Reliability, Setting

SCANS = 200


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A calibrated run of two classes with its out-of-fold predictions."""
    known = made(SCANS, temperature=3.0)
    names = np.array(known.names)
    table = known.scans.assign(part="test", fold=known.folds, seed=0, true=names[known.labels])
    table[["p_CN", "p_AD"]] = known.outputs
    run = Run(tmp_path)
    files.write_json(run.card_path, {**CARD, **Reliability.fit(known).as_card()})
    pd.DataFrame(table).to_csv(run.predictions_path, sep="\t", index=False)
    return run


def answer_of(run: Run, p: float, setting: Setting | None = None) -> dict[str, Any]:
    """The answer for a scan to whose class AD the network gives ``p``."""
    judged = Reliability.from_card(run.card, run.target).judge(
        np.array([[1 - p, p]]), setting or Setting()
    )
    return {
        "probabilities": dict(zip(("CN", "AD"), judged.members.mean(0).tolist(), strict=True)),
        **judged.as_dict(),
    }


def test_this_scan_lies_among_the_calibrated_scores_of_the_runs_scans(run: Run) -> None:
    answer = answer_of(run, 0.9)
    (axis,) = axes_of(answer, run)
    assert axis.value == answer["probabilities"]["AD"]
    assert axis.title == "probability of Alzheimer's-type dementia, calibrated"
    normal, ill = axis.groups.values()
    assert len(normal) == BINS and sum(normal) + sum(ill) == SCANS
    known = Reliability.from_card(run.card, run.target).calibrated(
        made(SCANS, temperature=3.0).outputs
    )
    both = np.add(normal, ill)
    assert both.tolist() == np.histogram(known[:, 1], BINS, (0, 1))[0].tolist()
    middle = (np.arange(BINS) + 0.5) / BINS
    assert np.average(middle, weights=ill) > 0.7 > 0.3 > np.average(middle, weights=normal)


@pytest.mark.parametrize("p", np.linspace(0.01, 0.99, 21).tolist())
def test_no_class_is_named_between(run: Run, p: float) -> None:
    answer = answer_of(run, p, Setting(error_level=0.05))
    (axis,) = axes_of(answer, run)
    assert axis.between is not None
    low, high = axis.between
    assert (len(answer["set"]) != 1) == (low <= axis.value <= high)


def test_another_prevalence_moves_the_runs_scans_too(run: Run) -> None:
    rare = Setting({"AD": 0.02})
    (home,), (away,) = (axes_of(answer_of(run, 0.9, s), run) for s in (Setting(), rare))
    assert away.value < home.value and away.between is None
    middle = (np.arange(BINS) + 0.5) / BINS
    means = [np.average(middle, weights=[*one.groups.values()][1]) for one in (home, away)]
    assert means[1] < means[0] - 0.1


@pytest.mark.parametrize("setting", [Setting(), Setting({"AD": 0.02})])
def test_a_packed_model_has_the_same_bars_from_its_histogram(run: Run, setting: Setting) -> None:
    answer = answer_of(run, 0.9, setting)
    (before,) = axes_of(answer, run)
    known = scores(run)
    assert known is not None
    stored = histogram(known)
    files.write_json(run.scores_path, stored)
    run.predictions_path.unlink()
    (after,) = axes_of(answer, run)
    assert list(after.groups) == list(before.groups)
    middle = (np.arange(BINS) + 0.5) / BINS
    for one, other in zip(before.groups.values(), after.groups.values(), strict=True):
        if setting.prevalence:  # the middles of the bins are moved
            means = [np.average(middle, weights=bars) for bars in (one, other)]
            assert means[0] == pytest.approx(means[1], abs=1 / BINS)
        else:
            assert one == other
    assert sum(row["scans"] for row in stored["rows"]) == SCANS and "sub-" not in str(stored)
    files.write_json(run.scores_path, stored | {"names": ["CN", "MCI"]})
    assert not axes_of(answer, run)[0].groups


def test_the_histogram_of_values_has_their_columns_apart() -> None:
    values = np.random.default_rng(0).normal([70, 3], [9, 0.5], (SCANS, 2))
    known = made(SCANS)
    known = replace(known, names=("age", "hippocampus"), labels=values, outputs=values)
    rows = histogram(known)["rows"]
    for column in (0, 1):
        weights = [row["scans"] for row in rows]
        mean = np.average([row["outputs"][column] for row in rows], weights=weights)
        assert mean == pytest.approx(values[:, column].mean(), rel=0.01)
    joined = np.repeat([row["outputs"] for row in rows], [row["scans"] for row in rows], axis=0)
    assert (np.diff(joined, axis=0) >= 0).all(), "who has the one value with the other is not told"


def test_without_results_or_answer_there_are_no_bars(run: Run) -> None:
    run.predictions_path.unlink()
    (axis,) = axes_of(answer_of(run, 0.9), run)
    assert not axis.groups and axis.between
    assert axes_of({**answer_of(run, 0.9), "domain": {"inside": False}}, run) == []


def test_an_interval_of_a_value(tmp_path: Path) -> None:
    target = {"columns": ["age"], "classes": {}, "regression": True}
    run = Run(tmp_path)
    files.write_json(run.card_path, {**CARD, "target": target})
    answer = {"values": {"age": 71.26}, "intervals": {"age": [60.0, 82.0]}, "error_level": 0.1}
    (axis,) = axes_of(answer, run)
    assert axis.text == "71.3 years" and axis.between == (60.0, 82.0)
    assert axis.ends[0] <= 60 and axis.ends[1] >= 82 and axis.between_title == "90% interval"
    page = axis_html(axis)
    assert "this scan: 71.3 years" in page and page.count('class="between"') == 1
