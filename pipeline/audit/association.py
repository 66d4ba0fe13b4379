"""Whether the class goes with site, scanner, sex or age, one value per subject."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from uncus.data.cohorts.scanner_columns import (
    ACQUISITION,
    FIELD_STRENGTHS,
    MANUFACTURERS,
    SCANNERS,
    SITES,
)
from uncus.data.tables import clean, find_column, need_column, read_column
from uncus.pipeline.audit.evidence import Evidence
from uncus.pipeline.audit.finding import Finding, Test
from uncus.pipeline.rendering.numbers import number

DEMOGRAPHICS = ("sex", "age")
MACHINES = (*SCANNERS, *MANUFACTURERS, *FIELD_STRENGTHS, *ACQUISITION)
FEW = 5.0
"""Expected subjects in a cell below which the p-value is by permutation."""
MAX_LEVELS = 30
PERMUTATIONS = 9999


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
    findings: list[Finding] = []
    tests: list[Test] = []
    wanted: dict[str, str] = {}
    for kind, names in (("site", SITES), ("scanner", MACHINES)):
        there = [name for name in map(lambda n: find_column(evidence.scans, [n]), names) if name]
        if not there:
            text = f"The table has no column of the {kind}; name one with --columns."
            findings.append(Finding(kind, f"Class and {kind}", "not checked", text))
        wanted |= dict.fromkeys(there, kind)
    for name in DEMOGRAPHICS:
        if found := find_column(evidence.scans, [name]):
            wanted[found] = name
        else:
            text = f"The table has no column of {name}."
            findings.append(Finding(name, f"Class and {name}", "not checked", text))
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
    title = f"Class and {column}" if evidence.classes else f"Target and {column}"
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
    if not evidence.classes:
        p, shown = regression_test(values, labels[:, 0], levels)
    elif len(np.unique(labels)) < 2:
        return Finding(kind, title, "not checked", f"{column} is known in one class alone.")
    elif values.dtype == object:
        p, shown = table_test(values, labels, levels, evidence.classes)
    else:
        p, shown = values_test(values, labels, evidence.classes)
    what = "the class" if evidence.classes else "the target"
    return Test(
        kind,
        title,
        p,
        fault=f"{column} goes with {what}: {shown}. A network can tell {what} by it, without any "
        "sign of disease; match the groups, or report the metrics adjusted for it",
        passed=f"{column} does not go with {what}: {shown}",
        details={"column": column},
    )


def table_test(
    values: NDArray[np.object_],
    labels: NDArray[np.generic],
    levels: list[str],
    names: Sequence[str],
) -> tuple[float, str]:
    """Pearson's chi-squared test of levels against classes, by permutation where cells are few."""
    counts = pd.crosstab(values, labels).reindex(levels, fill_value=0).to_numpy()
    few = stats.contingency.expected_freq(counts).min() < FEW
    rng = np.random.default_rng(0)
    method = stats.PermutationMethod(n_resamples=PERMUTATIONS, rng=rng) if few else None
    p = float(stats.chi2_contingency(counts, correction=False, method=method).pvalue)
    largest = levels[int(counts.sum(axis=1).argmax())]
    here = np.asarray(values == largest)
    shares = [f"{here[labels == k].mean():.0%} of {names[int(k)]}" for k in np.unique(labels)]
    return p, f"{largest} are {', '.join(shares)}"


def values_test(
    values: NDArray[np.float64], labels: NDArray[np.generic], names: Sequence[str]
) -> tuple[float, str]:
    """Welch's analysis of variance of a number by class."""
    present = np.unique(labels)
    groups = [values[labels == k] for k in present]
    if min(map(len, groups)) < 2 or max(map(np.ptp, groups)) == 0:
        p = float(stats.kruskal(*groups).pvalue)
    else:
        p = float(stats.f_oneway(*groups, equal_var=False).pvalue)
    means = [f"{names[int(k)]} {number(values[labels == k].mean())}" for k in present]
    return p, f"means {', '.join(means)}"


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
