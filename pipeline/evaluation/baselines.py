"""Baselines without a network, on the same folds."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from uncus.data.errors import BadInput
from uncus.data.tables import clean, find_column, need_column, read_column
from uncus.pipeline.evaluation.metrics import Array
from uncus.pipeline.evaluation.predictions import Study

DEMOGRAPHICS = ("age", "sex")
MAX_LEVELS = 30


def choose(study: Study, columns: Sequence[str]) -> tuple[dict[str, tuple[str, ...]], list[str]]:
    """Name -> the columns it is fitted on: none, age and sex, each column named, all of them.

    With warnings of an age or sex that was not asked for and cannot be used.

    Raises
    ------
    BadInput: a column that does not exist, or is the target, or no scan to fit it on is known.
    """
    trained = frozenset[str]().union(*(study.trained(fold) for fold in range(study.splits.folds)))
    if not study.scans["participant_id"].isin(trained).any():
        if columns:
            raise BadInput(
                f"--baseline {' '.join(columns)}",
                "there is no table of the training scans to fit it on",
                "leave it out, or name the folder of the whole run",
            )
        return {}, []
    for column in columns:
        need_column(study.scans, column, f"--baseline {column}")
        if column in study.target.columns:
            raise BadInput(f"--baseline {column}", "is the target itself", "name another column")
    there = [
        name
        for name in (find_column(study.scans, [name]) for name in DEMOGRAPHICS)
        if name and name not in study.target.columns and any(map(clean, study.scans[name]))
    ]
    left_out = [
        f"{name} is no baseline: {count} different texts, not numbers"
        for name in there
        if (count := too_many_texts(study.scans[name]))
    ]
    there = [name for name in there if not too_many_texts(study.scans[name])]
    constant = "majority" if study.target.is_classification else "mean"
    chosen: dict[str, tuple[str, ...]] = {constant: ()}
    for group in (there, *([name] for name in columns), list(columns)):
        if group:
            chosen["+".join(group)] = tuple(group)
    return chosen, left_out


def too_many_texts(cells: "pd.Series[Any]") -> int:
    """The number of different texts in a column that has too many of them; else 0."""
    count = len(set(map(clean, cells)) - {""})
    return count if count > MAX_LEVELS and read_column(cells) is None else 0


def predict_baseline(study: Study, rows: pd.DataFrame, columns: Sequence[str]) -> Array:
    """A baseline's outputs for ``rows``, fitted fold by fold on the fold's training subjects.

    Logistic or linear regression on the columns (numbers standardized, missing ones imputed by the
    training mean, texts one-hot). Without columns: the share of each class, or the mean, over all
    training subjects. It is one constant for all folds: constants that differ by fold would rank
    the folds by how few of their scans are positive, with an AUC below 0.5.

    Parameters
    ----------
    rows: the predictions to match: participant_id, session_id, fold, part.

    Returns
    -------
    probabilities float [N, classes], or values float [N, columns of the target].
    """
    positions = study.positions(rows)
    out = np.full((len(rows), len(study.target.names)), np.nan)
    subjects = study.scans["participant_id"].to_numpy()
    folds = rows["fold"].to_numpy()
    all_training = np.isin(
        subjects, sorted(set().union(*(study.trained(int(f)) for f in np.unique(folds))))
    )
    for fold in np.unique(folds):
        train = np.isin(subjects, sorted(study.trained(int(fold))))
        here = folds == fold
        if not columns:
            out[here] = constant(study, all_training)
            continue
        x = features(study.scans, columns, train)
        known = train & (study.labels >= 0) if study.target.is_classification else train
        one_class = study.target.is_classification and len(np.unique(study.labels[known])) < 2
        if one_class or not x.shape[1]:  # nothing to fit: one class, or one text in the column
            out[here] = constant(study, all_training)
            continue
        out[here] = fit_predict(study, x, train, positions[here])
    return out


def constant(study: Study, train: Array) -> Array:
    """The shares of the classes, or the means of the columns, [K]."""
    labels = study.labels[train]
    if study.target.regression:
        return np.asarray(np.nanmean(labels, axis=0))
    counts = np.bincount(labels[labels >= 0], minlength=len(study.target.names))
    return np.asarray(counts / counts.sum())


def features(scans: pd.DataFrame, columns: Sequence[str], train: Array) -> Array:
    """The columns as numbers, float [N, F], standardized by the training rows."""
    parts = []
    for column in columns:
        cells = [clean(cell) for cell in scans[column]]
        numbers = read_column(cells)
        if numbers is not None:
            parts.append(numbers[:, None])
            continue
        levels = sorted({cell for cell, used in zip(cells, train, strict=True) if used and cell})
        if len(levels) > MAX_LEVELS:
            raise BadInput(f"--baseline {column}", f"{len(levels)} different texts", "use numbers")
        hot = np.array([[float(cell == level) for level in levels[1:]] for cell in cells])
        hot[[not cell for cell in cells]] = np.nan
        parts.append(hot.reshape(len(cells), len(levels[1:])))
    x = np.concatenate(parts, axis=1)
    x[~np.isfinite(x)] = np.nan
    with warnings.catch_warnings():
        # The mean of a column without training values is NaN, and becomes 0 below.
        warnings.simplefilter("ignore", RuntimeWarning)
        mean, spread = np.nanmean(x[train], axis=0), np.nanstd(x[train], axis=0)
    mean = np.nan_to_num(mean)
    x = np.where(np.isnan(x), mean, x) - mean
    return np.asarray(x / np.where(np.nan_to_num(spread) > 1e-12, spread, 1))


def fit_predict(study: Study, x: Array, train: Array, test: Array) -> Array:
    """Fit on the rows ``train`` (bool [N]) and predict the rows ``test`` (int [M]): [M, K]."""
    from sklearn.linear_model import LinearRegression, LogisticRegression

    out = np.full((len(test), len(study.target.names)), np.nan)
    if study.target.regression:
        for k in range(out.shape[1]):
            known = train & np.isfinite(study.labels[:, k])
            model = LinearRegression().fit(x[known], study.labels[known, k].astype(float))
            out[:, k] = model.predict(x[test])
        return out
    known = train & (study.labels >= 0)
    model = LogisticRegression(max_iter=2000).fit(x[known], study.labels[known])
    out[:] = 0
    out[:, model.classes_] = model.predict_proba(x[test])
    return out
