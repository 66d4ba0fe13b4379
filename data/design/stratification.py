"""Stratification: order subjects so that neighbors are similar, and draw evenly along the order."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from uncus.data.tables import clean, find_column, need_column, read_column

MAX_STRATA = 10  # distinct numbers in a column; more are binned by quintile
AGE_BINS = 5  # at most; fewer if a bin had less than one subject per fold

Array = np.ndarray[Any, Any]


def is_classes(y: Array | None) -> bool:
    """Whether ``y`` contains classes, not continuous values."""
    return y is not None and np.asarray(y).dtype.kind in "iub"


def describe_subjects(
    table: pd.DataFrame, y: Array | None, stratify: Sequence[str] = ()
) -> pd.DataFrame:
    """One row per subject: group (class or quintile), sex, age (years, NaN if missing).

    The index is the sorted participant_id; each column of ``stratify`` becomes ``stratum-COLUMN``.
    Values are those of the subject's first labelled scan.
    """
    need_column(table, "participant_id", "table")
    sexes, ages = (find_column(table, [name]) for name in ("sex", "age"))
    sex = table[sexes] if sexes else [""] * len(table)
    age = read_column(table[ages]) if ages else None
    if y is None:
        group = np.zeros(len(table), dtype=np.int64)
    elif is_classes(y):
        group = np.maximum(np.asarray(y, dtype=np.int64), -1)
    else:
        group = quintiles(np.asarray(y, dtype=np.float64).reshape(len(table), -1)[:, 0])
    frame = pd.DataFrame(
        {
            "participant_id": table["participant_id"].to_numpy(),
            "session_id": table["session_id"].to_numpy() if "session_id" in table else "",
            "group": group,
            "sex": [clean(cell).lower()[:1] for cell in sex],
            "age": math.nan if age is None else age,
        }
    )
    for column in stratify:
        need_column(table, column, "--stratify")
        frame[f"stratum-{column}"] = strata([clean(cell) for cell in table[column]])
    frame["unlabelled"] = frame["group"] < 0
    frame = frame.sort_values(["participant_id", "unlabelled", "session_id"], kind="stable")
    return frame.drop_duplicates("participant_id").set_index("participant_id")


def quintiles(values: Array) -> Array:
    """int64 [N]: the quintile (0 to 4) of each value of float [N], -1 if it is NaN."""
    known = np.isfinite(values)
    edges: list[float] = []
    if known.any():
        edges = list(np.quantile(values[known], [0.2, 0.4, 0.6, 0.8]))
    return np.where(known, np.searchsorted(edges, values, side="right"), -1).astype(np.int64)


def strata(cells: list[str]) -> list[str]:
    """The cells of a column of text; numbers, or their quintiles if over ten are distinct."""
    values = read_column(cells)
    if values is None:
        return cells
    if len(np.unique(values[np.isfinite(values)])) > MAX_STRATA:
        values = quintiles(values).astype(float)
    return [str(value) for value in values]


def serpentine(subjects: pd.DataFrame, rng: np.random.Generator, folds: int) -> list[str]:
    """The participant_ids in serpentine order of group, strata, sex and age group."""
    keys = ["group", *(name for name in subjects if str(name).startswith("stratum-")), "sex"]
    backwards = dict.fromkeys([*keys, "age"], False)

    def walk(some: pd.DataFrame, depth: int) -> Iterator[str]:
        if depth == len(keys):
            shuffled = some.iloc[rng.permutation(len(some))]  # random order among equal ages
            ages = shuffled.sort_values("age", kind="stable", na_position="first").index.to_numpy()
            bins = int(np.clip(len(some) // max(folds, 2), 1, AGE_BINS))
            runs = [rng.permutation(run) for run in np.array_split(ages, bins)]
            for run in reversed(runs) if backwards["age"] else runs:
                yield from map(str, run)
            backwards["age"] = not backwards["age"]
            return
        key = keys[depth]
        reverse, backwards[key] = backwards[key], not backwards[key]
        for value in sorted(set(some[key]), reverse=reverse):
            yield from walk(some[some[key] == value], depth + 1)

    return list(walk(subjects, 0))


def draw(
    order: list[str], subjects: pd.DataFrame, share: float, rng: np.random.Generator
) -> set[str]:
    """Draw a ``share`` of each group, evenly spaced along ``order``; at least one, never all."""
    chosen: set[str] = set()
    due = 0.0
    members = subjects["group"].to_dict()
    for group in sorted(set(members.values())):
        names = [name for name in order if members[name] == group]
        due += share * len(names)
        count = max(math.floor(due + 0.5), min(1, len(names) // 3))
        count = max(0, min(count, len(names) - 1))
        due -= count
        step = len(names) / max(count, 1)
        positions = np.floor((np.arange(count) + rng.uniform()) * step).astype(int)
        chosen |= {names[position] for position in positions}
    return chosen
