"""A run's predictions of subjects that the predicting network was not trained on."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from uncus.data.design.targets import Target
from uncus.data.tables import need_column

Array = np.ndarray[Any, Any]
PARTS = 5
"""Parts that the subjects are divided into, to measure on each what was fitted on the others."""
SCAN = ["participant_id", "session_id"]


@dataclass(frozen=True)
class OutOfFold:
    """N predictions, one per scan, fold and seed.

    Attributes
    ----------
    names: K classes, or a regression's columns.
    scans: participant_id and session_id, N rows.
    folds: int [N].
    labels: int [N] classes, or float [N, K] values, NaN where unknown.
    outputs: float [N, K] probabilities or values, as the networks gave them.
    """

    names: tuple[str, ...]
    scans: pd.DataFrame
    folds: Array
    labels: Array
    outputs: Array

    @classmethod
    def of(cls, predictions: pd.DataFrame, target: Target) -> "OutOfFold":
        """The labelled test scans of predictions.tsv; raises BadInput where a column is missing."""
        names, regression = target.names, target.regression
        true = [f"true_{name}" for name in names] if regression else ["true"]
        columns = [f"pred_{name}" if regression else f"p_{name}" for name in names]
        for column in (*SCAN, "part", "fold", *true, *columns):
            need_column(predictions, column, "predictions.tsv")
        table = predictions[predictions["part"] == "test"]
        if not regression:
            table = table[table["true"].isin(names)]
        table = table.reset_index(drop=True)
        if regression:
            labels: Array = table[true].to_numpy(dtype=float)
        else:
            labels = table["true"].map({name: k for k, name in enumerate(names)}).to_numpy(int)
        outputs = table[columns].to_numpy(dtype=float)
        return cls(names, table[SCAN], table["fold"].to_numpy(int), labels, outputs)

    def take(self, rows: Array) -> "OutOfFold":
        """Some of the predictions, by a mask or by their positions."""
        scans = self.scans.iloc[np.arange(len(self.scans))[rows]].reset_index(drop=True)
        return OutOfFold(self.names, scans, self.folds[rows], self.labels[rows], self.outputs[rows])

    def mean(self, outputs: Array) -> "OutOfFold":
        """One row per scan: the mean over folds and seeds of ``outputs`` [N, K]."""
        groups = self.scans.groupby(SCAN, sort=False)
        mean = pd.DataFrame(outputs).groupby(groups.ngroup().to_numpy()).mean().to_numpy()
        one = self.take(~self.scans.duplicated(SCAN).to_numpy())
        return OutOfFold(one.names, one.scans, one.folds, one.labels, mean)

    def subjects_of_classes(self) -> Mapping[str, int]:
        """Class -> how many subjects have a scan of it; column -> how many have a value."""
        known = self.labels[:, None] == np.arange(len(self.names))
        if self.labels.ndim > 1:
            known = np.isfinite(self.labels)
        subjects = self.scans["participant_id"]
        return {name: subjects[known[:, k]].nunique() for k, name in enumerate(self.names)}

    def nested(self) -> Iterator[tuple[Array, Array]]:
        """Positions to fit on and to measure on, which share no subject, part by part.

        The networks of all folds are in each part, as they are behind the answer for a new scan: a
        map that is fitted on some networks does not tell of others. Nothing is yielded where a
        class has one subject only.
        """
        from sklearn.model_selection import GroupKFold, StratifiedGroupKFold

        subjects = self.scans["participant_id"].to_numpy(str)
        if (parts := min(PARTS, *self.subjects_of_classes().values())) < 2:
            return
        values = self.labels.ndim > 1
        divide: Any = GroupKFold if values else StratifiedGroupKFold
        labels = None if values else self.labels
        # An order of its own: subjects are listed fold by fold.
        yield from divide(parts, shuffle=True, random_state=0).split(subjects, labels, subjects)
