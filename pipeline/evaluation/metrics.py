"""Weighted metrics, one formula for value and bootstrap.

Every function takes ``weights`` of shape [D, N] (D draws over N scans: how often a scan occurs in a
draw) and returns one value per draw; a row of ones gives the plain metric. Undefined values (in a
draw without positives, say) are NaN. MONAI's and torchmetrics' metrics take no weights:
thousands of draws would be as many calls. Tests compare the values with scikit-learn's.

The predicted class is the one of the highest probability; of two classes, the second if its
probability exceeds 0.5.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Values = dict[str, Array]  # metric -> float64 [D]

TITLES: Mapping[str, tuple[str, str]] = {
    "auc": ("AUC", "area under the ROC curve: how often a positive scan scores above a negative"),
    "auc_adjusted": ("adjusted AUC", "the AUC among scans alike in age and sex (see below)"),
    "balanced_accuracy": ("balanced accuracy", "mean of the classes' sensitivities"),
    "balanced_accuracy_weighted": (
        "weighted balanced accuracy",
        "the same, with scans weighted so that age and sex are alike in the classes",
    ),
    "accuracy": ("accuracy", "share of scans whose class is predicted"),
    "sensitivity": ("sensitivity", "share of the positive scans predicted positive"),
    "specificity": ("specificity", "share of the negative scans predicted negative"),
    "average_precision": ("average precision", "precision averaged over recall"),
    "brier": ("Brier score", "mean squared error of the probability; lower is better"),
    "ece": ("ECE", "expected calibration error, ten bins of equal width; lower is better"),
    "mae": ("MAE", "mean absolute error, in the column's unit; lower is better"),
    "r2": ("R²", "share of the variance explained; 0 is predicting the mean"),
    "pearson_r": ("Pearson r", "correlation of the predicted with the true values"),
}
"""Metric -> its name and meaning; a suffix (``auc_AD``, ``mae_age``) is a class or column."""

LOWER_IS_BETTER = frozenset({"brier", "ece", "mae"})
CALIBRATION_BINS = 10


def title(metric: str) -> str:
    """The display name: ``auc_AD`` -> ``AUC, AD``."""
    for key in sorted(TITLES, key=len, reverse=True):
        if metric == key:
            return TITLES[key][0]
        if metric.startswith(f"{key}_"):
            return f"{TITLES[key][0]}, {metric[len(key) + 1 :]}"
    return metric


def base(metric: str) -> str:
    """The metric without its class or column: ``auc_AD`` -> ``auc``."""
    matches = [key for key in TITLES if metric == key or metric.startswith(f"{key}_")]
    return max(matches, key=len, default=metric)


def classification(
    labels: Array, probabilities: Array, weights: Array, names: Sequence[str]
) -> Values:
    """All metrics of a classification.

    Of two classes the second is the positive one. Of more, each class against the rest, and the
    mean over the classes under the plain name.

    Parameters
    ----------
    labels: int [N], indices into ``names``.
    probabilities: float [N, K], rows summing to 1.
    weights: float [D, N].
    names: the K classes.
    """
    predicted = probabilities.argmax(axis=1)
    hits = weights[:, predicted == labels].sum(axis=1)
    values: Values = {}
    if len(names) == 2:
        values |= binary(labels == 1, probabilities[:, 1], predicted == 1, weights)
        recalls = [values["sensitivity"], values["specificity"]]
    else:
        each = [
            binary(labels == k, probabilities[:, k], predicted == k, weights)
            for k in range(len(names))
        ]
        for metric in each[0]:
            values[metric] = np.mean([one[metric] for one in each], axis=0)
        for name, one in zip(names, each, strict=True):
            values |= {f"{metric}_{name}": value for metric, value in one.items()}
        recalls = [one["sensitivity"] for one in each]
    values["balanced_accuracy"] = np.mean(recalls, axis=0)
    values["accuracy"] = ratio(hits, weights.sum(axis=1))
    return in_order(values)


def in_order(values: Values) -> Values:
    """The metrics as in ``TITLES``, those of single classes last."""
    order = {metric: k for k, metric in enumerate(TITLES)}
    return dict(
        sorted(values.items(), key=lambda item: (item[0] not in order, order[base(item[0])]))
    )


def binary(positive: Array, scores: Array, called: Array, weights: Array) -> Values:
    """Metrics of one class against the rest.

    Parameters
    ----------
    positive, called: bool [N], whether a scan is positive, and predicted positive.
    scores: float [N], probabilities of being positive.
    weights: float [D, N].
    """
    total = weights.sum(axis=1)
    positives = weights[:, positive].sum(axis=1)
    return {
        "auc": auc(positive, scores, weights),
        "sensitivity": ratio(weights[:, positive & called].sum(axis=1), positives),
        "specificity": ratio(weights[:, ~positive & ~called].sum(axis=1), total - positives),
        "average_precision": average_precision(positive, scores, weights),
        "brier": ratio(weights @ (scores - positive) ** 2, total),
        "ece": calibration_error(positive, scores, weights),
    }


def auc(positive: Array, scores: Array, weights: Array) -> Array:
    """Area under the ROC curve [D], ties counting a half (Mann and Whitney 1947)."""
    here, there = by_score(positive, scores, weights)
    below = np.cumsum(there, axis=1) - 0.5 * there
    return ratio((here * below).sum(axis=1), here.sum(axis=1) * there.sum(axis=1))


def average_precision(positive: Array, scores: Array, weights: Array) -> Array:
    """Sum of precision times the gain in recall over the distinct scores, from the highest down."""
    here, there = (part[:, ::-1] for part in by_score(positive, scores, weights))
    true = np.cumsum(here, axis=1)
    precision = np.nan_to_num(ratio(true, true + np.cumsum(there, axis=1)))
    return ratio((precision * here).sum(axis=1), here.sum(axis=1))


def by_score(positive: Array, scores: Array, weights: Array) -> tuple[Array, Array]:
    """The weight of positives and of negatives at each distinct score, ascending, [D, S] each."""
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.diff(scores[order], prepend=-np.inf))
    ordered, mask = weights[:, order].astype(np.float64), positive[order]
    return (
        np.add.reduceat(ordered * mask, starts, axis=1),
        np.add.reduceat(ordered * ~mask, starts, axis=1),
    )


def calibration_error(positive: Array, scores: Array, weights: Array) -> Array:
    """Expected calibration error [D] over ten bins of equal width (Naeini et al. 2015).

    ``sum over bins of (weight of the bin) * |share of positives - mean probability|``.
    """
    bins = calibration_bin(scores)
    gap = np.zeros(len(weights))
    for index in np.unique(bins):
        inside = bins == index
        gap += np.abs(weights[:, inside] @ (positive[inside] - scores[inside]))
    return ratio(gap, weights.sum(axis=1))


def calibration_bin(scores: Array) -> Array:
    """The bin of each probability, int [N], 0 to 9; 1.0 is in the last."""
    return np.asarray(np.minimum((scores * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1))


def regression(true: Array, predicted: Array, weights: Array, names: Sequence[str]) -> Values:
    """MAE, R2 and Pearson r of each column, without a suffix if there is only one.

    Parameters
    ----------
    true, predicted: float [N, K] in the columns' own units; scans with NaN are left out of the
        column.
    weights: float [D, N].
    names: the K columns.
    """
    values: Values = {}
    for k, name in enumerate(names):
        known = np.isfinite(true[:, k]) & np.isfinite(predicted[:, k])
        column = numeric(true[known, k], predicted[known, k], weights[:, known])
        suffix = f"_{name}" if len(names) > 1 else ""
        values |= {f"{metric}{suffix}": value for metric, value in column.items()}
    return values


def numeric(true: Array, predicted: Array, weights: Array) -> Values:
    """MAE, R2 and Pearson r of one column, float [N] each."""
    true, predicted = true.astype(np.float64), predicted.astype(np.float64)
    total = weights.sum(axis=1)
    # Centred first: the variance of 70 +- 0.01 would be lost to rounding otherwise.
    a, b = (x - x.mean() if len(x) else x for x in (true, predicted))
    mean_a, mean_b = ratio(weights @ a, total), ratio(weights @ b, total)
    variance_a = ratio(weights @ a**2, total) - mean_a**2
    variance_b = ratio(weights @ b**2, total) - mean_b**2
    covariance = ratio(weights @ (a * b), total) - mean_a * mean_b
    return {
        "mae": ratio(weights @ np.abs(true - predicted), total),
        "r2": 1 - ratio(ratio(weights @ (true - predicted) ** 2, total), variance_a),
        "pearson_r": ratio(covariance, np.sqrt(np.maximum(variance_a * variance_b, 0))),
    }


def ratio(above: Array, below: Array) -> Array:
    """``above / below``, NaN where ``below`` is 0."""
    out = np.full(np.broadcast(above, below).shape, np.nan)
    np.divide(above, below, out=out, where=np.abs(below) > 1e-12)
    return out
