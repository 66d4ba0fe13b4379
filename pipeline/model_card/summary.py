"""What must be known of a run in three lines: trained on, measured, for whom."""

from typing import Any

from uncus import NOTICE
from uncus.pipeline.evaluation.report_text import best_baseline, headline, main_of
from uncus.pipeline.prediction.answer_text import full
from uncus.pipeline.rendering.numbers import estimate_text
from uncus.pipeline.runs import Run

NOT_MEASURED = "Not evaluated: uncus evaluate RUN."
MAJORITY = "majority"
"""The baseline that knows nothing of a subject."""


def summary(run: Run) -> dict[str, str]:
    """Three facts of a run, in the order of their titles."""
    return {"Trained on": trained_on(run.card), "Measured": measured(run), "Use": NOTICE}


def predicts(run: Run) -> str:
    """What a run answers, in full: ``cognitively normal or Alzheimer's-type dementia``."""
    names = [full(name) for name in run.target.names]
    return ", ".join(names) if run.target.regression else " or ".join(names)


def trained_on(card: dict[str, Any]) -> str:
    """``138 scans of 138 people of 60 to 94 years: 68 cognitively normal, 70 ...``."""
    training = card["training"]
    adapted = card.get("adapted")
    synthetic = (adapted or card.get("domain", {})).get("synthetic")
    people = {True: "synthetic brains", False: "people", None: "subjects"}[synthetic]
    text = f"{training['subjects']} {people}"
    if adapted:
        first = adapted.get("source")
        before = trained_on({"training": first, "domain": first}) if first else adapted["run"]
        return f"{before}; adapted to {text}"
    if training["scans"] != training["subjects"]:
        text = f"{training['scans']} scans of {text}"
    if ages := training.get("age_years"):
        text += f" of {ages['min']:.0f} to {ages['max']:.0f} years"
    if classes := training.get("classes"):
        text += ": " + ", ".join(f"{count} {full(name)}" for name, count in classes.items())
    return text


def measured(run: Run) -> str:
    """The main metric with its interval, and the best simple baseline's."""
    try:
        report = run.report()
        metric, best = main_of(report), best_baseline(report)
        line = f"{headline(report)}, by networks not trained on the subject"
        if best in ("", MAJORITY):
            return f"{line}. No simple baseline was measured beside it."
        reached = estimate_text(report["baselines"][best][metric])
        simple = " and ".join(full(name) for name in best.split("+"))
        return f"{line}. Best simple baseline, {simple}: {reached}."
    except (AttributeError, OSError, KeyError, TypeError, ValueError):
        return NOT_MEASURED
