"""Verdicts from p-values."""

import pytest

from uncus.pipeline.audit.finding import Finding, Test, decide, holm
from uncus.pipeline.run_files.audit_summary import summary

Test.__test__ = False  # type: ignore[attr-defined]


def test_holm_is_the_published_example() -> None:
    # Aickin and Gensler, American Journal of Public Health 86, 1996.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == [] and holm([0.9, 0.8]) == [1, 1]


def test_a_fault_is_significant_among_all_tests() -> None:
    tests = [Test(str(k), str(k), p, "bad", "good") for k, p in enumerate([0.006, 0.5, 0.0001])]
    findings = decide(tests)
    assert [one.status for one in findings] == ["passed", "passed", "fault"]
    assert findings[2].verdict == "bad (p < 0.001, corrected for 3 tests p < 0.001)."


def test_the_summary_names_faults() -> None:
    findings = [
        Finding("a", "Class and age", "fault", ""),
        Finding("b", "B", "passed", ""),
        Finding("c", "C", "not checked", ""),
    ]
    faulty, clean = (summary([f.as_dict() for f in some]) for some in (findings, findings[1:]))
    assert faulty == "1 fault in 2 checks, 1 more not made: class and age"
    assert clean == "no fault in 1 check, 1 more not made"
    assert summary([findings[1].as_dict()] * 2) == "no fault in 2 checks"
