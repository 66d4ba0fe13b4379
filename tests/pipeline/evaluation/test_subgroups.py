"""Metrics by sex, age band, site and scanner."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from tests.pipeline.test_evaluate import case
from uncus.data.design.targets import Target
from uncus.pipeline.evaluation.assessment import assess
from uncus.pipeline.evaluation.subgroups import bands, levels


def test_every_group_has_metrics_with_intervals() -> None:
    study, said = case(n=200)
    study.scans["Manufacturer"] = np.where(np.arange(200) % 3, "GE", "Siemens")
    report = assess(study, said, draws=100).report
    groups = report["subgroups"]
    assert set(groups) == {"sex", "age", "site", "scanner"}
    assert set(groups["sex"]) == {"F", "M"} and set(groups["scanner"]) == {"GE", "Siemens"}
    for column in ("sex", "age", "scanner"):
        assert sum(group["scans"] for group in groups[column].values()) == 200
    unknown = int((study.scans["site"] == "").sum())
    assert sum(group["scans"] for group in groups["site"].values()) == 200 - unknown
    women = study.scans["participant_id"][study.scans["sex"] == "F"]
    some = said[said["participant_id"].isin(women)]
    female = groups["sex"]["F"]
    assert female["score"]["value"] == pytest.approx(
        roc_auc_score(some["true"] == "AD", some["p_AD"])
    )
    assert set(female["metrics"]) == {"auc", "balanced_accuracy", "sensitivity", "specificity"}
    for estimate in female["metrics"].values():
        assert estimate["low"] <= estimate["value"] <= estimate["high"]


def test_groups_with_under_20_cases_are_warned_of() -> None:
    study, said = case(n=200)
    study.scans["sex"] = ["X"] * 5 + ["M"] * 30 + ["F"] * 165
    report = assess(study, said, draws=100).report
    sexes = report["subgroups"]["sex"]
    assert (sexes["X"]["score"], sexes["X"]["few"]) == (None, ["CN", "AD"])
    assert sexes["M"]["score"]["low"] is not None and sexes["M"]["few"] == ["CN", "AD"]
    assert sexes["F"]["few"] == []
    (warning,) = [line for line in report["warnings"] if "under 20 subjects" in line]
    assert "sex M, sex X" in warning and "sex F" not in warning


def test_a_regression_has_groups_too() -> None:
    target = Target.parse(["volume"], regression=True)
    report = assess(*case(target, n=100), draws=100).report
    assert set(report["subgroups"]["sex"]["F"]["metrics"]) == {"mae", "r2", "pearson_r"}
    assert report["adjustment"] is None and report["headline"]["metric"] == "mae"


def test_age_bands_are_decades_with_open_ends() -> None:
    ages = np.array([18.0, *np.linspace(60, 89.9, 98), 97, np.nan])
    found = bands(ages)
    assert list(found) == ["under 60", "60 to 69", "70 to 79", "80 to 89", "90 and over"]
    assert sum(mask.sum() for mask in found.values()) == 100
    assert bands(np.array([np.nan])) == {}
    assert len(bands(np.linspace(0, 120, 500))) <= 10


def test_many_sites_are_the_largest_and_the_others() -> None:
    sites = [f"site {k:02}" for k in range(30) for _ in range(k + 1)]
    found = levels("site", sites)  # type: ignore[arg-type]
    assert len(found) == 10 and list(found)[-1] == "21 others"
    assert sum(mask.sum() for mask in found.values()) == len(sites)
    assert next(iter(found)) == "site 21"
