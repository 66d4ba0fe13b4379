"""The three facts of a run."""

from pathlib import Path
from typing import Any

import pytest

from tests.pipeline.run_files.cards import CARD
from uncus.data import files
from uncus.pipeline.model_card.summary import NOT_MEASURED, predicts, summary, trained_on
from uncus.pipeline.runs import Run


def estimate(value: float) -> dict[str, float]:
    return {"value": value, "low": value - 0.05, "high": value + 0.05}


def report(**baselines: float) -> dict[str, Any]:
    return {
        "metrics": {"auc": estimate(0.8)},
        "baselines": {name: {"auc": estimate(value)} for name, value in baselines.items()},
    }


@pytest.fixture
def run(tmp_path: Path) -> Run:
    run = Run(tmp_path)
    files.write_json(run.card_path, CARD)
    return run


def test_what_is_not_measured_is_said(run: Run) -> None:
    facts = summary(run)
    assert facts["Measured"] == NOT_MEASURED and "not a medical device" in facts["Use"]
    assert predicts(run) == "cognitively normal or Alzheimer's-type dementia"
    run.report_path.write_text("[]")
    assert summary(run)["Measured"] == NOT_MEASURED


def test_the_best_simple_baseline_stands_beside_the_network(run: Run) -> None:
    files.write_json(run.report_path, report(majority=0.5, age=0.6, hippocampi=0.82))
    measured = summary(run)["Measured"]
    assert "0.800 (0.750 to 0.850)" in measured and "hippocampi: 0.820" in measured
    files.write_json(run.report_path, report(majority=0.5))
    assert "No simple baseline" in summary(run)["Measured"]


@pytest.mark.parametrize(
    ("domain", "people"),
    [({}, "2 subjects"), ({"synthetic": False}, "2 people"), ({"synthetic": True}, "2 synthetic")],
)
def test_whom_it_was_trained_on(domain: dict[str, bool], people: str) -> None:
    text = trained_on({**CARD, "domain": domain})
    assert text.startswith(people) and "of 60 to 80 years: 1 cognitively normal, 1 Alz" in text
