"""Metrics of the cells of a comparison, with intervals and paired differences."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from uncus import NOTICE, __version__
from uncus.data import files
from uncus.data.tables import write_table
from uncus.pipeline.comparison.cells import Cell, Design
from uncus.pipeline.evaluation.baselines import predict_baseline
from uncus.pipeline.evaluation.bootstrap import LEVEL, bootstrap, interval, plain
from uncus.pipeline.evaluation.measurement import measure
from uncus.pipeline.evaluation.metrics import Array, Values
from uncus.pipeline.evaluation.predictions import Study, model_outputs
from uncus.pipeline.runs import Comparison, Run

SHOWN = {"classification": ("error", "balanced_accuracy", "auc"), "regression": ("mae", "r2")}
LOWER = frozenset({"error", "mae"})


def assess(
    cells: Sequence[Cell], runs: Mapping[str, Run], cannot: Mapping[str, str], design: Design
) -> dict[str, Any]:
    """The contents of compare.json, but for its sentences; ``cannot`` is cell -> reason.

    A cell's value is the mean over its seeds. Its interval is from resamples of both subjects (with
    all of their scans) and seeds (Owen 2007, "The pigeonhole bootstrap"). The resamples are the
    same for all cells, so that differences between cells are paired.

    Raises
    ------
    ValueError: the metric of ``design`` is not one of the target's.
    """
    resampled: dict[str, Values] = {}
    entries = []
    shown: list[str] = []
    chance: dict[str, float | None] = {}
    counts: dict[str, int] = {}
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
        study = Study.of(run.scans(), run.target, run.splits())
        kind = "regression" if study.target.regression else "classification"
        each, folds = by_seed(study, run.predictions(), design.draws, design.seed)
        if not shown:
            shown = [m for m in each[0] if m.split("_")[0] in SHOWN[kind] or m in SHOWN[kind]]
            shown.sort(key=lambda m: next(k for k, s in enumerate(SHOWN[kind]) if m.startswith(s)))
            chance, counts = constant_prediction(study, run.predictions(), shown)
        resampled[cell.name] = {
            m: mean_over_seeds([one[m] for one in each], design.seed) for m in shown
        }
        entry["metrics"] = {
            m: {
                **interval(resampled[cell.name][m]),
                "seeds": [plain(one[m][0]) for one in each],
                "folds": [[plain(value) for value in seed[m]] for seed in folds],
                "sd_over_seeds": spread([one[m][0] for one in each]),
                "sd_over_folds_and_seeds": spread([v for seed in folds for v in seed[m]]),
            }
            for m in shown
        }
        times = [float(t["seconds"].sum()) for t in run.training_curves().values()]
        entries.append({**entry, "status": "done", "seconds": round(sum(times), 1)})
    metric = design.metric or (shown[0] if shown else "")
    if shown and metric not in shown:
        raise ValueError(f"--metric {metric}: unknown; choose from {', '.join(shown)}")
    return {
        "target": list(design.target),
        "metric": metric,
        "metrics": shown,
        "lower_is_better": metric.split("_")[0] in LOWER,
        "reference": cells[0].line,
        "batch_sizes": list(design.batch_sizes),
        "seeds": design.seeds,
        **counts,
        "chance": chance,
        "interval": {
            "level": LEVEL,
            "method": "bootstrap over subjects and seeds",
            "draws": design.draws,
        },
        "cells": entries,
        "differences": differences(cells, resampled, cells[0].line),
        "falls": falls(cells, resampled),
        "notice": NOTICE,
        "version": __version__,
    }


def with_error(values: Values) -> Values:
    """The metrics and, for classes, that of the papers: the share of misclassified scans."""
    if "accuracy" in values:
        values = {**values, "error": 1 - values["accuracy"]}
    return values


def by_seed(
    study: Study, predictions: pd.DataFrame, draws: int, seed: int
) -> tuple[list[Values], list[dict[str, list[float]]]]:
    """Each seed's metrics, [1 + draws] with the resamples; and each seed's metrics in each fold."""
    each, folds = [], []
    for one in sorted(predictions["seed"].unique()):
        outputs = model_outputs(study, predictions[predictions["seed"] == one])
        pooled = outputs.pooled("test")
        pooled = pooled.take(pooled.labelled)
        each.append(
            bootstrap(
                lambda w, p=pooled: with_error(measure(study, p.labels, p.values["model"], w)),  # type: ignore[misc]
                pooled.subjects,
                draws,
                seed,
            )
        )
        by_fold: dict[str, list[float]] = {name: [] for name in each[-1]}
        for fold in range(study.splits.folds):
            here = ((outputs.rows["fold"] == fold) & (outputs.rows["part"] == "test")).to_numpy()
            some = outputs.take(here & outputs.labelled)
            if len(some.rows):
                ones = np.ones((1, len(some.rows)))
                values = with_error(measure(study, some.labels, some.values["model"], ones))
                for name, value in values.items():
                    by_fold[name].append(float(value[0]))
        folds.append(by_fold)
    return each, folds


def mean_over_seeds(each: Sequence[Array], seed: int) -> Array:
    """The mean over all seeds, then over resampled seeds for each resample: float [1 + draws]."""
    values = np.stack(each)
    rng = np.random.default_rng((seed, len(values)))
    times = rng.multinomial(len(values), np.full(len(values), 1 / len(values)), values.shape[1])
    times[0] = 1
    return np.asarray((values * times.T).sum(axis=0) / len(values))


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


def differences(
    cells: Sequence[Cell], resampled: Mapping[str, Values], line: str
) -> list[dict[str, Any]]:
    """Each cell minus the reference ``line`` at the same batch size, resample by resample."""
    references = {cell.batch: cell.name for cell in cells if cell.line == line}
    entries = []
    for cell in cells:
        other = references.get(cell.batch, "")
        if cell.line != line and cell.name in resampled and other in resampled:
            mine, theirs = resampled[cell.name], resampled[other]
            each = {m: interval(mine[m] - theirs[m]) for m in mine}
            entries.append({"line": cell.line, "batch_size": cell.batch, "minus": line, **each})
    return entries


def falls(cells: Sequence[Cell], resampled: Mapping[str, Values]) -> list[dict[str, Any]]:
    """Each line at each smaller batch size minus its largest, resample by resample."""
    entries = []
    for line in dict.fromkeys(cell.line for cell in cells):
        done = [cell for cell in cells if cell.line == line and cell.name in resampled]
        if len(done) > 1:
            top = max(done, key=lambda cell: cell.batch)
            for cell in done:
                if cell != top:
                    mine, theirs = resampled[cell.name], resampled[top.name]
                    each = {m: interval(mine[m] - theirs[m]) for m in mine}
                    sizes = {"batch_size": cell.batch, "minus_batch_size": top.batch}
                    entries.append({"line": line, **sizes, **each})
    return entries


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
