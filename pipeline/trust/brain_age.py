"""Brain age: a predicted age, its interval, and the gap to the age, corrected for its bias.

Predicted ages are drawn towards the mean: too high for the young, too low for the old. Predicted
age minus age therefore goes with age itself. So the predicted ages of scans that the networks were
not trained on are regressed on the ages, predicted = intercept + slope x age, and the gap is
measured from that line (de Lange & Cole 2020, doi:10.1016/j.nicl.2020.102229). The interval is
conformal, from the absolute errors of the same scans (``pipeline.trust.conformal``). Beyond the
ages of the training subjects the regression only extrapolates: a predicted age ends there.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from uncus.pipeline.trust.conformal import ERROR_LEVEL, Conformal
from uncus.pipeline.trust.out_of_fold import OutOfFold

COLUMN = "age"
LEVEL = 1 - ERROR_LEVEL
"""Share of people like the run's whose age is in the interval."""


@dataclass(frozen=True)
class BrainAge:
    """What the key "brain_age" of a model card has.

    Attributes
    ----------
    slope, intercept: of the predicted age (years) on the age.
    error: half-width of the interval (years).
    scans: the number of scans that they are from.
    youngest, oldest: ages of their subjects (years).
    """

    slope: float
    intercept: float
    error: float
    scans: int
    youngest: float = -math.inf
    oldest: float = math.inf

    @classmethod
    def fit(cls, known: OutOfFold) -> "BrainAge | None":
        """Fit it to out-of-fold predictions.

        None for a run that predicts no age, and where too few scans, or scans of one age only, are
        known.
        """
        if known.labels.ndim == 1 or COLUMN not in known.names:
            return None
        scans = known.mean(known.outputs)
        error = Conformal.fit(scans).at(ERROR_LEVEL)[COLUMN]
        column = known.names.index(COLUMN)
        age, predicted = scans.labels[:, column], scans.outputs[:, column]
        age, predicted = age[np.isfinite(age)], predicted[np.isfinite(age)]
        if math.isinf(error) or not np.ptp(age) > 0:
            return None
        slope, intercept = np.polyfit(age, predicted, 1)
        ends = float(age.min()), float(age.max())
        return cls(float(slope), float(intercept), error, len(age), *ends)

    @classmethod
    def of_card(cls, card: Mapping[str, Any]) -> "BrainAge | None":
        """That of a model card; None where it has none."""
        stored = card.get("brain_age")
        names = [name for name in cls.__dataclass_fields__ if name in (stored or {})]
        return cls(**{name: stored[name] for name in names}) if stored else None

    def as_card(self) -> dict[str, Any]:
        """The key "brain_age" of a model card."""
        return asdict(self)

    def gap(self, predicted: float, age: float) -> float:
        """Years by which a predicted age is above the one expected at an age."""
        return predicted - (self.intercept + self.slope * age)

    def answer(self, predicted: float, age: float | None) -> dict[str, Any]:
        """The key "brain_age" of prediction.json, in years; "gap" only where the age is known.

        "beyond" ("older" or "younger") where the predicted age is beyond those of all training
        subjects: the value is then theirs.
        """
        raw, predicted = predicted, min(max(predicted, self.youngest), self.oldest)
        found = {"value": predicted, "low": predicted - self.error, "high": predicted + self.error}
        if age is not None:
            found["gap"] = self.gap(predicted, age)
        rounded: dict[str, Any] = {name: round(years, 2) for name, years in found.items()}
        beyond = {"beyond": "older" if raw > predicted else "younger"} if raw != predicted else {}
        return rounded | {"level": LEVEL} | beyond
