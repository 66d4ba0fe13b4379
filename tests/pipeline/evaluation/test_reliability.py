"""The report's calibration and coverage: before and after, by group, and why there is none."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.pipeline.trust.outputs import made
from uncus.data.design.splits import Splits
from uncus.data.design.targets import Target
from uncus.pipeline.cli import main
from uncus.pipeline.evaluation import reliability
from uncus.pipeline.evaluation.predictions import Study
from uncus.pipeline.trust.nested import Nested


def study_of(known, **columns) -> Study:
    scans = known.scans.assign(dx=[known.names[k] for k in known.labels], **columns)
    frame = pd.DataFrame({"participant_id": scans["participant_id"], "fold-0": "test"})
    frame.loc[len(frame)] = ["sub-trained", "train"]
    target = Target.parse(["dx"], [f"{name}={name}" for name in known.names])
    return Study.of(scans, target, Splits(frame))


def test_errors_before_and_after_and_the_coverage_of_groups() -> None:
    known = made(400, temperature=5.0)
    sex = np.where(np.arange(400) % 2, "F", "M")
    nested = Nested.of(known)
    report = reliability.measured(study_of(known, sex=sex), nested, 200, 0)
    found, sets = report["calibration"], report["conformal"]
    assert found["after"]["ece"]["value"] < 0.05 < found["before"]["ece"]["value"]
    assert found["after"]["brier"]["high"] < found["before"]["brier"]["high"]
    assert found["perfect"]["ece"] == pytest.approx(found["after"]["ece"]["value"], abs=0.02)
    for k, name in enumerate(known.names):
        mine = nested.known.labels == k
        assert sets["of"][name]["covered"]["value"] == nested.fits[mine, k].mean()
        parts = [sets["groups"]["sex"][level][name] for level in "FM"]
        assert sum(part["scans"] for part in parts) == mine.sum()
        assert sets["of"][name]["wrong"] <= 1 - sets["of"][name]["covered"]["value"]
    page = reliability.section(report, nested)
    assert page.count("<svg") == 2 and "sex F: AD" in page
    text = " ".join(reliability.lines(report))
    assert "before" in text and "covered by sets of 90%: CN 0." in text


def test_perfect_probabilities_have_errors_by_chance() -> None:
    p = np.linspace(0.05, 0.95, 50)[:, None]
    few = reliability.perfect(np.hstack([1 - p, p]), ("CN", "AD"), 0)
    many = reliability.perfect(np.hstack([1 - p, p]).repeat(100, axis=0), ("CN", "AD"), 0)
    assert few["ece"] > 0.1 > 0.02 > many["ece"]
    assert many["brier"] == pytest.approx((p * (1 - p)).mean(), abs=0.005)
    three = np.array([[0.7, 0.2, 0.1]] * 4000)
    assert reliability.perfect(three, ("a", "b", "c"), 0)["ece"] < 0.02


def test_another_cohorts_scans_are_as_the_run_judged_them() -> None:
    known = made(40)
    table = known.scans.copy()
    for k, name in enumerate(known.names):
        table[f"uncalibrated_{name}"] = known.outputs[:, 1 - k]
        table[f"fits_{name}"] = (np.arange(40) % 4 > 0).astype(int)
    nested = reliability.judged_by_the_run(table, known)
    assert (nested.calibrated == known.outputs).all()
    assert (nested.known.outputs == known.outputs[:, ::-1]).all()
    assert nested.fits.mean() == 0.75


def test_the_report_of_a_run(
    sure_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = shutil.copytree(sure_run, tmp_path / "run")
    assert main(["evaluate", str(copy), "--draws", "100"]) == 0
    printed = capsys.readouterr().out
    assert "calibration measured on other subjects: ECE" in printed
    report = json.loads((copy / "report.json").read_text())
    assert report["calibration"]["scans"] == 40
    assert {"F", "M"} == set(report["conformal"]["groups"]["sex"])
    page = (copy / "report.html").read_text()
    # The table's are not those that a prediction has: it says so.
    assert all("ECE, not calibrated" in one and ">ECE<" in page for one in (page, printed))
    assert "after calibration" in page and "at an error level of 10%" in page


def test_a_small_run_says_why(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = shutil.copytree(run, tmp_path / "run")
    assert main(["evaluate", str(copy), "--draws", "100"]) == 0
    assert "not calibrated: 6 out-of-fold subjects of CN" in capsys.readouterr().out
    report = json.loads((copy / "report.json").read_text())
    assert "at least 10" in report["not_calibrated"] and "conformal" not in report
    assert "None: 6 out-of-fold subjects" in (copy / "report.html").read_text()
