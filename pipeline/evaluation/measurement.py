"""Metrics of outputs with intervals: plain ones, and adjusted ones where age and sex are known."""

from typing import Any

import numpy as np

from uncus.data.tables import find_column
from uncus.pipeline.evaluation import metrics
from uncus.pipeline.evaluation.adjustment import Adjustment, adjusted
from uncus.pipeline.evaluation.baselines import DEMOGRAPHICS
from uncus.pipeline.evaluation.bootstrap import bootstrap, intervals
from uncus.pipeline.evaluation.metrics import Array, Values
from uncus.pipeline.evaluation.predictions import Outputs, Study


def measure(
    study: Study,
    labels: Array,
    values: Array,
    weights: Array,
    adjustment: Adjustment | None = None,
) -> Values:
    """All metrics of one set of outputs, [D] each, with the adjusted ones where asked for."""
    if study.target.regression:
        return metrics.regression(labels, values, weights, study.target.names)
    plain_ones = metrics.classification(labels, values, weights, study.target.names)
    if adjustment:
        plain_ones |= adjusted(labels, values, weights, adjustment)
    return metrics.in_order(plain_ones)


def adjustment_of(study: Study, outputs: Outputs) -> Adjustment | None:
    """For age, sex and the networks' covariates, of a classification where they are known."""
    if study.target.regression:
        return None
    scans = study.scans.iloc[study.positions(outputs.rows)]
    names = [find_column(scans, [name]) for name in DEMOGRAPHICS]
    names += [name for name in study.covariates if name in scans]
    columns = dict.fromkeys(name for name in names if name and name not in study.target.columns)
    return Adjustment.of(scans, outputs.labels, list(columns))


def main_metric(study: Study) -> str:
    """The metric that is reported for folds and subgroups."""
    if study.target.is_classification:
        return "auc"
    columns = study.target.columns
    return "mae" if len(columns) == 1 else f"mae_{columns[0]}"


def measure_part(study: Study, outputs: Outputs, draws: int, seed: int) -> dict[str, Any]:
    """Counts, metrics, baselines and the model's differences from them, with intervals."""
    adjustment = adjustment_of(study, outputs)
    measured: dict[str, Values] = {}
    for name, values in outputs.values.items():
        measured[name] = bootstrap(
            lambda weights, values=values: measure(  # type: ignore[misc]
                study, outputs.labels, values, weights, adjustment
            ),
            outputs.subjects,
            draws,
            seed,
            f"intervals: {name}",
        )
    model = measured.pop("model")
    return {
        "counts": counts(study, outputs),
        "metrics": intervals(model),
        "baselines": {name: intervals(values) for name, values in measured.items()},
        # All use the same resamples, so that the differences are paired.
        "differences": {
            name: intervals({metric: model[metric] - values[metric] for metric in model})
            for name, values in measured.items()
        },
    }


def counts(study: Study, outputs: Outputs) -> dict[str, Any]:
    """Numbers of scans and subjects, and of scans per class or column."""
    names = study.target.names
    if study.target.regression:
        each = np.isfinite(outputs.labels).sum(axis=0)
    else:
        each = np.bincount(outputs.labels, minlength=len(names))
    return {
        "scans": len(outputs.rows),
        "subjects": len(np.unique(outputs.subjects)),
        "columns" if study.target.regression else "classes": dict(
            zip(names, map(int, each), strict=True)
        ),
    }
