"""What is said of an answer, the content of prediction.json: the class named, or why none is."""

from collections.abc import Mapping
from typing import Any

from uncus.pipeline.rendering.numbers import fixed, number
from uncus.pipeline.trust.judgement import CANNOT_TELL

Answer = Mapping[str, Any]


def is_foreign(answer: Answer) -> bool:
    """Whether a scan is of another domain than the run's."""
    return answer.get("domain", {}).get("inside") is False


def domain_line(answer: Answer) -> str:
    """Whether a scan is of the run's domain, as a sentence."""
    domain = answer.get("domain", {})
    reasons = "; ".join(domain.get("reasons", ()))
    if domain.get("inside"):
        return "Like the scans that the run was trained on."
    if is_foreign(answer):
        return f"Another domain than the run's, so no answer is given: {reasons}."
    return f"Not checked whether the scan is like those that the run was trained on: {reasons}."


def named(answer: Answer) -> str:
    """The answer in words: ``AD-like``, or ``cannot tell``."""
    return f"{answer['label']}-like" if answer["label"] else CANNOT_TELL


def why(answer: Answer) -> str:
    """Why a class is named, or none."""
    if reason := answer.get("abstains"):
        return str(reason)
    label, level = answer["label"], answer["error_level"]
    others = " and ".join(name for name in answer["probabilities"] if name != label)
    return (
        f"at an error level of {level:.0%} this scan fits the run's scans labelled {label}, and "
        f"not those labelled {others} (probability {fixed(answer['probabilities'][label], 2)})"
    )


def calibrated_for(answer: Answer) -> str:
    """Whom calibrated probabilities are for."""
    shares = ", ".join(f"{share:.0%} {name}" for name, share in answer["prevalence"].items())
    return f"the probabilities are for scans like the run's, of which {shares}"


def because(answer: Answer) -> str:
    """Why probabilities are not calibrated, in brackets, if it is known."""
    reason = answer.get("not_calibrated", "")
    return f" ({reason})" if reason else ""


def intervals_note(answer: Answer) -> str:
    """What the intervals of a regression are, or that there is none."""
    intervals = answer.get("intervals", {})
    known = [
        f"{name} {number(ends[0])} to {number(ends[1])}" for name, ends in intervals.items() if ends
    ]
    if not known:
        return "No interval: the errors of too few scans are known."
    share = f"{1 - answer['error_level']:.0%}"
    return f"Intervals that hold the value of {share} of scans like the run's: {', '.join(known)}."


def trust_lines(answer: Answer) -> list[str]:
    """The lines of the terminal: the answer with its reason, the domain, and the calibration."""
    domain = domain_line(answer)
    if is_foreign(answer):
        return [domain]
    if "probabilities" not in answer:
        return [intervals_note(answer), domain]
    lines = [f"{named(answer)}: {why(answer)}"] if "set" in answer or "abstains" in answer else []
    lines.append(domain)
    if answer["calibrated"]:
        return [*lines, f"calibrated: {calibrated_for(answer)}"]
    return [*lines, f"not calibrated{because(answer)}"]


def interval_columns(answer: Answer) -> dict[str, float]:
    """The ends of a regression's intervals, as columns of predictions.tsv."""
    return {
        f"{end}_{name}": ends[k]
        for name, ends in answer.get("intervals", {}).items()
        if ends
        for k, end in enumerate(("low", "high"))
    }


def first_upper(text: str) -> str:
    """The text with its first letter large."""
    return text[:1].upper() + text[1:]
