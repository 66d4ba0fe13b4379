"""Covariates of a subject, such as age and sex, as numbers."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from uncus.data.errors import BadInput
from uncus.data.tables import clean, need_column, read_number

SEXES = {"f": 0.0, "female": 0.0, "m": 1.0, "male": 1.0}
"""Cells that are encoded as numbers."""


def columns(table: pd.DataFrame, names: Sequence[str]) -> NDArray[np.float32]:
    """Covariates of a table of scans: float32 [N, P] in the columns' units, NaN if missing.

    Raises
    ------
    BadInput: a column is missing or empty, or a cell is neither a number nor a sex (M or F).
    """
    values = np.full((len(table), len(names)), np.nan, np.float32)
    for p, name in enumerate(names):
        need_column(table, name, "--covariates")
        cells = {cell.lower() for cell in map(clean, table[name])}
        if cells & SEXES.keys() and any(read_number(cell) is not None for cell in cells):
            cause = "some cells are F or M and others numbers: which number is which is unknown"
            raise BadInput(f"--covariates {name}", cause, "write all in one way")
        for row, cell in enumerate(map(clean, table[name])):
            if cell:
                subject = table["participant_id"].iloc[row]
                values[row, p] = to_value(cell, f"--covariates {name}", f" of {subject}")
        if not np.isfinite(values[:, p]).any():
            raise BadInput(f"--covariates {name}", "missing for every scan", "leave it out")
    return values


def to_value(cell: str, source: object, owner: str = "") -> float:
    """Encode a cell: a number as itself, 89+ as 89, a sex as 0 (F) or 1 (M)."""
    value = SEXES.get(cell.strip().lower(), read_number(cell))
    if value is None or not np.isfinite(value):
        raise BadInput(
            source,
            f"{cell!r}{owner} is not a number",
            "give a number; for sex, M or F; n/a if unknown",
        )
    return float(value)


def to_row(known: Mapping[str, str | float | None], names: Sequence[str]) -> NDArray[np.float32]:
    """Covariates of one subject: float32 [P] in the order of ``names``, NaN if not in ``known``.

    Raises
    ------
    BadInput: a covariate that is not in ``names``, or a value that is not a number.
    """
    for name in known:
        if name not in names:
            raise BadInput(
                f"--covariates {name}",
                "not a covariate of this run",
                f"choose from: {', '.join(names)}" if names else "leave it out: the run has none",
            )
    row = [np.nan if known.get(n) in (None, "") else to_value(str(known[n]), n) for n in names]
    return np.array(row, np.float32)


def parse(texts: Sequence[str]) -> dict[str, str]:
    """Parse ``["age=72", "sex=F"]``; raise BadInput for anything that is not NAME=VALUE."""
    values: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name and equals and value) or name in values:
            raise BadInput("--covariates", f"{text!r}", "write NAME=VALUE, each name once: age=72")
        values[name] = value
    return values


def ranges(values: NDArray[np.float32], names: Sequence[str]) -> dict[str, dict[str, float]]:
    """Minimum, maximum and mean of each covariate in the training data [N, P], by name."""
    summary: dict[str, dict[str, float]] = {}
    for p, name in enumerate(names):
        known = values[np.isfinite(values[:, p]), p]
        summary[name] = {
            "min": float(known.min()),
            "max": float(known.max()),
            "mean": float(known.mean()),
        }
    return summary


def range_warnings(
    row: NDArray[np.float32], training: Mapping[str, Mapping[str, Any]]
) -> tuple[str, ...]:
    """Warnings for covariates [P] that are unknown, or outside the range in the training data."""
    warnings = []
    for value, (name, known) in zip(row, training.items(), strict=True):
        if not np.isfinite(value):
            warnings.append(
                f"{name} is unknown: the mean of the training data ({known['mean']:.3g}) is used; "
                "give its value"
            )
        elif not known["min"] <= value <= known["max"]:
            warnings.append(
                f"{name} {value:.4g} is outside the range of the training data, {known['min']:.4g} "
                f"to {known['max']:.4g}: the prediction is an extrapolation"
            )
    return tuple(warnings)
