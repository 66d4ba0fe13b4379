"""Calibration and conformal sets measured on subjects that they were not fitted on."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from uncus.pipeline.trust.conformal import ERROR_LEVEL
from uncus.pipeline.trust.out_of_fold import Array, OutOfFold
from uncus.pipeline.trust.reliability import Reliability


@dataclass(frozen=True)
class Nested:
    """N scans, each judged by what was fitted on other subjects.

    Attributes
    ----------
    known: one row per scan; its outputs are not calibrated.
    calibrated: float [N, K], the calibrated probabilities, or a regression's values.
    fits: bool [N, K], whether a class is in the scan's set, or a true value in its interval.
    error_level: of the sets and intervals.
    """

    known: OutOfFold
    calibrated: Array
    fits: Array
    error_level: float

    @classmethod
    def of(cls, known: OutOfFold, error_level: float = ERROR_LEVEL) -> "Nested":
        """Fit to all subjects but a part, measure that part, one after another.

        Raises
        ------
        ValueError: too few subjects.
        """
        if reason := Reliability.fit(known).reason:
            raise ValueError(reason)
        found = []
        for fitted_on, measured_on in known.nested():
            fitted = Reliability.fit(known.take(fitted_on))
            if fitted.reason:
                raise ValueError(f"without those measured: {fitted.reason}")
            assert fitted.conformal
            some = known.take(measured_on)
            after = some.mean(fitted.calibrated(some.outputs))
            limits = np.array(list(fitted.conformal.at(error_level).values()))
            scores = 1 - after.outputs
            if known.labels.ndim > 1:
                scores = np.abs(after.labels - after.outputs)
            found.append((some.mean(some.outputs), after.outputs, scores <= limits))
        if not found:
            raise ValueError("the values of one subject only are known")
        parts, calibrated, fits = zip(*found, strict=True)
        return cls(joined(parts), np.concatenate(calibrated), np.concatenate(fits), error_level)


def joined(parts: tuple[OutOfFold, ...]) -> OutOfFold:
    """Several parts as one."""
    return OutOfFold(
        parts[0].names,
        pd.concat([part.scans for part in parts], ignore_index=True),
        *(
            np.concatenate([getattr(part, name) for part in parts])
            for name in ("folds", "labels", "outputs")
        ),
    )
