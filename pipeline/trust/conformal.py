"""Conformal sets: the classes that fit a scan, with a stated share of errors in each class.

A class fits unless the networks give it less than they gave all but a share ``error level`` of that
class's own scans, out of fold (label-conditional conformal prediction: Vovk, Gammerman & Shafer
2005, "Algorithmic learning in a random world", section 4.5). Whatever the networks are worth, at
most that share of a class's scans lacks it, for scans like those of the run's cohort. A column of
a regression gets an interval likewise, from the absolute errors.

The networks of all folds answer for a new scan, each scored by the scans of its own fold; their
mean errs less than each of them, so that the sets are rather too large than too small
(cross-conformal prediction, Vovk 2015).
"""

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from uncus.pipeline.trust.out_of_fold import Array, OutOfFold

LEVELS = tuple(k / 100 for k in range(1, 51))
"""Error levels that thresholds are kept for."""
ERROR_LEVEL = 0.1


@dataclass(frozen=True)
class Conformal:
    """Thresholds of the scores, in place of the scores themselves.

    Attributes
    ----------
    thresholds: class or column -> the highest score that fits at each of LEVELS; infinite where
        too few scans are known to exclude any.
    scans: class or column -> the number of scans that they come from.
    """

    thresholds: Mapping[str, tuple[float, ...]]
    scans: Mapping[str, int]

    @classmethod
    def fit(cls, known: OutOfFold) -> "Conformal":
        """The thresholds from calibrated probabilities, or a regression's values, one per scan."""
        scores = {}
        for k, name in enumerate(known.names):
            if known.labels.ndim > 1:
                errors = np.abs(known.labels[:, k] - known.outputs[:, k])
                scores[name] = errors[np.isfinite(errors)]
            else:
                scores[name] = 1 - known.outputs[known.labels == k, k]
        return cls(
            {name: thresholds(some) for name, some in scores.items()},
            {name: len(some) for name, some in scores.items()},
        )

    def at(self, level: float) -> Mapping[str, float]:
        """The threshold of each class or column at an error level; between two, at the lower."""
        index = level_index(level)
        return {name: values[index] for name, values in self.thresholds.items()}

    def fitting(self, probabilities: Mapping[str, float], level: float) -> tuple[str, ...]:
        """The classes that fit calibrated probabilities at an error level."""
        most = self.at(level)
        return tuple(name for name, p in probabilities.items() if 1 - p <= most[name])

    def intervals(
        self, values: Mapping[str, float], level: float
    ) -> dict[str, tuple[float, float] | None]:
        """The interval around each column's value; None where too few scans are known."""
        widths = self.at(level)
        return {
            name: None if math.isinf(widths[name]) else (value - widths[name], value + widths[name])
            for name, value in values.items()
        }

    def too_few(self, level: float) -> dict[str, int]:
        """The scans of each class that is in every set, since too few of its scans are known."""
        return {name: self.scans[name] for name, most in self.at(level).items() if math.isinf(most)}

    def as_dict(self) -> dict[str, Any]:
        """The thresholds for the model card, where null is infinite."""
        finite = {
            name: [value if math.isfinite(value) else None for value in values]
            for name, values in self.thresholds.items()
        }
        return {"levels": list(LEVELS), "thresholds": finite, "scans": dict(self.scans)}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any], names: tuple[str, ...]) -> "Conformal":
        """The inverse of :meth:`as_dict`; raises KeyError for other classes."""
        known = {
            name: tuple(math.inf if one is None else one for one in stored["thresholds"][name])
            for name in names
        }
        return cls(known, {name: int(stored["scans"][name]) for name in names})


def thresholds(scores: Array) -> tuple[float, ...]:
    """The highest score that fits at each of LEVELS: its p-value in ``scores`` [N] exceeds it."""
    with warnings.catch_warnings():  # importing it changes the filters
        from crepes import ConformalClassifier
    if not len(scores):
        return (math.inf,) * len(LEVELS)
    p_values = ConformalClassifier().fit(scores).predict_p(scores, smoothing=False)
    beyond = 1 / (len(scores) + 1)  # the p-value of any higher score
    return tuple(
        math.inf if beyond > level else float(scores[p_values > level].max()) for level in LEVELS
    )


def level_index(level: float) -> int:
    """The position in LEVELS of the highest level up to ``level``."""
    return int(np.searchsorted(LEVELS, level + 1e-9, side="right")) - 1
