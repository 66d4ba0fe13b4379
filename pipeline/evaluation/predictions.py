"""What an evaluation works on: a run's scans and labels, and what was said of those it tested."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from uncus.data.design.splits import Splits
from uncus.data.design.targets import Target, class_indices, numbers
from uncus.data.errors import BadInput
from uncus.pipeline.evaluation.metrics import Array

SCAN = ["participant_id", "session_id"]
KEYS = [*SCAN, "fold", "part"]


@dataclass(frozen=True)
class Study:
    """The scans of a run with their labels.

    Attributes
    ----------
    scans: one row a scan: participant_id, session_id, fields as strings.
    target: what is predicted, its classes named.
    labels: int [N] classes, -1 where there is none; or float [N, K], NaN where missing.
    splits: who trains and who tests.
    """

    scans: pd.DataFrame
    target: Target
    labels: Array
    splits: Splits

    @classmethod
    def of(cls, scans: pd.DataFrame, target: Target, splits: Splits) -> "Study":
        """Label the scans; the index is made to count from 0."""
        scans = scans.reset_index(drop=True)
        if scans.duplicated(SCAN).any():
            raise BadInput("scans.tsv", "a scan is there twice", "train the run again")
        target = target.resolve(scans)
        labels = numbers(scans, target) if target.regression else class_indices(scans, target)
        return cls(scans, target, labels, splits)

    def places(self, rows: pd.DataFrame) -> Array:
        """int [M]: the place in ``scans`` of each row (participant_id, session_id).

        Raises
        ------
        BadInput: a row that is no scan of the run.
        """
        wanted = pd.MultiIndex.from_frame(rows[SCAN].astype(str))
        places = pd.MultiIndex.from_frame(self.scans[SCAN].astype(str)).get_indexer(wanted)
        if (places < 0).any():
            stray = "_".join(map(str, wanted[int(np.argmin(places))]))
            raise BadInput(
                "predictions.tsv", f"{stray.strip('_')} is not in scans.tsv", "train the run again"
            )
        return np.asarray(places)

    def trained(self, fold: int) -> frozenset[str]:
        """Whom the fold's networks saw: training and validation subjects."""
        return self.splits.subjects(fold, "train") | self.splits.subjects(fold, "validation")


@dataclass(frozen=True)
class Answers:
    """What the model and the baselines said of the same rows.

    Attributes
    ----------
    rows: participant_id, session_id, fold, part (test or holdout).
    labels: int [N] or float [N, K], as in ``Study``.
    said: name ("model", or a baseline's) -> probabilities or values float [N, K].
    """

    rows: pd.DataFrame
    labels: Array
    said: Mapping[str, Array]

    @property
    def subjects(self) -> Array:
        """[N], whose scan each row is."""
        return self.rows["participant_id"].to_numpy(dtype=str)

    @property
    def labelled(self) -> Array:
        """bool [N]: which rows have a label to measure by."""
        if self.labels.ndim == 1:
            return np.asarray(self.labels >= 0)
        return np.asarray(np.isfinite(self.labels).any(axis=1))

    def take(self, mask: Array) -> "Answers":
        """The rows where ``mask`` (bool [N]) is true."""
        said = {name: values[mask] for name, values in self.said.items()}
        return Answers(self.rows[mask].reset_index(drop=True), self.labels[mask], said)

    def pooled(self, part: str) -> "Answers":
        """One row a scan of ``part``: the mean over the folds that tested it."""
        some = self.take((self.rows["part"] == part).to_numpy())
        groups = some.rows.groupby(SCAN, sort=False).ngroup().to_numpy()
        first = np.unique(groups, return_index=True)[1]
        counts = np.bincount(groups, minlength=len(first))[:, None] if len(groups) else 1
        said = {}
        for name, values in some.said.items():
            total = np.zeros((len(first), values.shape[1]))
            np.add.at(total, groups, values)
            said[name] = total / counts
        return Answers(some.rows.iloc[first].reset_index(drop=True), some.labels[first], said)


def model_answers(study: Study, predictions: pd.DataFrame) -> Answers:
    """The run's predictions, those of several seeds averaged, checked against splits and labels.

    Raises
    ------
    BadInput: columns of another target, numbers that are not finite, a scan predicted twice or by
        a network that was trained on its subject, other labels than those of scans.tsv.
    """
    names, regression = study.target.names, study.target.regression
    columns = [f"pred_{name}" if regression else f"p_{name}" for name in names]
    absent = [name for name in [*KEYS, *columns] if name not in predictions]
    if absent:
        raise BadInput("predictions.tsv", f"no column {absent[0]!r}", "train the run again")
    values = predictions[columns].to_numpy(dtype=float)
    if not np.isfinite(values).all() or not len(values):
        raise BadInput("predictions.tsv", "empty, or holds no finite numbers", "train again")
    if not regression and not np.allclose(values.sum(axis=1), 1, atol=1e-3):
        raise BadInput("predictions.tsv", "probabilities do not sum to 1", "train the run again")
    if predictions.duplicated([*KEYS, *([] if "seed" not in predictions else ["seed"])]).any():
        raise BadInput("predictions.tsv", "a scan is there twice", "train the run again")
    mean = predictions.groupby(KEYS, sort=False)[columns].mean()
    rows = mean.index.to_frame(index=False).astype({"fold": int})
    for fold, some in rows.groupby("fold"):
        for part in ("test", "holdout"):
            named = set(some.loc[some["part"] == part, "participant_id"])
            stray = sorted(named - study.splits.subjects(int(str(fold)), part))
            if stray:
                raise BadInput(
                    "predictions.tsv",
                    f"{stray[0]} is no {part} subject of fold {fold} in splits.tsv",
                    "train the run again",
                )
    labels = study.labels[study.places(rows)]
    check_labels(study, predictions)
    return Answers(rows, labels, {"model": mean.to_numpy(dtype=float)})


def check_labels(study: Study, predictions: pd.DataFrame) -> None:
    """Refuse predictions that were made for other labels than those of scans.tsv.

    Raises
    ------
    BadInput: a label differs.
    """
    labels = study.labels[study.places(predictions)]
    names = study.target.names
    if study.target.regression:
        columns = [f"true_{name}" for name in names if f"true_{name}" in predictions]
        if len(columns) < len(names):
            return
        true = predictions[columns].to_numpy(dtype=float)
        same = np.isclose(true, labels, rtol=1e-4, atol=1e-6, equal_nan=True).all(axis=1)
    elif "true" in predictions:
        known = {name: place for place, name in enumerate(names)} | {"": -1}
        same = np.array([known.get(str(cell), -2) for cell in predictions["true"]]) == labels
    else:
        return
    if not same.all():
        row = int(np.argmin(same))
        raise BadInput(
            "predictions.tsv",
            f"{predictions['participant_id'].iloc[row]} has another label than in scans.tsv",
            "train the run again",
        )
