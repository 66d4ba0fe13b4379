"""Calibrated probabilities: a slope and an offset per class, fitted on out-of-fold predictions.

Platt scaling (Platt 1999, "Probabilistic outputs for support vector machines") of the networks'
log odds. For two classes the slope is the inverse of a temperature (Guo et al. 2017, "On
calibration of modern neural networks"), to which the offset adds the share of the classes, which
networks that were trained on balanced classes do not know. For more classes, each against the rest,
it is vector scaling. Platt's targets keep the slope finite where no scan is on the wrong side. The
map never extrapolates: log odds beyond those that it was fitted on are taken as the last of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import log_expit, logit, softmax

from uncus.pipeline.trust.out_of_fold import Array, OutOfFold

MIN_SUBJECTS = 10
"""Subjects of each class that a calibration, or a conformal set, comes from, at least."""
PARTS = ("slope", "offset", "low", "high", "prevalence")
SMALLEST = 1e-12
"""Probabilities below are taken as this."""


@dataclass(frozen=True)
class Calibration:
    """A map from probabilities to calibrated ones: ``p ~ expit(slope * log odds + offset)``.

    Attributes
    ----------
    slope, offset: float [K], one for each class.
    low, high: float [K], the range of the log odds that it was fitted on.
    prevalence: float [K], the share of each class in the predictions that it was fitted on.
    scans: the number of these scans.
    """

    slope: Array
    offset: Array
    low: Array
    high: Array
    prevalence: Array
    scans: int

    @classmethod
    def fit(cls, known: OutOfFold) -> "Calibration":
        """Fit the map to predictions of scans whose class is known.

        Raises
        ------
        ValueError: a class has fewer than MIN_SUBJECTS subjects.
        """
        from sklearn.linear_model import LogisticRegression

        if reason := why_not(known):
            raise ValueError(reason)
        fitted, odds = [], log_odds(known.outputs)
        for k, scores in enumerate(odds.T):
            positive = known.labels == k
            # Platt's targets, as weights of a positive and a negative copy of each scan.
            target = np.where(
                positive, (positive.sum() + 1) / (positive.sum() + 2), 1 / ((~positive).sum() + 2)
            )
            model = LogisticRegression(C=np.inf, tol=1e-8, max_iter=1000).fit(
                np.r_[scores, scores][:, None],
                np.repeat([1, 0], len(scores)),
                sample_weight=np.r_[target, 1 - target],
            )
            slope, offset = float(model.coef_[0, 0]), float(model.intercept_[0])
            # Networks that are worse than chance know nothing of the class but its share.
            fitted.append((slope, offset) if slope > 0 else (0.0, float(logit(target.mean()))))
        slopes, offsets = np.array(fitted).T
        shares = np.bincount(known.labels, minlength=len(known.names)) / len(known.labels)
        scans = len(known.scans.drop_duplicates())
        return cls(slopes, offsets, odds.min(axis=0), odds.max(axis=0), shares, scans)

    def __call__(self, probabilities: Array) -> Array:
        """Calibrate probabilities [..., K]."""
        known = np.clip(log_odds(probabilities), self.low, self.high)
        return np.asarray(softmax(log_expit(self.slope * known + self.offset), axis=-1))

    def shifted(self, calibrated: Array, prevalence: Array) -> Array:
        """Calibrated probabilities [..., K] where the classes have other shares [K].

        Bayes's rule with the same scans in each class (Saerens et al. 2002, "Adjusting the outputs
        of a classifier to new a priori probabilities").
        """
        odds = calibrated * prevalence / self.prevalence
        return np.asarray(odds / odds.sum(axis=-1, keepdims=True))

    def as_dict(self, names: tuple[str, ...]) -> dict[str, Any]:
        """The map for the model card."""
        named = {
            part: dict(zip(names, getattr(self, part).tolist(), strict=True)) for part in PARTS
        }
        return {**named, "scans": self.scans}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any], names: tuple[str, ...]) -> "Calibration":
        """The inverse of :meth:`as_dict`; raises KeyError for other classes."""
        slope, offset, low, high, prevalence = (
            np.array([stored[part][name] for name in names], dtype=float) for part in PARTS
        )
        return cls(slope, offset, low, high, prevalence, int(stored["scans"]))


def log_odds(probabilities: Array) -> Array:
    """``log(p / (1 - p))`` of each class [..., K], from the classes' sum, so that none is lost."""
    known = np.clip(probabilities, SMALLEST, None)
    rest = known.sum(axis=-1, keepdims=True) - known
    if known.shape[-1] == 2:  # without rounding
        rest = known[..., ::-1]
    return np.asarray(np.log(known) - np.log(np.clip(rest, SMALLEST, None)))


def why_not(known: OutOfFold) -> str:
    """Why no calibration can be fitted; "" where it can."""
    few = {n: count for n, count in known.subjects_of_classes().items() if count < MIN_SUBJECTS}
    if not few:
        return ""
    name, count = next(iter(few.items()))
    return (
        f"{count} out-of-fold subject{'s' * (count != 1)} of {name}, and at least {MIN_SUBJECTS} "
        "are needed"
    )
