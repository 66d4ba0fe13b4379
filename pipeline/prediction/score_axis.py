"""Where an answer lies: one axis with the out-of-fold scores of the run's own scans.

The counts of the bars are all that is shown of the cohort, so that nobody can be identified.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator

from uncus.data import files
from uncus.data.errors import BadInput
from uncus.pipeline.prediction.answer_text import full, is_foreign, value_text
from uncus.pipeline.rendering.numbers import fixed
from uncus.pipeline.runs import Run
from uncus.pipeline.trust.out_of_fold import Array, OutOfFold
from uncus.pipeline.trust.reliability import Reliability

BINS = 40
"""Bars along the axis."""
FINE = 5 * BINS
"""Parts of a stored histogram of probabilities, which another prevalence moves."""


@dataclass(frozen=True)
class ScoreAxis:
    """An axis, with this scan and the run's scans on it.

    Attributes
    ----------
    title: of the axis, with its unit.
    ends: where it begins and ends.
    value: this scan's.
    text: the value as text.
    groups: name -> int [BINS], how many of the run's scans are in each part of the axis.
    between: on a probability, where no class is named; on a value, its conformal interval.
    between_title: what that is.
    ticks: where it is labelled.
    """

    title: str
    ends: tuple[float, float]
    value: float
    text: str
    groups: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    between: tuple[float, float] | None = None
    between_title: str = ""
    ticks: tuple[float, ...] = (0, 0.25, 0.5, 0.75, 1)

    @property
    def caption(self) -> str:
        """The title, and what the bars are."""
        bars = "; bars: the run's own scans, out of fold" if self.groups else ""
        return f"{self.title}{bars}"

    def at(self, value: float) -> float:
        """The position of a value along the axis, from 0 to 1."""
        low, high = self.ends
        return min(1.0, max(0.0, (value - low) / (high - low)))


def axes_of(answer: Mapping[str, Any], run: Run) -> list[ScoreAxis]:
    """The axes of an answer (the content of prediction.json): one for classes, one per value.

    There is none for a scan of another domain than the run's; an axis is without bars where the
    run's results are not beside its model.
    """
    if is_foreign(answer):
        return []
    known = scores(run)
    if "probabilities" in answer:
        return [_probability(answer, run, known)]
    return [_value(answer, k, name, known) for k, name in enumerate(answer["values"])]


def scores(run: Run, judge: Run | None = None) -> OutOfFold | None:
    """The out-of-fold outputs of the run's scans, one row each, calibrated; None without any.

    Those of a packed model are read from its histogram. ``judge`` has the calibration, if another.
    """
    for path in (run.predictions_path, run.scores_path):
        try:
            return _scores(path, (judge or run).path, path.stat().st_mtime_ns)
        except (BadInput, OSError, KeyError, ValueError):
            continue
    return None


@lru_cache(maxsize=8)
def _scores(path: Path, judge: Path, changed: int) -> OutOfFold:
    del changed  # part of the cache's key
    run = Run(judge)
    if path.suffix == ".json":
        return _from_histogram(files.read_json(path), run.target.names)
    known = OutOfFold.of(Run(path.parent).predictions(), run.target)
    return known.mean(Reliability.from_card(run.card, run.target).calibrated(known.outputs))


def histogram(known: OutOfFold) -> dict[str, Any]:
    """Scores as a histogram, which names nobody.

    Returns
    -------
    ``names``, of the columns; ``rows``: the middles of bins, the class ("" of a regression, whose
    columns are counted apart), and how many ``scans`` are there.
    """
    outputs, labels = known.outputs, known.labels
    low, high, parts = np.zeros(len(known.names)), np.ones(len(known.names)), FINE
    if labels.ndim > 1:
        parts = BINS
        low, high, outputs = outputs.min(0), outputs.max(0), np.sort(outputs, 0)
        labels = np.full(len(outputs), -1)
    bins = np.clip((outputs - low) / (high - low) * parts, 0, parts - 1).astype(int)
    rows, counts = np.unique(np.column_stack([labels, bins]), axis=0, return_counts=True)
    middles = low + (rows[:, 1:] + 0.5) / parts * (high - low)
    return {
        "names": list(known.names),
        "rows": [
            {
                "class": known.names[label] if label >= 0 else "",
                "outputs": [float(f"{value:.5g}") for value in middle],
                "scans": int(count),
            }
            for label, middle, count in zip(rows[:, 0], middles, counts, strict=True)
        ],
    }


def _from_histogram(stored: Mapping[str, Any], names: tuple[str, ...]) -> OutOfFold:
    """A score for each scan, at the middle of its bin; ValueError where it is of others."""
    if tuple(stored["names"]) != names:
        raise ValueError(f"a histogram of {stored['names']}, not of {names}")
    rows = stored["rows"]
    counts = [row["scans"] for row in rows]
    labels = [names.index(row["class"]) if row["class"] else -1 for row in rows]
    outputs = np.repeat(np.array([row["outputs"] for row in rows], float), counts, axis=0)
    nobody = pd.DataFrame(index=range(len(outputs)))
    return OutOfFold(names, nobody, np.zeros(len(outputs)), np.repeat(labels, counts), outputs)


def _probability(answer: Mapping[str, Any], run: Run, known: OutOfFold | None) -> ScoreAxis:
    """The probability of one class: of two the last, of more the most probable one."""
    names = tuple(answer["probabilities"])
    name = names[-1]
    if len(names) > 2:
        name = max(names, key=answer["probabilities"].__getitem__)
    index, value = names.index(name), answer["probabilities"][name]
    reliability = Reliability.from_card(run.card, run.target)
    calibration = reliability.calibration
    at_home = True
    groups: dict[str, tuple[int, ...]] = {}
    prevalence = np.array(list(answer.get("prevalence", {}).values()))
    if calibration and len(prevalence):
        at_home = bool(np.allclose(prevalence, calibration.prevalence, atol=1e-6))
    if known is not None and known.names == names:
        outputs = known.outputs
        if calibration and not at_home:
            outputs = calibration.shifted(outputs, prevalence)
        own = known.labels == index
        rest = names[1 - index] if len(names) == 2 else ""
        for title, rows in ((full(rest) if rest else "the other classes", ~own), (full(name), own)):
            counts = _counts(outputs[rows, index], (0.0, 1.0))
            groups[f"{title}: {sum(counts)} scans"] = counts
    state = "calibrated" if answer.get("calibrated") else "not calibrated"
    between = None
    if reliability.conformal and "set" in answer and len(names) == 2 and at_home:
        most = reliability.conformal.at(answer["error_level"])
        ends = sorted(min(1.0, max(0.0, end)) for end in (most[names[0]], 1 - most[names[1]]))
        between = (ends[0], ends[1]) if ends[1] > ends[0] else None
    return ScoreAxis(
        f"probability of {full(name)}, {state}",
        (0.0, 1.0),
        value,
        fixed(value, 2),
        groups,
        between,
        "cannot tell" if between else "",
    )


def _value(answer: Mapping[str, Any], index: int, name: str, known: OutOfFold | None) -> ScoreAxis:
    """A value among those predicted for the run's scans."""
    value, interval = answer["values"][name], answer.get("intervals", {}).get(name)
    others: Array = np.array([]) if known is None else known.outputs[:, index]
    spread = np.array([*others, value, *(interval or ())])
    ticks = MaxNLocator(5).tick_values(spread.min(), spread.max())
    ends = (float(ticks[0]), float(ticks[-1]))
    groups = {f"{len(others)} scans": _counts(others, ends)} if len(others) else {}
    level = 1 - answer.get("error_level", 0)
    return ScoreAxis(
        f"{name}, years" if name == "age" else full(name),
        ends,
        value,
        value_text(name, value),
        groups,
        tuple(interval) if interval else None,
        f"{level:.0%} interval" if interval else "",
        tuple(map(float, ticks)),
    )


def _counts(values: Array, ends: tuple[float, float]) -> tuple[int, ...]:
    """How many values are in each of BINS parts."""
    return tuple(int(n) for n in np.histogram(np.clip(values, *ends), BINS, ends)[0])
