"""Intervals by drawing subjects, with all of their scans, again and again."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from uncus.pipeline.evaluation.metrics import Array, Values, base
from uncus.pipeline.progress_bars import track

LEVEL = 0.95
CHUNK = 1_000_000  # weights held at a time
SLOW = 8_000_000  # weights in all (some seconds) above which a progress bar is shown


def bootstrap(
    measure: Callable[[Array], Values],
    subjects: Array,
    draws: int,
    seed: int,
    description: str = "bootstrap",
) -> Values:
    """What ``measure`` gives for the scans as they are, then for ``draws`` resamples.

    A resample draws as many subjects as there are, with replacement, each with all of its scans
    (the cluster bootstrap: scans of one person are not independent). The same subjects and seed
    give the same resamples, so that two measures can be compared draw by draw.

    Parameters
    ----------
    measure: weights float [D, N] -> metric -> [D].
    subjects: [N], whose scan each row is.

    Returns
    -------
    metric -> float64 [1 + draws]; the first is the value itself.
    """
    names, place = np.unique(np.asarray(subjects, dtype=str), return_inverse=True)
    parts = [measure(np.ones((1, len(place))))]
    rng = np.random.default_rng(seed)
    step = max(1, min(draws, CHUNK // max(len(place), 1)))
    chunks = [min(step, draws - start) for start in range(0, draws, step)]
    slow = draws * len(place) >= SLOW
    for size in track(chunks, description) if slow else chunks:
        counts = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=size)
        parts.append(measure(counts[:, place].astype(np.float64)))
    return {metric: np.concatenate([part[metric] for part in parts]) for metric in parts[0]}


def interval(values: Array, centred: bool = False) -> dict[str, float | None]:
    """Value and 95% percentile interval (Efron 1979) of what ``bootstrap`` gives for a metric.

    Draws in which the metric is undefined are left out; the interval is None where over half are.

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
    """A float for JSON, which knows no NaN."""
    return float(value) if np.isfinite(value) else None
