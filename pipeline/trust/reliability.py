"""What a run knows of its outputs: their calibration and their conformal sets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from uncus.data.design.targets import Target
from uncus.data.errors import BadInput
from uncus.pipeline.trust.calibration import Calibration, why_not
from uncus.pipeline.trust.conformal import ERROR_LEVEL, LEVELS, Conformal
from uncus.pipeline.trust.judgement import Judgement, contrary, why_none
from uncus.pipeline.trust.out_of_fold import Array, OutOfFold

EARLIER = "an earlier version made the run"


@dataclass(frozen=True)
class Setting:
    """Where and how strictly a scan is judged.

    Parameters
    ----------
    prevalence: class -> its share where the scan comes from; classes that are left out share the
        rest as they did among the run's subjects. Empty for the shares among these.
    error_level: the share of a class's scans whose set may lack that class.

    Raises
    ------
    BadInput: shares that are not between 0 and 1 or have no sum of 1, or such an error level.
    """

    prevalence: Mapping[str, float] = field(default_factory=dict)
    error_level: float = ERROR_LEVEL

    def __post_init__(self) -> None:
        for name, share in self.prevalence.items():
            if not 0 < share < 1:
                cause = "must be above 0 and below 1"
                raise BadInput(f"--prevalence {name}={share:g}", cause, FORM)
        low, high = LEVELS[0], LEVELS[-1]
        if not low <= self.error_level <= high:
            cause = f"must be from {low:g} to {high:g}"
            raise BadInput(f"--error-level {self.error_level:g}", cause, "0.1 is the default")

    @classmethod
    def parse(cls, prevalence: Sequence[str], error_level: float = ERROR_LEVEL) -> "Setting":
        """Parse ``["AD=0.1"]``; raises BadInput for anything that is not NAME=SHARE."""
        shares: dict[str, float] = {}
        for text in prevalence:
            name, _, value = text.rpartition("=")
            try:
                share = float(value)
            except ValueError:
                share = np.nan
            if not name or name in shares or np.isnan(share):
                raise BadInput("--prevalence", f"{text!r}", FORM)
            shares[name] = share
        return cls(shares, error_level)


FORM = "write NAME=SHARE, each class once: AD=0.1"
DEFAULT = Setting()


@dataclass(frozen=True)
class Reliability:
    """The calibration and the conformal sets of a run.

    Attributes
    ----------
    names: classes, or a regression's columns.
    calibration: None where the run has none, ``reason`` says why.
    conformal: None likewise.
    """

    names: tuple[str, ...]
    regression: bool
    calibration: Calibration | None
    conformal: Conformal | None
    reason: str = ""

    @classmethod
    def fit(cls, known: OutOfFold) -> "Reliability":
        """Fit both to out-of-fold predictions."""
        if known.labels.ndim > 1:
            return cls(known.names, True, None, Conformal.fit(known.mean(known.outputs)))
        if reason := why_not(known):
            return cls(known.names, False, None, None, reason)
        calibration = Calibration.fit(known)
        conformal = Conformal.fit(known.mean(calibration(known.outputs)))
        return cls(known.names, False, calibration, conformal)

    def calibrated(self, outputs: Array) -> Array:
        """Probabilities [..., K] calibrated, where the run has a calibration."""
        return self.calibration(outputs) if self.calibration else outputs

    def shares(self, setting: Setting) -> Array | None:
        """The share of each class [K] where a scan comes from; None where it is not known.

        Raises
        ------
        BadInput: other classes than the run's, shares without a sum of 1, or no calibration.
        """
        given = setting.prevalence
        if not self.calibration:
            if given:
                cause = "the run predicts no classes"
                if not self.regression:
                    cause = f"the run is not calibrated: {self.reason}"
                raise BadInput("--prevalence", cause, "leave it out")
            return None
        for name in given.keys() - set(self.names):
            raise BadInput("--prevalence", f"{name!r}", f"the classes are {', '.join(self.names)}")
        shares = np.array([given.get(name, np.nan) for name in self.names])
        left, rest = np.isnan(shares), 1 - np.nansum(shares)
        if rest < -1e-6 or (left.any() and rest < 1e-6) or (not left.any() and rest > 1e-6):
            cause = f"the shares' sum is {1 - rest:g}"
            remedy = "give all but one class, with a sum below 1"
            raise BadInput("--prevalence", cause, remedy)
        known = self.calibration.prevalence
        shares[left] = rest * known[left] / known[left].sum()
        return np.asarray(shares / shares.sum())

    def judge(self, outputs: Array, setting: Setting) -> Judgement:
        """What the networks' outputs [M, K] for one scan mean; raises BadInput as :meth:`shares`.

        The set does not depend on the prevalence: it is one of errors within each class.
        """
        prevalence, level = self.shares(setting), setting.error_level
        members = self.calibrated(outputs)
        mean = dict(zip(self.names, members.mean(0).tolist(), strict=True))
        if self.regression:
            intervals = self.conformal.intervals(mean, level) if self.conformal else {}
            return Judgement(outputs, members, level, intervals=intervals)
        if prevalence is None or self.calibration is None or self.conformal is None:
            return Judgement(outputs, members, level, reason=self.reason)
        fits = self.conformal.fitting(mean, level)
        shifted = self.calibration.shifted(members, prevalence)
        return Judgement(
            outputs=outputs,
            members=shifted,
            error_level=level,
            prevalence=dict(zip(self.names, prevalence.tolist(), strict=True)),
            uncalibrated=dict(zip(self.names, outputs.mean(0).tolist(), strict=True)),
            fits=fits,
            abstains=why_none(fits, self.conformal.too_few(level), level)
            or (contrary(fits[0], self.names, shifted) if setting.prevalence else ""),
        )

    def as_card(self) -> dict[str, Any]:
        """The keys of the model card."""
        card: dict[str, Any] = {}
        if self.calibration:
            card["calibration"] = self.calibration.as_dict(self.names)
        if self.reason:
            card["not_calibrated"] = self.reason
        if self.conformal:
            card["conformal"] = self.conformal.as_dict()
        return card

    @classmethod
    def from_card(cls, card: Mapping[str, Any], target: Target) -> "Reliability":
        """The inverse of :meth:`as_card`; raises KeyError for other classes than the target's."""
        names = target.names
        calibration = conformal = None
        if (stored := card.get("calibration")) and not target.regression:
            calibration = Calibration.from_dict(stored, names)
        if stored := card.get("conformal"):
            conformal = Conformal.from_dict(stored, names)
        known = conformal if target.regression else calibration
        reason = "" if known else str(card.get("not_calibrated", EARLIER))
        return cls(names, target.regression, calibration, conformal, reason)
