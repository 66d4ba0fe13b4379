"""``uncus compare --plan``: how many subjects, folds and seeds a difference needs."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from uncus.data.errors import BadInput
from uncus.pipeline.comparison.crossed import POWER, Components
from uncus.pipeline.comparison.verdicts import ALPHA, components_of
from uncus.pipeline.rendering.numbers import number
from uncus.pipeline.run_files.contents import read_object
from uncus.pipeline.runs import Comparison

SIZES = ((1, 3), (1, 5), (1, 10), (1, 20), (5, 3), (5, 5), (5, 10))
"""Folds and seeds that are proposed."""
MOST = 1_000_000  # subjects


def power_to_see(parts: Components, effect: float, alpha: float, *size: int) -> float:
    """The power to find a difference of ``effect`` with subjects, folds and seeds in ``size``."""
    found = parts.estimate(effect, *size)
    if found.error == 0:
        return 1.0
    limit = stats.t.ppf(1 - alpha / 2, found.freedom)
    return float(stats.nct.sf(limit, found.freedom, effect / found.error))


def power_of_equality(parts: Components, effect: float, alpha: float, *size: int) -> float:
    """The power to show that cells without any difference are equal within ``effect``."""
    found = parts.estimate(0.0, *size)
    if found.error == 0:
        return 1.0
    limit = effect / found.error - stats.t.ppf(1 - alpha, found.freedom)
    return max(0.0, float(2 * stats.t.cdf(limit, found.freedom) - 1))


def subjects_needed(
    power: Callable[..., float],
    parts: Components,
    effect: float,
    alpha: float,
    folds: int,
    seeds: int,
) -> int | None:
    """The fewest test subjects with a power of 0.8; None where no number of them suffices."""

    def enough(subjects: int) -> bool:
        return power(parts, effect, alpha, subjects, folds, seeds) >= POWER

    if not enough(MOST):
        return None
    if enough(2):
        return 2
    low, high = 2, MOST
    while high - low > 1:
        middle = int(np.sqrt(low * high)) if high > 2 * low else (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def typical_and_most(entries: list[Mapping[str, Any]]) -> tuple[Components, Components] | None:
    """The median of each variance over the differences, and the largest of each.

    None where they are unknown, or no two cells differ for any subject.
    """
    parts = [c for c in map(components_of, entries) if c is not None]
    if not any(part.subject or part.rest for part in parts):
        return None
    values = np.array([[c.subject, c.network, c.rest] for c in parts])
    return Components(*np.median(values, axis=0)), Components(*values.max(axis=0))


def plan(result: Mapping[str, Any], effect: float | None = None) -> list[dict[str, Any]]:
    """The numbers needed, one entry for each of ``SIZES``; empty with one seed, of no variance.

    p is corrected for as many differences from the reference as the pilot has.
    """
    entries = [entry[result["metric"]] for entry in result["differences"]]
    found, effect = typical_and_most(entries), effect or result["effect"]
    if found is None:
        return []
    alpha = ALPHA / len(entries)
    return [
        {"folds": folds, "seeds": seeds, "networks": folds * seeds}
        | {
            f"{name} ({which})": subjects_needed(power, parts, effect, alpha, folds, seeds)
            for name, power in (("see", power_to_see), ("equal", power_of_equality))
            for which, parts in zip(("typical", "most variable"), found, strict=True)
        }
        for folds, seeds in SIZES
    ]


def planned(out: Path, effect: float | None = None) -> str:
    """The plan from the comparison in ``out``, as text.

    Raises
    ------
    BadInput: it is not assessed, or has a single seed or cell.
    """
    path = Comparison(out).results_path
    if not path.exists():
        cause, remedy = "no comparison to plan from", "run a pilot: uncus compare with 3 seeds"
        raise BadInput(out, cause, remedy)
    result = read_object(path)
    try:
        entries = plan(result, effect) if result.get("effect") else []
    except (AttributeError, KeyError, TypeError, ValueError):
        remedy = "write it again: uncus compare with --so-far"
        raise BadInput(path, "is not a result of uncus compare", remedy) from None
    if not entries:
        cause = "the variance of differences is unknown"
        remedy = "compare two norms with at least two seeds, on a task that they do not solve"
        raise BadInput(path, cause, remedy)
    difference = number(effect or result["effect"])
    rows = [["folds", "seeds", f"to see {difference}", f"to show equality within {difference}"]]
    for entry in entries:
        cells = [
            " to ".join(
                "no number"
                if entry[f"{name} ({which})"] is None
                else str(entry[f"{name} ({which})"])
                for which in ("typical", "most variable")
            )
            for name in ("see", "equal")
        ]
        rows.append([str(entry["folds"]), str(entry["seeds"]), *cells])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(c.rjust(w) for c, w in zip(row, widths, strict=True)) for row in rows]
    count = len(result["differences"])
    return "\n".join(
        [
            f"Test subjects needed for a difference in {result['metric']}, with a power of 0.8, "
            f"p corrected for {count} differences; of a typical and of the most variable pair of "
            f"cells of the pilot ({result['subjects']} subjects, {result['folds']} fold"
            f"{'s' * (result['folds'] > 1)}, {result['seeds']} seeds):",
            *lines,
            "One fold tests a fifth of the subjects by default, several folds test all of them.",
        ]
    )
