"""What an audit finds: a verdict in words for each check; and the correction for many tests."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np

Status = Literal["fault", "note", "passed", "not checked"]
ALPHA = 0.01
"""Probability that a faultless cohort gets a fault by any of the tests that are decided together:
those of the columns, and those of images and probes."""


@dataclass(frozen=True)
class Finding:
    """The verdict of one check.

    Attributes
    ----------
    check: a short name without spaces, for programs.
    title: what was checked.
    status: "fault" (do not trust the result before it is fixed), "note" (know of it), "passed",
        or "not checked" (the verdict says what is missing).
    verdict: one or two sentences.
    details: the numbers behind it.
    """

    check: str
    title: str
    status: Status
    verdict: str
    details: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """For audit.json."""
        return asdict(self)


@dataclass(frozen=True)
class Test:
    """A finding that depends on a p-value: a fault where it is significant among all tests.

    Attributes
    ----------
    p: of the null hypothesis that all is well, by this test alone.
    fault, passed: the verdict in either case; the p-values are added.
    significant: the status where it is significant.
    """

    check: str
    title: str
    p: float
    fault: str
    passed: str
    details: dict[str, Any] = field(default_factory=dict)
    significant: Status = "fault"


def decide(tests: Sequence[Test]) -> list[Finding]:
    """Findings of tests, their p-values corrected for the number of tests by Holm's method."""
    findings = []
    for test, adjusted in zip(tests, holm([test.p for test in tests]), strict=True):
        wrong = adjusted < ALPHA
        shown = f"p {p_text(test.p)}"
        if len(tests) > 1:
            shown += f", corrected for {len(tests)} tests p {p_text(adjusted)}"
        findings.append(
            Finding(
                test.check,
                test.title,
                test.significant if wrong else "passed",
                f"{test.fault if wrong else test.passed} ({shown}).",
                {**test.details, "p": test.p, "p_corrected": adjusted},
            )
        )
    return findings


def holm(p: Sequence[float]) -> list[float]:
    """Holm's step-down correction (Scandinavian Journal of Statistics 6, 1979)."""
    order = np.argsort(p, kind="stable")
    scaled = np.asarray(p, float)[order] * np.arange(len(p), 0, -1)
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1) if len(p) else scaled
    return [float(value) for value in adjusted]


def p_text(p: float) -> str:
    """``= 0.032``, ``< 0.001``."""
    return "< 0.001" if p < 0.001 else f"= {p:.3f}"
