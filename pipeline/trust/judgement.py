"""What can be said of one scan: calibrated probabilities, the classes that fit, or none."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from uncus.pipeline.trust.out_of_fold import Array

CANNOT_TELL = "cannot tell"


@dataclass(frozen=True)
class Judgement:
    """The networks' outputs for one scan, and how far they can be trusted.

    Attributes
    ----------
    outputs: float [M, K], each network's own probabilities or values, not calibrated.
    members: float [M, K], calibrated where the run has a calibration.
    error_level: the share of a class's scans whose set may lack that class.
    prevalence: class -> its share where the scan comes from, which the probabilities are for; empty
        where they are not calibrated.
    uncalibrated: class -> the mean of the networks' own probabilities, where these are calibrated.
    reason: why they are not calibrated.
    fits: the conformal set, the classes that fit; None where the run has no sets.
    intervals: a regression's column -> its conformal interval, None where too few scans are known.
    abstains: why no class is named; "" where one is.
    """

    outputs: Array = field(repr=False)
    members: Array = field(repr=False)
    error_level: float
    prevalence: Mapping[str, float] = field(default_factory=dict)
    uncalibrated: Mapping[str, float] = field(default_factory=dict)
    reason: str = ""
    fits: tuple[str, ...] | None = None
    intervals: Mapping[str, tuple[float, float] | None] = field(default_factory=dict)
    abstains: str = ""

    def as_dict(self) -> dict[str, Any]:
        """The keys of prediction.json."""
        answer: dict[str, Any] = {"calibrated": bool(self.prevalence)}
        if self.prevalence:
            answer["prevalence"] = dict(self.prevalence)
            answer["uncalibrated"] = dict(self.uncalibrated)
        if self.reason:
            answer["not_calibrated"] = self.reason
        if self.fits is not None:
            answer |= {"set": list(self.fits), "error_level": self.error_level}
        if self.intervals:
            ends = {name: ends and list(ends) for name, ends in self.intervals.items()}
            answer |= {"intervals": ends, "error_level": self.error_level}
        return answer


def why_none(fits: tuple[str, ...], scans: Mapping[str, int], level: float) -> str:
    """Why a conformal set names no class; "" for a set of one.

    Parameters
    ----------
    scans: class -> the scans known of it, for those that are too few to exclude it from any set.
    """
    at = f"at an error level of {level:.0%}"
    if len(fits) == 1:
        return ""
    if not fits:
        return f"no class fits {at}: the scan is unlike those of every class"
    both = " and ".join([", ".join(fits[:-1]), fits[-1]])
    few = [f"{count} scans of {name}" for name, count in scans.items() if name in fits]
    because = f", and the {' and '.join(few)} are too few to exclude it" if few else ""
    return f"{both} {'both' if len(fits) == 2 else 'all'} fit {at}{because}"


def contrary(named: str, names: tuple[str, ...], members: Array) -> str:
    """Why the one class that fits is not named: where it is rare, another is more probable.

    Parameters
    ----------
    members: float [M, K], the networks' probabilities of the classes ``names`` there.
    """
    shares = members.mean(axis=0)
    likely = names[int(shares.argmax())]
    if likely == named:
        return ""
    return (
        f"only {named} fits, but at the given prevalence {likely} is more probable "
        f"({shares.max():.2f})"
    )
