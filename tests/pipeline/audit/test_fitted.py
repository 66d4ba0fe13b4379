"""What a run fitted, and on whom."""

from pathlib import Path

from uncus.pipeline.audit import fitted
from uncus.pipeline.audit.evidence import Evidence
from uncus.pipeline.runs import Run


def test_what_is_fitted_on_tested_subjects_is_named(sure_run: Path, run: Path) -> None:
    (sure,) = fitted.check(Evidence("x", Run(sure_run).scans(), run=Run(sure_run)))
    assert "On the predictions for all tested subjects: the calibration, the thresholds of" in (
        sure.verdict
    )
    (few,) = fitted.check(Evidence("x", Run(run).scans(), run=Run(run)))
    assert "the calibration" not in few.verdict  # a small run has none
