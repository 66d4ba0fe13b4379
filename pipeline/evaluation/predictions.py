"""The inputs of an evaluation: a run's scans with their labels, and the outputs for test scans."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from uncus.data.design.splits import Splits
from uncus.data.design.targets import Target, class_indices, target_values
from uncus.data.errors import BadInput
from uncus.data.tables import need_column
from uncus.pipeline.evaluation.metrics import Array

SCAN = ["participant_id", "session_id"]
KEYS = [*SCAN, "fold", "part"]


@dataclass(frozen=True)
class Study:
    """The scans of a run with their labels.

    Attributes
    ----------
    scans: one row per scan: participant_id, session_id, fields as strings.
    target: the target, with its classes resolved.
    labels: int [N] classes, -1 for none; or float [N, K], NaN for missing.
    splits: the subjects of each part of each fold.
    covariates: columns that the networks are given besides the scan.
    """

    scans: pd.DataFrame
    target: Target
    labels: Array
    splits: Splits
    covariates: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        scans: pd.DataFrame,
        target: Target,
        splits: Splits,
        covariates: Sequence[str] = (),
    ) -> "Study":
        """Label the scans; their index is reset."""
        scans = scans.reset_index(drop=True)
        for column in SCAN:
            need_column(scans, column, "scans.tsv")
        if scans.duplicated(SCAN).any():
            raise BadInput("scans.tsv", "lists a scan twice", "train the run again")
        target = target.resolve(scans)
        labels = target_values(scans, target) if target.regression else class_indices(scans, target)
        return cls(scans, target, labels, splits, tuple(covariates))

    def positions(self, rows: pd.DataFrame) -> Array:
        """The position in ``scans``, int [M], of each row (participant_id, session_id).

        Raises
        ------
        BadInput: a row is not a scan of the run.
        """
        wanted = pd.MultiIndex.from_frame(rows[SCAN].astype(str))
        positions = pd.MultiIndex.from_frame(self.scans[SCAN].astype(str)).get_indexer(wanted)
        if (positions < 0).any():
            stray = "_".join(map(str, wanted[int(np.argmin(positions))]))
            raise BadInput(
                "predictions.tsv", f"{stray.strip('_')} is not in scans.tsv", "train the run again"
            )
        return np.asarray(positions)

    def trained(self, fold: int) -> frozenset[str]:
        """Training and validation subjects of the fold."""
        return self.splits.subjects(fold, "train") | self.splits.subjects(fold, "validation")


@dataclass(frozen=True)
class Predicted:
    """The predictions of a run for the scans of a study.

    Attributes
    ----------
    predictions: as in predictions.tsv.
    facts: about another cohort than the run's, for the report.
    """

    study: Study
    predictions: pd.DataFrame
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Outputs:
    """Outputs of the model and the baselines for the same rows.

    Attributes
    ----------
    rows: participant_id, session_id, fold, part (test or holdout).
    labels: int [N] or float [N, K], as in ``Study``.
    values: name ("model", or a baseline's) -> probabilities or values float [N, K].
    """

    rows: pd.DataFrame
    labels: Array
    values: Mapping[str, Array]

    @property
    def subjects(self) -> Array:
        """The subject of each row, [N]."""
        return self.rows["participant_id"].to_numpy(dtype=str)

    @property
    def labelled(self) -> Array:
        """Which rows have a label, bool [N]."""
        if self.labels.ndim == 1:
            return np.asarray(self.labels >= 0)
        return np.asarray(np.isfinite(self.labels).any(axis=1))

    def take(self, mask: Array) -> "Outputs":
        """The rows where ``mask`` (bool [N]) is true."""
        values = {name: array[mask] for name, array in self.values.items()}
        return Outputs(self.rows[mask].reset_index(drop=True), self.labels[mask], values)

    def pooled(self, part: str) -> "Outputs":
        """One row per scan of ``part``: the mean over the folds that tested it."""
        some = self.take((self.rows["part"] == part).to_numpy())
        groups = some.rows.groupby(SCAN, sort=False).ngroup().to_numpy()
        first = np.unique(groups, return_index=True)[1]
        counts = np.bincount(groups, minlength=len(first))[:, None] if len(groups) else 1
        values = {}
        for name, array in some.values.items():
            total = np.zeros((len(first), array.shape[1]))
            np.add.at(total, groups, array)
            values[name] = total / counts
        return Outputs(some.rows.iloc[first].reset_index(drop=True), some.labels[first], values)


def model_outputs(
    study: Study, predictions: pd.DataFrame, path: str | Path = "predictions.tsv"
) -> Outputs:
    """The run's predictions, averaged over seeds and checked against splits and labels.

    ``path`` is theirs, for errors.

    Raises
    ------
    BadInput: columns of another target, values that are not finite, a scan predicted twice or by
        a network that was trained on its subject, labels that differ from scans.tsv.
    """
    names, regression = study.target.names, study.target.regression
    columns = [f"pred_{name}" if regression else f"p_{name}" for name in names]
    absent = [name for name in [*KEYS, *columns] if name not in predictions]
    if absent:
        raise BadInput(path, f"has no column {absent[0]!r}", "train the run again")
    known = {"fold": range(study.splits.folds), "part": ("test", "holdout")}
    for name, allowed in known.items():
        if unknown := set(predictions[name]) - {*allowed}:
            cause = f"{name} {min(map(str, unknown))} is not in splits.tsv"
            raise BadInput(path, cause, "train the run again")
    values = predictions[columns].to_numpy(dtype=float)
    if not np.isfinite(values).all() or not len(values):
        raise BadInput(path, "is empty or not finite", "train the run again")
    if not regression and ((values < 0).any() or not np.allclose(values.sum(axis=1), 1, atol=1e-3)):
        cause = "probabilities do not sum to 1, or are below 0"
        raise BadInput(path, cause, "train the run again")
    if predictions.duplicated([*KEYS, *([] if "seed" not in predictions else ["seed"])]).any():
        raise BadInput(path, "lists a scan twice", "train the run again")
    mean = predictions.groupby(KEYS, sort=False)[columns].mean()
    rows = mean.index.to_frame(index=False).astype({"fold": int})
    for fold, some in rows.groupby("fold"):
        for part in ("test", "holdout"):
            named = set(some.loc[some["part"] == part, "participant_id"])
            stray = sorted(named - study.splits.subjects(int(str(fold)), part))
            if stray:
                raise BadInput(
                    path,
                    f"{stray[0]} is not a {part} subject of fold {fold} in splits.tsv",
                    "train the run again",
                )
    labels = study.labels[study.positions(rows)]
    check_labels(study, predictions)
    return Outputs(rows, labels, {"model": mean.to_numpy(dtype=float)})


def check_labels(study: Study, predictions: pd.DataFrame) -> None:
    """Check that the predictions were made for the labels of scans.tsv.

    Raises
    ------
    BadInput: a label differs.
    """
    labels = study.labels[study.positions(predictions)]
    names = study.target.names
    if study.target.regression:
        columns = [f"true_{name}" for name in names if f"true_{name}" in predictions]
        if len(columns) < len(names):
            return
        true = predictions[columns].to_numpy(dtype=float)
        same = np.isclose(true, labels, rtol=1e-4, atol=1e-6, equal_nan=True).all(axis=1)
    elif "true" in predictions:
        known = {name: k for k, name in enumerate(names)} | {"": -1}
        same = np.array([known.get(str(cell), -2) for cell in predictions["true"]]) == labels
    else:
        return
    if not same.all():
        row = int(np.argmin(same))
        raise BadInput(
            "predictions.tsv",
            f"{predictions['participant_id'].iloc[row]} has a label that differs from scans.tsv",
            "train the run again",
        )
