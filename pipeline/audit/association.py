"""Whether the class goes with site, scanner, sex or age, one value per subject."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from uncus.data.cohorts.scanner_columns import (
    ACQUISITION,
    FIELD_STRENGTHS,
    MANUFACTURERS,
    SCANNERS,
    SITES,
)
from uncus.data.design.ties import NOTABLE, tie
from uncus.data.tables import clean, find_column, need_column, read_column
from uncus.pipeline.audit.evidence import Evidence
from uncus.pipeline.audit.finding import Finding, Status, Test
from uncus.pipeline.rendering.numbers import number

DEMOGRAPHICS = ("sex", "age")
MACHINES = (*SCANNERS, *MANUFACTURERS, *FIELD_STRENGTHS, *ACQUISITION)
MAX_LEVELS = 30


def check(evidence: Evidence, columns: Sequence[str] = ()) -> tuple[list[Finding], list[Test]]:
    """Tests of each column that is there, and findings where none can be made.

    Parameters
    ----------
    columns: further columns to test.

    Raises
    ------
    BadInput: one of them does not exist.
    """
    for column in columns:
        need_column(evidence.scans, column, f"--columns {column}")
    if evidence.target is None:
        text = "No target was named, so that nothing can be said of classes; add --target COLUMN."
        return [Finding("confounders", "Confounders", "not checked", text)], []
    if not len(evidence.firsts):
        text = f"No subject has a {', '.join(evidence.target.columns)}."
        return [Finding("confounders", "Confounders", "not checked", text)], []
    findings: list[Finding] = []
    tests: list[Test] = []
    wanted: dict[str, str] = {}
    what = "Class" if evidence.classes else "Target"
    for kind, names in (("site", SITES), ("scanner", MACHINES)):
        there = [name for name in map(lambda n: find_column(evidence.scans, [n]), names) if name]
        if not there:
            text = f"The table has no column of the {kind}; name one with --columns."
            findings.append(Finding(kind, f"{what} and {kind}", "not checked", text))
        wanted |= dict.fromkeys(there, kind)
    for name in DEMOGRAPHICS:
        if found := find_column(evidence.scans, [name]):
            wanted[found] = name
        else:
            text = f"The table has no column of {name}."
            findings.append(Finding(name, f"{what} and {name}", "not checked", text))
    covariates = list(evidence.run.config.get("covariates", [])) if evidence.run else []
    wanted |= {name: name for name in (*columns, *covariates) if name not in wanted}
    for column, kind in wanted.items():
        if column in evidence.target.columns:
            continue
        match column_test(evidence, column, kind):
            case Test() as test:
                tests.append(test)
            case finding:
                findings.append(finding)
    return findings, tests


def column_test(evidence: Evidence, column: str, kind: str) -> Finding | Test:
    """Test one column against the class, or against the value to be predicted."""
    title = f"{'Class' if evidence.classes else 'Target'} and {column}"
    cells = [clean(cell) for cell in evidence.scans[column].iloc[evidence.firsts]]
    labels = np.asarray(evidence.labels)[evidence.firsts]
    numbers = read_column(cells)
    # A field strength or a site's number is a name.
    if kind in ("site", "scanner") or numbers is None:
        levels = sorted(set(cells) - {""})
        known = np.array([cell != "" for cell in cells])
        values = np.array(cells, dtype=object)
    else:
        known = np.isfinite(numbers)
        levels = sorted(set(numbers[known]))
        values = numbers
    if len(levels) < 2:
        text = f"{column} is the same for all subjects." if levels else f"{column} is empty."
        return Finding(kind, title, "passed" if levels else "not checked", text)
    if values.dtype == object and len(levels) > MAX_LEVELS:
        text = f"{column} has {len(levels)} different texts, too many to test."
        return Finding(kind, title, "not checked", text)
    values, labels = values[known], labels[known]
    significant: Status = "fault"
    if not evidence.classes:
        p, shown = regression_test(values, labels[:, 0], levels)
    elif found := tie(column, values, labels.astype(int)):
        p, shown = found.p, by_class(values, labels, evidence.classes)
        shown += f"; {found.measure} {number(found.value)}"
        significant = "fault" if found.strength >= NOTABLE else "note"
    else:
        return Finding(kind, title, "not checked", f"{column} is known in one class alone.")
    what = "the class" if evidence.classes else "the target"
    if not np.isfinite(p):
        return Finding(kind, title, "not checked", f"{what.capitalize()} is the same for all.")
    return Test(
        kind,
        title,
        p,
        fault=f"{column} goes with {what}: {shown}. A network can tell {what} by it, without any "
        "sign of disease; match the groups, or report the metrics adjusted for it",
        passed=f"{column} is not shown to go with {what}: {shown}",
        details={"column": column},
        significant=significant,
    )


def by_class(values: NDArray[np.generic], labels: NDArray[np.generic], names: Sequence[str]) -> str:
    """The mean of a number, or the share of the most frequent of texts or two values, by class."""
    groups = {names[int(k)]: values[labels == k] for k in np.unique(labels)}
    distinct, counts = np.unique(values, return_counts=True)
    if values.dtype != object and len(distinct) > 2:
        return f"means {', '.join(f'{n} {number(float(g.mean()))}' for n, g in groups.items())}"
    most = distinct[counts.argmax()]
    shares = [f"{np.mean(group == most):.0%} of {name}" for name, group in groups.items()]
    shown = most if values.dtype == object else f"{most:g}"
    return f"{shown} are {', '.join(shares)}"


def regression_test(
    values: NDArray[np.generic], target: NDArray[np.float64], levels: list[str]
) -> tuple[float, str]:
    """Spearman's correlation, or Kruskal-Wallis of the target over levels."""
    if values.dtype == object:
        groups = [target[values == level] for level in levels]
        p = float(stats.kruskal(*groups).pvalue)
        means = [f"{level} {number(g.mean())}" for level, g in zip(levels, groups, strict=True)]
        return p, f"means {', '.join(means[:4])}"
    found = stats.spearmanr(values, target)
    return float(found.pvalue), f"rank correlation {number(float(found.statistic))}"
