"""What is said of an answer, the content of prediction.json: the class named, or why none is."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from uncus.pipeline.rendering.numbers import fixed, number
from uncus.pipeline.trust.domain import SYNTHETIC
from uncus.pipeline.trust.judgement import CANNOT_TELL

Answer = Mapping[str, Any]
FULL = {
    "AD": "Alzheimer's-type dementia",
    "CN": "cognitively normal",
    "MCI": "mild cognitive impairment",
}
"""Names of classes in full; others are shown as they are."""


BRAIN_AGE = "Brain age"
BEYOND = {None: "", "older": " or more", "younger": " or less"}
COLUMNS = {
    "hippocampus_left": "left hippocampus",
    "hippocampus_right": "right hippocampus",
    "etiv": "intracranial space",
    "nwbv": "normalized whole-brain volume",
}
"""Names of values in full, regions as the measured ones; others are shown as they are."""
MARGIN = 0.1
"""Probabilities this close to those of a tie favor no class."""


class Check(NamedTuple):
    """What a check found of a scan: a few words, and whether they are a "warning" or "alarm"."""

    text: str
    state: str = ""


def full(name: str) -> str:
    """The name of a class or a value in full."""
    return FULL.get(name) or COLUMNS.get(name, name)


def in_full(sentence: str, answer: Answer) -> str:
    """A sentence with the names of the answer's classes in full."""
    for name in FULL.keys() & answer.get("probabilities", {}).keys():
        sentence = re.sub(rf"\b{name}\b", FULL[name], sentence)
    return sentence


def title(answer: Answer) -> str:
    """The answer as a heading: the class in full, the values, ``Cannot tell``, or ``No answer``."""
    if is_foreign(answer):
        return "No answer"
    if "probabilities" in answer:
        named_one = answer["label"] and not favors_none(answer)
        return first_upper(full(answer["label"]) if named_one else CANNOT_TELL)
    values = [
        f"{BRAIN_AGE if name == 'age' else full(name)} {value_text(name, value)}"
        for name, value in answer["values"].items()
    ]
    return first_upper(", ".join(values[: 1 if len(values) > 2 else 2]))  # all have an axis


def value_text(name: str, value: float) -> str:
    """A predicted value with its unit, where that is known."""
    return f"{fixed(value, 1)} years" if name == "age" else number(value)


def reason(answer: Answer) -> str:
    """Why the answer is as it is, below its title."""
    if is_foreign(answer):
        return domain_line(answer)
    if "set" in answer or "abstains" in answer:
        return first_upper(in_full(f"{why(answer)}.", answer))
    if "probabilities" in answer:
        return in_full(most_similar(answer), answer)
    age = answer.get("volumes", {}).get("age") or answer.get("covariates", {}).get("age")
    if "age" not in answer["values"] or age is None:
        return intervals_note(answer)
    if "gap" in answer.get("brain_age", {}):
        return f"{first_upper(gap_text(answer))}. {intervals_note(answer)}"
    gap = answer["values"]["age"] - age
    text = f"{fixed(abs(gap), 1)} years {'above' if gap > 0 else 'below'} the age of {age:g}"
    return f"{text}. {intervals_note(answer)}"


def gap_text(answer: Answer) -> str:
    """The brain-age gap, corrected for the bias of predicted ages."""
    gap = answer["brain_age"]["gap"]
    side = "above" if gap > 0 else "below"
    return f"{fixed(abs(gap), 1)} years {side} the age, corrected for the bias of predicted ages"


def companion_lines(answer: Answer) -> list[str]:
    """The other built-in models' predictions for the scan: brain age and predicted volumes."""
    return list(filter(None, (brain_age_line(answer), predicted_volumes_line(answer))))


def brain_age_line(answer: Answer) -> str:
    """The brain age beside an answer of classes; "" where there is none."""
    if not (years := answer.get("brain_age")) or "probabilities" not in answer:
        return ""
    ends = f"{fixed(years['low'], 0)} to {fixed(years['high'], 0)}"
    level = f"{years['level']:.0%} interval"
    value = f"{value_text('age', years['value'])}{BEYOND[years.get('beyond')]}"
    line = f"{BRAIN_AGE} {value} ({level} {ends})"
    return f"{line}, {gap_text(answer)}" if "gap" in years else line


def predicted_volumes_line(answer: Answer) -> str:
    """The volumes that networks predict, which are others than those measured; "" without any."""
    parts = [
        f"{full(name)} {fixed(ml, 2 if ml < 100 else 0)} ml"
        for name, ml in answer.get("predicted_volumes", {}).items()
    ]
    return f"Predicted by the networks, not measured: {', '.join(parts)}" if parts else ""


def checks(answer: Answer) -> list[Check]:
    """What was checked, for a row of labels; that nothing was found is said, but never praised."""
    inside = answer.get("domain", {}).get("inside")
    found = [
        {
            True: Check("passed the checks we have"),
            False: Check("another domain than the run's", "alarm"),
            None: Check("not checked whether it is like the run's scans", "warning"),
        }[inside]
    ]
    if inside is not False and "probabilities" in answer:
        calibrated = answer.get("calibrated")
        found.append(Check("calibrated") if calibrated else Check("not calibrated", "warning"))
        members = answer["members"]
        if len(members) > 1:
            best = max(answer["probabilities"], key=answer["probabilities"].__getitem__)
            agree = sum(max(member, key=member.__getitem__) == best for member in members)
            state = "" if agree == len(members) else "warning"
            found.append(Check(f"{agree} of {len(members)} networks agree", state))
    if many := len(other_warnings(answer)):
        found.append(Check(f"{many} warning{'s' * (many != 1)}", "warning"))
    return found


def is_synthetic(answer: Answer) -> bool:
    """Whether the run was trained on phantoms."""
    return SYNTHETIC in answer["warnings"]


def other_warnings(answer: Answer) -> list[str]:
    """The warnings besides that of a run of phantoms, which its own line shows."""
    return [one for one in answer["warnings"] if one != SYNTHETIC]


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


def favors_none(answer: Answer) -> bool:
    """Whether the probabilities of a run without sets are too close to a tie."""
    probabilities = answer["probabilities"]
    sets = "set" in answer or "abstains" in answer
    return not sets and max(probabilities.values()) < 1 / len(probabilities) + MARGIN


def most_similar(answer: Answer) -> str:
    """The most similar training scans, and how many networks agree, where a run has no sets."""
    members = answer["members"]
    probabilities = answer["probabilities"]
    label = answer["label"]
    agree = sum(max(member, key=member.get) == label for member in members)
    votes = f"{agree} of {len(members)} networks" if len(members) > 1 else "the network"
    probability = fixed(probabilities[label], 2)
    if favors_none(answer):
        return (
            "The networks favor no class: this scan is about as similar to the training scans "
            f"labelled {label} (probability {probability}) as to the others."
        )
    others = " or ".join(name for name in probabilities if name != label)
    return (
        f"This scan is more similar to the training scans labelled {label} than to those labelled "
        f"{others}, according to {votes} (probability {probability})."
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
        f"{full(name)} {number(ends[0])} to {number(ends[1])}"
        for name, ends in intervals.items()
        if ends
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


def companion_columns(answer: Answer) -> dict[str, float]:
    """Brain age and predicted volumes as columns of predictions.tsv."""
    names = ("value", "low", "high", "gap")
    years = {name: v for name, v in answer.get("brain_age", {}).items() if name in names}
    volumes = answer.get("predicted_volumes", {})
    return {
        **{"brain_age" + f"_{name}" * (name != "value"): value for name, value in years.items()},
        **{f"predicted_ml_{name}": ml for name, ml in volumes.items()},
    }


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
