"""What of a classification remains when the classes are alike in age and sex.

A network that is given age and sex, or reads them from a scan, separates classes that differ in
them without having seen any disease. Two corrections are made together, so that either may fail:

- Covariate-adjusted ROC (Janes & Pepe 2009, doi:10.1093/biomet/asp002): the score's regression on
  the covariates among the negative scans is subtracted, so that a scan is compared with negative
  ones of its own age and sex. The score is the logit of the probability; ages enter with a natural
  cubic spline.
- Overlap weights (Li, Morgan & Zaslavsky 2018, doi:10.1080/01621459.2016.1260466): each scan counts
  as much as its covariates are those of the other classes too. In the weighted scans the classes
  have equal ages and sexes, and nothing is extrapolated to ages that a class does not have.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from uncus.data.tables import clean, read_column
from uncus.pipeline.evaluation.baselines import features, too_many_texts
from uncus.pipeline.evaluation.metrics import Array, Values, ratio

MIN_SCANS = 10
"""Scans of a class, in effect, below which nothing is adjusted."""
NOTABLE = 0.03
"""Difference of the adjusted from the plain AUC from which on the adjusted one is the headline."""
UNBALANCED = 0.25
"""Standardized difference of a covariate between weighted classes that no weights could remove
(Stuart 2010, doi:10.1214/09-STS313), such as of sex where one class is all men, the other women."""
MAX_LEVELS = 10  # distinct numbers of a column; more enter with a spline
TIE = 1e-9  # relative difference of scores that is rounding


@dataclass(frozen=True, eq=False)
class Adjustment:
    """The covariates of N scans, and how much each scan counts.

    Attributes
    ----------
    columns: the covariates.
    design: float [N, P]: a constant, numbers with their splines, texts one-hot.
    balance: float [N], overlap weights; 0 where a covariate is unknown.
    """

    columns: tuple[str, ...]
    design: Array
    balance: Array

    @property
    def known(self) -> Array:
        """The scans whose covariates are all known, bool [N]."""
        return np.asarray(self.balance > 0)

    @classmethod
    def of(cls, scans: pd.DataFrame, labels: Array, columns: Sequence[str]) -> "Adjustment | None":
        """Adjust for ``columns`` where they are known for half of the scans; None where in vain.

        That is where none differs between scans, or the classes hardly share any of their values.

        Parameters
        ----------
        scans: one row a scan, cells as strings.
        labels: int [N], classes.
        """
        used, known = [], np.ones(len(scans), dtype=bool)
        for column in columns:
            here, cells = known_cells(scans[column]), scans[column]
            differs = len(set(map(clean, cells)) - {""}) > 1
            if differs and 2 * here.sum() >= len(scans) and not too_many_texts(cells):
                used.append(column)
                known &= here
        if not used or len(np.unique(labels[known])) < 2:
            return None
        x = features(scans, used, known)
        parts = [np.ones((len(scans), 1)), x]
        parts += [s for s in (spline(column, known) for column in x.T) if s is not None]
        design = np.concatenate(parts, axis=1)
        balance = np.zeros(len(scans))
        balance[known] = overlap(design[known], labels[known])
        for k in np.unique(labels):
            some = balance[labels == k]
            if some.sum() ** 2 < MIN_SCANS * (some**2).sum():  # Kish's effective number
                return None
        if differences(design[known], labels[known], balance[known]).max() > UNBALANCED:
            return None
        return cls(tuple(used), design, balance)


def known_cells(cells: "pd.Series[Any]") -> Array:
    """Which cells of a column are known, bool [N]: numbers in a column of numbers."""
    numbers = read_column(cells)
    known = [bool(clean(cell)) for cell in cells] if numbers is None else np.isfinite(numbers)
    return np.asarray(known)


def spline(x: Array, known: Array) -> Array | None:
    """The second term of a natural cubic spline with three knots, [N, 1]; the first is ``x``.

    The knots are at the 10th, 50th and 90th centile (Harrell 2015); beyond them it is linear. None
    where ``x`` has few values.
    """
    knots = np.quantile(x[known], [0.1, 0.5, 0.9])
    if len(np.unique(x[known])) <= MAX_LEVELS or np.diff(knots).min() < TIE:
        return None
    low, middle, high = (np.clip(x - knot, 0, None) ** 3 for knot in knots)
    a, b, c = knots
    bent = low - middle * (c - a) / (c - b) + high * (b - a) / (c - b)
    return np.asarray(bent / (c - a) ** 2)[:, None]


def overlap(design: Array, labels: Array) -> Array:
    """Overlap weights, float [N]: of two classes, the probability of the other one.

    Parameters
    ----------
    design: float [N, P], with the constant.
    labels: int [N].
    """
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=100, max_iter=2000).fit(design[:, 1:], labels)
    shares = np.clip(model.predict_proba(design[:, 1:]), 1e-12, None)
    own = shares[np.arange(len(labels)), np.searchsorted(model.classes_, labels)]
    return np.asarray(1 / (1 / shares).sum(axis=1) / own)


def differences(design: Array, labels: Array, weights: Array) -> Array:
    """Largest difference between the classes' weighted means, in SDs of all scans, [P - 1].

    Parameters
    ----------
    design: float [N, P], with the constant.
    labels: int [N].
    weights: float [N].
    """
    x = design[:, 1:]
    each = [labels == k for k in np.unique(labels)]
    means = [np.average(x[some], axis=0, weights=weights[some]) for some in each]
    return np.asarray(np.ptp(means, axis=0) / np.maximum(x.std(axis=0), TIE))


def adjusted(labels: Array, probabilities: Array, weights: Array, adjustment: Adjustment) -> Values:
    """The adjusted AUC and the weighted balanced accuracy, [D] each.

    Of more than two classes the AUC is the mean over the classes, one against the rest.

    Parameters
    ----------
    labels: int [N].
    probabilities: float [N, K].
    weights: float [D, N].
    """
    known = adjustment.known
    labels, probabilities = labels[known], probabilities[known]
    balanced = weights[:, known] * adjustment.balance[known]
    areas = [
        residual_auc(labels == k, scores, balanced, adjustment.design[known])
        for k, scores in logits(probabilities)
    ]
    hits = balanced * (probabilities.argmax(axis=1) == labels)
    recalls = [
        ratio(hits[:, labels == k].sum(axis=1), balanced[:, labels == k].sum(axis=1))
        for k in range(probabilities.shape[1])
    ]
    return {
        "auc_adjusted": np.mean(areas, axis=0),
        "balanced_accuracy_weighted": np.mean(recalls, axis=0),
    }


def logits(probabilities: Array) -> list[tuple[int, Array]]:
    """Each class with its score [N]; of two classes the second alone."""
    shares = np.clip(probabilities, 1e-7, 1 - 1e-7)
    classes = [1] if shares.shape[1] == 2 else range(shares.shape[1])
    return [(k, np.log(shares[:, k] / (1 - shares[:, k]))) for k in classes]


def fitted(scores: Array, weights: Array, design: Array) -> Array:
    """What a weighted linear regression on ``design`` [N, P] says of ``scores`` [N]: [D, N]."""
    size = design.shape[1]
    products = (design[:, :, None] * design[:, None, :]).reshape(len(design), -1)
    left = (weights @ products).reshape(-1, size, size)
    # Of the many draws, one may lack a level of a text.
    left += 1e-9 * np.eye(size) * np.trace(left, axis1=1, axis2=2)[:, None, None]
    left[np.trace(left, axis1=1, axis2=2) <= 0] = np.eye(size)
    right = weights @ (design * scores[:, None])
    return np.asarray(np.linalg.solve(left, right[:, :, None])[:, :, 0] @ design.T)


def residual_auc(positive: Array, scores: Array, weights: Array, design: Array) -> Array:
    """AUC [D] of what of the scores the negative scans' regression does not explain."""
    residuals = scores - fitted(scores, weights * ~positive, design)
    order = np.argsort(residuals, axis=1)
    here, there = (np.take_along_axis(weights * p, order, axis=1) for p in (positive, ~positive))
    steps = np.diff(np.take_along_axis(residuals, order, axis=1), axis=1)
    below = np.cumsum(there, axis=1) - there
    # Ties count a half: all of a run of equal residuals lie between its first and its last.
    new = np.pad(steps > TIE * max(1.0, np.abs(scores).max(initial=0)), ((0, 0), (1, 0)))
    new[:, 0] = True
    places = np.arange(below.shape[1])
    first = np.maximum.accumulate(np.where(new, places, 0), axis=1)
    ends = np.pad(new[:, 1:], ((0, 0), (0, 1)), constant_values=True)
    last = np.minimum.accumulate(np.where(ends, places, len(places))[:, ::-1], axis=1)[:, ::-1]
    under = np.take_along_axis(below, first, axis=1)
    upto = np.take_along_axis(below + there, last, axis=1)
    return ratio((here * (under + upto) / 2).sum(axis=1), here.sum(axis=1) * there.sum(axis=1))


def explained(probabilities: Array, weights: Array, adjustment: Adjustment) -> Array:
    """The part of the score that the covariates explain [D]: R², adjusted for their number."""
    known = adjustment.known
    design, weights = adjustment.design[known], weights[:, known]
    total = weights.sum(axis=1)
    parts = []
    for _, scores in logits(probabilities[known]):
        centred = scores - scores.mean()
        error = (weights * (centred - fitted(centred, weights, design)) ** 2).sum(axis=1)
        spread = weights @ centred**2 - ratio((weights @ centred) ** 2, total)
        degrees = ratio(total - 1, np.maximum(total - design.shape[1], 1))
        parts.append(1 - ratio(error, spread) * degrees)
    return np.asarray(np.clip(np.mean(parts, axis=0), 0, 1))
