"""Metrics by sex, age band, site and scanner."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from uncus.data.cohorts.scanner_columns import (
    FIELD_STRENGTHS,
    MANUFACTURERS,
    SCANNERS,
    SITES,
)
from uncus.data.tables import clean, find_column, read_column
from uncus.data.text import shorten
from uncus.pipeline.evaluation.bootstrap import bootstrap, intervals
from uncus.pipeline.evaluation.measurement import counts, main_metric, measure
from uncus.pipeline.evaluation.metrics import Array
from uncus.pipeline.evaluation.predictions import Outputs, Study

MIN_GROUP = 10
"""Groups with fewer scans get no figures."""
FEW = 20
"""Subjects of a class below which a group's figures are warned of."""
MAX_GROUPS = 10
"""Of more sites or scanners, those with the fewest scans are one group."""
BAND = 10
"""Years of an age band."""
COLUMNS: Mapping[str, tuple[str, ...]] = {
    "sex": ("sex",),
    "age": ("age",),
    "site": SITES,
    "scanner": (*SCANNERS, *MANUFACTURERS),
    "field strength": FIELD_STRENGTHS,
}
"""Group -> the names that its column may have, in any case."""
SHOWN = ("auc", "balanced_accuracy", "sensitivity", "specificity")
"""Metrics of a classification for each group."""


def subgroups(study: Study, outputs: Outputs, draws: int, seed: int) -> dict[str, dict[str, Any]]:
    """Metrics with intervals, column -> level -> figures, by those of ``COLUMNS`` that there are.

    "metric" and "score" are the main one; "few" names the classes of under ``FEW`` subjects.
    """
    fields = study.scans.iloc[study.positions(outputs.rows)].reset_index(drop=True)
    metric = main_metric(study)
    result: dict[str, dict[str, Any]] = {}
    for group, names in COLUMNS.items():
        column = find_column(fields, names)
        if column is None or column in study.target.columns:
            continue
        for level, mask in levels(group, fields[column]).items():
            some = outputs.take(mask)
            entry: dict[str, Any] = {**counts(study, some), "metric": metric, "score": None}
            entry |= {"metrics": {}, "few": few(study, some)}
            if len(some.rows) >= MIN_GROUP:
                entry["metrics"] = figures(study, some, draws, seed)
                entry["score"] = entry["metrics"][metric]
            result.setdefault(group, {})[level] = entry
    return result


def levels(group: str, cells: "pd.Series[Any]") -> dict[str, Array]:
    """Level -> its rows, bool [N]: ages in bands, texts as they are."""
    texts = np.array([clean(cell) for cell in cells], dtype=object)
    if group == "age":
        ages = read_column(cells)
        return {} if ages is None else bands(ages)
    names, numbers = np.unique(texts[texts != ""], return_counts=True)
    largest = set(names[np.argsort(-numbers, kind="stable")][: MAX_GROUPS - 1])
    if len(names) <= MAX_GROUPS:
        largest = set(names)
    found = {name: texts == name for name in names if name in largest}
    rest = set(names) - largest
    return found | ({f"{len(rest)} others": np.isin(texts, list(rest))} if rest else {})


def bands(ages: Array) -> dict[str, Array]:
    """Age band -> its rows, bool [N]: 60 to 69, 70 to 79 ...; those at either end as one."""
    known = ages[np.isfinite(ages)]
    if not len(known):
        return {}
    low, high = (int(edge // BAND) for edge in np.quantile(known, [0.1, 0.9]))
    low = max(low, high - MAX_GROUPS + 3)
    found = {f"under {BAND * low}": ages < BAND * low}
    for decade in range(low, high + 1):
        start = BAND * decade
        found[f"{start} to {start + BAND - 1}"] = (ages >= start) & (ages < start + BAND)
    top = BAND * (high + 1)
    found[f"{top} and over"] = ages >= top
    return {name: mask for name, mask in found.items() if mask.any()}


def figures(study: Study, outputs: Outputs, draws: int, seed: int) -> dict[str, Any]:
    """The metrics of a group with intervals."""

    def some(weights: Array) -> dict[str, Array]:
        found = measure(study, outputs.labels, outputs.values["model"], weights)
        shown = found if study.target.regression else SHOWN
        return {name: found[name] for name in shown}

    return intervals(bootstrap(some, outputs.subjects, draws, seed))


def few(study: Study, outputs: Outputs) -> list[str]:
    """The classes with under ``FEW`` subjects in a group, or "subjects" of a regression."""
    if study.target.regression:
        return ["subjects"] if len(np.unique(outputs.subjects)) < FEW else []
    names = study.target.names
    each = [len(np.unique(outputs.subjects[outputs.labels == k])) for k in range(len(names))]
    return [name for name, count in zip(names, each, strict=True) if count < FEW]


def few_warnings(groups: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """One warning of all groups whose figures rest on few subjects."""
    small = [
        f"{column} {level}"
        for column, entries in groups.items()
        for level, entry in entries.items()
        if entry["few"]
    ]
    if not small:
        return []
    return [
        f"groups with under {FEW} subjects of a class, whose figures are uncertain: "
        f"{shorten(small, 12)}"
    ]
