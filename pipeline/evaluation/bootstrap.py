"""Confidence intervals by the cluster bootstrap over subjects."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from uncus.pipeline.evaluation.metrics import Array, Values, base
from uncus.pipeline.progress_bars import track

LEVEL = 0.95
CHUNK = 1_000_000  # weights in memory at a time
SLOW = 8_000_000  # weights (some seconds) above which a progress bar is shown


def bootstrap(
    measure: Callable[[Array], Values],
    subjects: Array,
    draws: int,
    seed: int,
    description: str = "bootstrap",
) -> Values:
    """``measure`` of the scans themselves, then of ``draws`` resamples.

    A resample draws as many subjects as there are, with replacement, each with all of its scans
    (the cluster bootstrap, since scans of a subject are not independent). The same subjects and
    seed give the same resamples, so that two measures can be compared in pairs.

    Parameters
    ----------
    measure: weights float [D, N] -> metric -> [D].
    subjects: [N], the subject of each row.

    Returns
    -------
    metric -> float64 [1 + draws]; the first is the value itself.
    """
    names, index = np.unique(np.asarray(subjects, dtype=str), return_inverse=True)
    parts = [measure(np.ones((1, len(index))))]
    rng = np.random.default_rng(seed)
    step = max(1, min(draws, CHUNK // max(len(index), 1)))
    chunks = [min(step, draws - start) for start in range(0, draws, step)]
    slow = draws * len(index) >= SLOW
    for size in track(chunks, description) if slow else chunks:
        counts = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=size)
        parts.append(measure(counts[:, index].astype(np.float64)))
    return {metric: np.concatenate([part[metric] for part in parts]) for metric in parts[0]}


def interval(values: Array, centred: bool = False) -> dict[str, float | None]:
    """Value and 95% percentile interval (Efron 1979) of a metric's ``bootstrap`` values.

    Undefined draws are left out; the interval is None if they are more than half.

    Parameters
    ----------
    centred: subtract the draws' mean excess over the value. Noise adds to a sum of absolute gaps
        such as ECE, and resampling adds it a second time, so that plain percentiles may lie wholly
        above the value.
    """
    drawn = values[1:][np.isfinite(values[1:])]
    if len(drawn) < max(1, (len(values) - 1) / 2) or not np.isfinite(values[0]):
        return {"value": plain(values[0]), "low": None, "high": None}
    tails = (1 - LEVEL) / 2
    low, high = np.quantile(drawn, [tails, 1 - tails])
    if centred:
        excess = drawn.mean() - values[0]
        floor = min(0.0, float(drawn.min()))  # a difference may be negative, an error may not
        low, high = max(low - excess, floor), high - excess
    return {"value": plain(values[0]), "low": plain(low), "high": plain(high)}


def intervals(values: Mapping[str, Array]) -> dict[str, dict[str, float | None]]:
    """``interval`` of every metric."""
    return {metric: interval(value, base(metric) == "ece") for metric, value in values.items()}


def plain(value: Any) -> float | None:
    """A float for JSON; None for NaN."""
    return float(value) if np.isfinite(value) else None
