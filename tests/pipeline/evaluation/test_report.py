"""The page of an evaluation: self-contained, escaped, with a plot of every result."""

import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from tests.pipeline.test_evaluate import CN_AD, case, people, predictions
from uncus.data.design.splits import make_splits
from uncus.data.design.targets import Target
from uncus.pipeline.evaluation import report, report_text, terminal
from uncus.pipeline.evaluation.assessment import Assessment, assess
from uncus.pipeline.evaluation.predictions import Study
from uncus.pipeline.rendering.html import RIBBON
from uncus.pipeline.trust.domain import SYNTHETIC

VOID = {"meta", "br", "img"}


class Balance(HTMLParser):
    """Every element that is opened is closed, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def check(page: str) -> None:
    """Well-formed and self-contained, with the notice."""
    parser = Balance()
    parser.feed(page)
    assert parser.open == []
    assert "Research use only, not a medical device." in page
    assert "<script" not in page and "<link" not in page and "@import" not in page
    links = re.findall(r"""(?:src|href)\s*=\s*["']([^"'#][^"']*)""", page)
    assert links == []
    for drawn in re.findall(r"<svg.*?</svg>", page, re.S):
        ET.fromstring(drawn)
    ids = re.findall(r' id="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]+)"', page)) <= set(ids)


def curves() -> dict[str, pd.DataFrame]:
    frame = pd.DataFrame(
        {"epoch": [0, 1], "loss": [1.0, 0.5], "val_loss": [1, 0.7], "score": [0.5, 0.8]}
    )
    return {"fold-0": frame, "fold-1": frame}


@pytest.fixture(scope="module")
def binary() -> Assessment:
    return assess(*case(holdout=20), ["volume"], draws=100)


def test_page_of_two_classes(binary: Assessment) -> None:
    page = report.page("my run", binary, curves())
    check(page)
    for heading in ("ROC", "Calibration", "Confusion", "Scores", "Training", "Holdout"):
        assert heading in page
    assert page.count("<svg") == 7
    value = binary.report["metrics"]["auc"]["value"]
    assert f">{value:.3f}<" in page
    for name in ("majority", "age+sex", "volume"):
        assert f">{name}</th>" in page
    assert "no threshold was tuned" in page


def test_the_same_report_gives_the_same_page(binary: Assessment) -> None:
    assert report.page("r", binary, curves()) == report.page("r", binary, curves())


def test_page_of_three_classes_and_of_a_regression() -> None:
    target = Target.parse(["dx"], ["CN=CN", "MCI=MCI", "AD=AD"])
    three = assess(*case(target, classes=("CN", "MCI", "AD")), draws=100)
    page = report.page("three", three, {})
    check(page)
    assert "AUC, MCI" in page and "Training" not in page and "means over the classes" in page
    target = Target.parse(["age", "volume"], regression=True)
    page = report.page("age", assess(*case(target), draws=100), {})
    check(page)
    assert 'aria-label="volume, predicted against true"' in page and "MAE, age" in page


def test_page_of_subjects_scanned_twice() -> None:
    scans = people(40, sessions=2)
    splits = make_splits(scans, folds=2)
    result = assess(Study.of(scans, CN_AD, splits), predictions(scans, splits, CN_AD), draws=100)
    page = report.page("twice", result, {})
    check(page)
    assert "ICC(2,1)" in page and "40 subjects have several sessions" in page


def test_names_from_tables_are_inert() -> None:
    evil = '<img src onerror>&"'
    target = Target.parse(["dx"], [f"{evil}=CN", "AD=AD"])
    study, said = case(target)
    study.scans["sex"] = np.where(study.scans["sex"] == "F", "<b>F</b>", "$\\frac{$")
    result = assess(study, said, draws=100)
    page = report.page("<script>alert(1)</script>", result, {})
    check(page)
    assert "<img" not in page and "<b>F</b>" not in page
    assert "&lt;img src onerror&gt;" in page


def test_verdict_on_the_best_baseline(binary: Assessment) -> None:
    said = report_text.summary(binary.report)
    assert "significantly better" in said and "best baseline, volume" in said
    worse = assess(*case(), ["volume"], draws=100).report
    worse["metrics"], worse["baselines"]["volume"] = worse["baselines"]["volume"], worse["metrics"]
    worse["differences"]["volume"]["auc"] = {"value": -0.2, "low": -0.3, "high": -0.1}
    assert "significantly worse" in report_text.summary(worse)
    worse["differences"]["volume"]["auc"] = {"value": -0.1, "low": -0.3, "high": 0.1}
    assert "not significant" in report_text.summary(worse)


@pytest.fixture(scope="module")
def confounded() -> Assessment:
    """Networks whose answer follows the age, which differs between the classes."""
    study, said = case(n=200)
    age = study.scans["age"].to_numpy(dtype=float) + 4 * study.labels
    scans = study.scans.assign(age=[f"{value:.2f}" for value in age])
    places = study.positions(said)
    share = 1 / (1 + np.exp(-0.3 * (age[places] - 70)))
    said = said.assign(p_AD=share, p_CN=1 - share)
    return assess(Study(scans, study.target, study.labels, study.splits), said, draws=100)


def test_the_adjusted_auc_leads_where_it_differs(
    confounded: Assessment, binary: Assessment, capsys: pytest.CaptureFixture[str]
) -> None:
    found = confounded.report
    plain, adjusted = (found["metrics"][m]["value"] for m in ("auc", "auc_adjusted"))
    assert plain > 0.75 and adjusted == pytest.approx(0.5, abs=0.05)
    assert found["headline"]["metric"] == "auc_adjusted"
    assert found["headline"]["value"] == adjusted
    assert found["adjustment"]["explained"]["value"] > 0.95
    assert found["baselines"]["age+sex"]["auc_adjusted"]["value"] < 0.6
    page = report.page("r", confounded, {})
    check(page)
    lead = f"<p class=lead>AUC adjusted for age and sex <b>{adjusted:.3f}"
    assert lead in page and f"Unadjusted it is {plain:.3f}" in page
    terminal.show("r", found)
    printed = capsys.readouterr().out
    assert printed.startswith(f"AUC adjusted for age and sex {adjusted:.3f}")
    assert "is explained by age and sex" in printed
    assert binary.report["headline"]["metric"] == "auc"
    assert "<p class=lead>AUC <b>" in report.page("r", binary, {})


def test_a_report_of_an_early_version_leads_with_its_auc(binary: Assessment) -> None:
    early = {k: v for k, v in binary.report.items() if k not in ("headline", "adjustment")}
    assert report_text.headline(early).startswith("AUC 0.")
    assert report_text.unadjusted(early) == ""


def test_page_and_terminal_show_the_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    study, said = case()
    scans = study.scans.copy()
    scans.loc[5, "age"] = ">89"
    result = assess(Study(scans, study.target, study.labels, study.splits), said, draws=100)
    assert "<li>age &gt;89 is read as 89</li>" in report.page("r", result, {})
    terminal.show("r", result.report)
    assert "warning: age >89 is read as 89\n" in capsys.readouterr().out


def test_a_run_of_phantoms_has_its_ribbon(binary: Assessment) -> None:
    assert RIBBON not in report.page("r", binary, {})
    synthetic = replace(binary, report={**binary.report, "warnings": [SYNTHETIC]})
    page = report.page("r", synthetic, {})
    check(page)
    assert page.index(RIBBON) < page.index("<h1>")
