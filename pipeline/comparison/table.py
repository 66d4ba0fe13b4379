"""Metrics of the cells of a comparison, with intervals and paired differences."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from uncus import NOTICE, __version__
from uncus.data import files
from uncus.data.design.splits import Splits
from uncus.data.errors import BadInput
from uncus.data.tables import write_table
from uncus.pipeline.comparison.cells import Cell, Design
from uncus.pipeline.comparison.crossed import estimate, pseudovalues
from uncus.pipeline.comparison.verdicts import compared, judged
from uncus.pipeline.evaluation.baselines import predict_baseline
from uncus.pipeline.evaluation.bootstrap import LEVEL, plain
from uncus.pipeline.evaluation.measurement import measure
from uncus.pipeline.evaluation.metrics import Array, Values
from uncus.pipeline.evaluation.predictions import Outputs, Study, model_outputs
from uncus.pipeline.runs import Comparison, Run, members
from uncus.pipeline.training.task import Task

SHOWN = {"classification": ("error", "balanced_accuracy", "auc"), "regression": ("mae", "r2")}
LOWER = frozenset({"error", "mae"})
PerSeed = Mapping[int, Values]
"""Seed -> metric -> pseudovalues [subjects] of a cell."""


def assess(
    cells: Sequence[Cell],
    runs: Mapping[str, Run],
    cannot: Mapping[str, str],
    design: Design,
    tasks: Mapping[str, Task],
) -> dict[str, Any]:
    """The contents of compare.json, but for its sentences; ``cannot`` is cell -> reason.

    A cell's value is the mean over its seeds that are trained so far. Its interval is over subjects
    (each with all of its scans) and seeds, see ``crossed``; differences are paired by both.

    Raises
    ------
    ValueError: the metric of ``design`` is not one of the target's.
    BadInput: damaged results, or cells of other folds or other test subjects than the first.
    """
    pseudo: dict[str, PerSeed] = {}
    entries = []
    shown: list[str] = []
    chance: dict[str, float | None] = {}
    counts: dict[str, int] = {}
    folds, share = 1, False
    same = Alike()
    for cell in cells:
        run = runs[cell.name]
        entry: dict[str, Any] = {
            "name": cell.name,
            "line": cell.line,
            "norm": cell.norm,
            "groups": cell.groups,
            "start": cell.start,
            "batch_size": cell.batch,
        }
        used = run.config["optimization"] if run.config_path.exists() else {}
        entry |= {name: used.get(name) for name in ("lr", "weight_decay", "epochs")}
        if cell.name in cannot:
            entries.append({**entry, "status": "cannot", "reason": cannot[cell.name]})
            continue
        task = tasks[cell.name]
        folds = task.splits.folds
        predictions = run.predictions_so_far(members(folds, design.seed, design.seeds))
        if predictions is None:
            entries.append({**entry, "status": "waiting", "reason": "not trained yet"})
            continue
        study = Study.of(run.scans(), task.target, run.splits())
        kind = "regression" if study.target.regression else "classification"
        each, by_fold = by_seed(study, predictions, run.predictions_path)
        plain_values = {seed: one.metrics for seed, one in each.items()}
        pseudo[cell.name] = {seed: one.pseudovalues for seed, one in each.items()}
        same.check(run, study.splits, each)
        share = kind == "classification"
        if not shown:
            measured = next(iter(plain_values.values()))
            shown = [m for m in measured if m.split("_")[0] in SHOWN[kind] or m in SHOWN[kind]]
            shown.sort(key=lambda m: next(k for k, s in enumerate(SHOWN[kind]) if m.startswith(s)))
            chance, counts = constant_prediction(study, predictions, shown)
        entry["metrics"] = {
            m: {
                **value_of(pseudo[cell.name], m, share),
                "seeds": [plain(one[m]) for one in plain_values.values()],
                "folds": [[plain(value) for value in seed[m]] for seed in by_fold],
                "sd_over_seeds": spread([one[m] for one in plain_values.values()]),
                "sd_over_folds_and_seeds": spread([v for seed in by_fold for v in seed[m]]),
            }
            for m in shown
        }
        entries.append({**entry, "status": "done", "seconds": round(run.training_seconds(), 1)})
    metric = design.metric or (shown[0] if shown else "")
    if shown and metric not in shown:
        raise ValueError(f"--metric {metric}: unknown; choose from {', '.join(shown)}")
    lower = metric.split("_")[0] in LOWER
    effect = design.effect or default_effect(metric, chance.get(metric))

    def family(pairs: Sequence[tuple[dict[str, Any], str, str]]) -> list[dict[str, Any]]:
        """Compare the pairs (entry, cell, other cell), and judge them by the metric together."""
        each = [
            {**entry, **{m: paired(pseudo[one], pseudo[other], m, folds, share) for m in shown}}
            for entry, one, other in pairs
            if pseudo.get(one, {}).keys() & pseudo.get(other, {}).keys()
        ]
        verdicts = judged([entry[metric] for entry in each], effect, lower) if each else []
        return [{**entry, metric: one} for entry, one in zip(each, verdicts, strict=True)]

    return {
        "target": list(design.target),
        "metric": metric,
        "metrics": shown,
        "lower_is_better": lower,
        "effect": effect,
        "reference": cells[0].line,
        "batch_sizes": list(design.batch_sizes),
        "folds": folds,
        "seeds": design.seeds,
        "networks": [sum(map(len, pseudo.values())) * folds, len(cells) * folds * design.seeds],
        **counts,
        "chance": chance,
        "interval": {"level": LEVEL, "method": "subjects and seeds as crossed random effects"},
        "cells": entries,
        "differences": family(differences(cells)),
        "falls": family(falls(cells, pseudo)),
        "notice": NOTICE,
        "version": __version__,
    }


def check_metric(metric: str, regression: bool) -> None:
    """Raise ValueError unless a target of this kind can have the metric."""
    known = SHOWN["regression" if regression else "classification"]
    if metric not in known and metric.split("_")[0] not in known:
        raise ValueError(f"--metric {metric}: unknown; choose from {', '.join(known)}")


def default_effect(metric: str, chance: float | None) -> float:
    """The smallest difference worth seeing: 0.03 of a share, 5% of a constant prediction's MAE."""
    return 0.05 * chance if chance and metric.startswith("mae") else 0.03


def value_of(pseudo: PerSeed, metric: str, share: bool) -> dict[str, float | None]:
    """A cell's metric with its interval, within the metric's bounds."""
    found = estimate(np.stack([one[metric] for one in pseudo.values()]), share).interval
    low, high = (0.0 if metric != "r2" else -np.inf), (np.inf if metric.startswith("mae") else 1.0)
    return {k: None if v is None else float(np.clip(v, low, high)) for k, v in found.items()}


def paired(mine: PerSeed, theirs: PerSeed, metric: str, folds: int, share: bool) -> dict[str, Any]:
    """The paired difference of a metric between two cells."""
    one, other = ({seed: v[metric] for seed, v in cell.items()} for cell in (mine, theirs))
    return compared(one, other, folds, share)


def with_error(values: Values) -> Values:
    """The metrics and, for classes, that of the papers: the share of misclassified scans."""
    if "accuracy" in values:
        values = {**values, "error": 1 - values["accuracy"]}
    return values


@dataclass(frozen=True)
class Tested:
    """The test of a cell's networks of a seed.

    Attributes
    ----------
    metrics: of all folds together.
    pseudovalues: metric -> [subjects].
    subjects: their names, in that order.
    """

    metrics: dict[str, float]
    pseudovalues: Values
    subjects: tuple[str, ...]


@dataclass
class Alike:
    """The folds and test subjects of the first cell, which all others must have."""

    name: str = ""
    splits: Splits | None = None
    subjects: tuple[str, ...] = ()

    def check(self, run: Run, splits: Splits, each: Mapping[int, Tested]) -> None:
        """Compare a cell with the first; BadInput if it cannot be paired with it."""
        if self.splits is None:
            self.name, self.splits = run.path.name, splits
            self.subjects = next(iter(each.values())).subjects
        remedy = "remove this folder, and call the command again"
        if not splits.frame.equals(self.splits.frame):
            raise BadInput(run.path, f"has other folds than {self.name}", remedy)
        for seed, one in each.items():
            if one.subjects != self.subjects:
                cause = f"its networks of seed {seed} tested other subjects than {self.name}"
                raise BadInput(run.path, cause, remedy)


def by_seed(
    study: Study, predictions: pd.DataFrame, path: Path
) -> tuple[dict[int, Tested], list[dict[str, list[float]]]]:
    """The test of each seed, of ``predictions`` at ``path``; and its metrics in each fold."""
    each, folds = {}, []
    for one in sorted(predictions["seed"].unique()):
        outputs = model_outputs(study, predictions[predictions["seed"] == one], path)
        pooled = outputs.pooled("test")
        pooled = pooled.take(pooled.labelled)

        def measured(weights: Array, rows: Outputs = pooled) -> Values:
            return with_error(measure(study, rows.labels, rows.values["model"], weights))

        values = {m: float(v[0]) for m, v in measured(np.ones((1, len(pooled.rows)))).items()}
        names = tuple(map(str, np.unique(pooled.subjects)))
        each[int(one)] = Tested(values, pseudovalues(measured, pooled.subjects), names)
        by_fold: dict[str, list[float]] = {name: [] for name in values}
        for fold in range(study.splits.folds):
            here = ((outputs.rows["fold"] == fold) & (outputs.rows["part"] == "test")).to_numpy()
            some = outputs.take(here & outputs.labelled)
            if len(some.rows):
                for name, value in measured(np.ones((1, len(some.rows))), some).items():
                    by_fold[name].append(float(value[0]))
        folds.append(by_fold)
    return each, folds


def spread(values: Sequence[float]) -> float | None:
    """Standard deviation; None for fewer than two."""
    known = [value for value in values if np.isfinite(value)]
    return plain(np.std(known, ddof=1)) if len(known) > 1 else None


def constant_prediction(
    study: Study, predictions: pd.DataFrame, shown: Sequence[str]
) -> tuple[dict[str, float | None], dict[str, int]]:
    """Metrics of one prediction for all scans; and the numbers of subjects and scans tested."""
    rows = model_outputs(study, predictions).pooled("test")
    rows = rows.take(rows.labelled)
    outputs = predict_baseline(study, rows.rows, ())
    values = with_error(measure(study, rows.labels, outputs, np.ones((1, len(rows.rows)))))
    subjects = len(np.unique(rows.subjects))
    return {m: plain(values[m][0]) for m in shown}, {"subjects": subjects, "scans": len(rows.rows)}


def differences(cells: Sequence[Cell]) -> list[tuple[dict[str, Any], str, str]]:
    """Each cell and the reference, the first line, at the same batch size."""
    line = cells[0].line
    references = {cell.batch: cell.name for cell in cells if cell.line == line}
    return [
        (
            {"line": cell.line, "batch_size": cell.batch, "minus": line},
            cell.name,
            references[cell.batch],
        )
        for cell in cells
        if cell.line != line
    ]


def falls(
    cells: Sequence[Cell], pseudo: Mapping[str, PerSeed]
) -> list[tuple[dict[str, Any], str, str]]:
    """Each line at each smaller batch size and at its largest."""
    pairs = []
    for line in dict.fromkeys(cell.line for cell in cells):
        done = [cell for cell in cells if cell.line == line and cell.name in pseudo]
        if len(done) > 1:
            top = max(done, key=lambda cell: cell.batch)
            for cell in done:
                if cell != top:
                    sizes = {"batch_size": cell.batch, "minus_batch_size": top.batch}
                    pairs.append(({"line": line, **sizes}, cell.name, top.name))
    return pairs


def write(out: Path, result: Mapping[str, Any]) -> None:
    """Write compare.json and table.tsv, which has one row per cell and metric."""
    files.write_json(Comparison(out).results_path, result)
    rows = []
    for entry in result["cells"]:
        keys = ("norm", "groups", "start", "batch_size", "lr", "weight_decay", "epochs", "steps")
        shared = {key: entry.get(key) for key in (*keys, "seconds", "status", "reason")}
        for metric, value in entry.get("metrics", {"": {}}).items():
            numbers = {key: value.get(key) for key in ("value", "low", "high", "sd_over_seeds")}
            rows.append({**shared, "metric": metric, **numbers})
    write_table(Comparison(out).table_path, pd.DataFrame(rows).astype(object).fillna("n/a"))
