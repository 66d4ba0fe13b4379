"""What is known of a person besides the scan (age, sex), as numbers."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from uncus.data.errors import BadInput
from uncus.data.tables import clean, need_column, to_number

SEXES = {"f": 0.0, "female": 0.0, "m": 1.0, "male": 1.0}
"""The only words that count as numbers."""


def columns(table: pd.DataFrame, names: Sequence[str]) -> NDArray[np.float32]:
    """The columns ``names`` of a table of scans, [N, P] in their own units, NaN where missing.

    Raises
    ------
    BadInput: a column that is not there or has no value at all, a cell that is no number (nor, for
        a sex, M or F).
    """
    values = np.full((len(table), len(names)), np.nan, np.float32)
    for p, name in enumerate(names):
        need_column(table, name, "--covariates")
        for row, cell in enumerate(map(clean, table[name])):
            if cell:
                person = table["participant_id"].iloc[row]
                values[row, p] = number(cell, f"--covariates {name}", f"of {person}")
        if not np.isfinite(values[:, p]).any():
            raise BadInput(f"--covariates {name}", "no value in any scan", "leave it out")
    return values


def number(cell: str, subject: object, whose: str = "") -> float:
    """A cell as a number: 72.5, or a sex as 0 (F) or 1 (M)."""
    value = SEXES.get(cell.strip().lower(), to_number(cell))
    if value is None or not np.isfinite(value):
        said = f"{cell!r} {whose}".strip()
        raise BadInput(subject, f"{said} is no number", "give a number; a sex as M or F")
    return float(value)


def given(known: Mapping[str, str | float | None], names: Sequence[str]) -> NDArray[np.float32]:
    """One person's values [P] in the order of ``names``, NaN where ``known`` has none.

    Raises
    ------
    BadInput: a value for something that is not in ``names``, or that is no number.
    """
    for name in known:
        if name not in names:
            there = f"this run takes {', '.join(names)}" if names else "this run takes none"
            raise BadInput(f"--covariates {name}", "not one of the run's", there)
    row = [np.nan if known.get(n) in (None, "") else number(str(known[n]), n) for n in names]
    return np.array(row, np.float32)


def parse(texts: Sequence[str]) -> dict[str, str]:
    """``["age=72", "sex=F"]`` as names and values; raises BadInput for anything else."""
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name and equals and value) or name in found:
            raise BadInput("--covariates", f"{text!r}", "write NAME=VALUE, each once: age=72")
        found[name] = value
    return found


def ranges(values: NDArray[np.float32], names: Sequence[str]) -> dict[str, dict[str, float]]:
    """Name -> least, largest and mean value of the people that a run was made from."""
    summary: dict[str, dict[str, float]] = {}
    for p, name in enumerate(names):
        known = values[np.isfinite(values[:, p]), p]
        summary[name] = {
            "min": float(known.min()),
            "max": float(known.max()),
            "mean": float(known.mean()),
        }
    return summary


def doubts(
    row: NDArray[np.float32], known_ranges: Mapping[str, Mapping[str, Any]]
) -> tuple[str, ...]:
    """Warnings about one person's values [P]: not known, or outside the training people's."""
    told = []
    for value, (name, seen) in zip(row, known_ranges.items(), strict=True):
        if not np.isfinite(value):
            told.append(
                f"{name} is not known: the answer is for somebody of the training people's mean "
                f"({seen['mean']:.3g}); give it for this person's own"
            )
        elif not seen["min"] <= value <= seen["max"]:
            told.append(
                f"{name} {value:.4g} is outside the training people's, {seen['min']:.4g} to "
                f"{seen['max']:.4g}: the answer is extrapolated"
            )
    return tuple(told)
