"""The words and numbers of a report."""

import html
from collections.abc import Mapping
from typing import Any

from uncus import NOTICE
from uncus.pipeline.evaluation import metrics

Found = Mapping[str, float | None]


def number(value: float | None) -> str:
    """Three decimals for shares, fewer for large values, a dash for none."""
    if value is None:
        return "–"
    digits = 3 if abs(value) < 10 else 2 if abs(value) < 100 else 1
    return fixed(value, digits)


def fixed(value: float, digits: int) -> str:
    """So many decimals, with a true minus sign, and none before a zero."""
    text = f"{value:.{digits}f}"
    return text.replace("-", "−" if float(text) else "")


def span(found: Found, digits: int | None = None) -> str:
    """``0.730 to 0.870``; nothing where there is no interval."""
    if found["low"] is None or found["high"] is None:
        return ""
    if digits is not None and abs(found["high"]) < 10:
        return f"{fixed(found['low'], digits)} to {fixed(found['high'], digits)}"
    return f"{number(found['low'])} to {number(found['high'])}"


def spoken(found: Found) -> str:
    """``0.801 (0.730 to 0.870)``."""
    around = span(found)
    return number(found["value"]) + (f" ({around})" if around else "")


def text(value: object) -> str:
    """Escaped for HTML: names come from tables that anybody may have written."""
    return html.escape(str(value))


def main_of(report: Mapping[str, Any]) -> str:
    """The metric that the page leads with."""
    return "auc" if "auc" in report["metrics"] else next(iter(report["metrics"]))


def summary(report: Mapping[str, Any]) -> str:
    """The result in two sentences: the main metric, and how it stands to the best baseline."""
    metric = main_of(report)
    counts, folds = report["counts"], len(report["folds"])
    lower = metrics.base(metric) in metrics.LOWER_IS_BETTER
    known = {n: b[metric] for n, b in report["baselines"].items() if b[metric]["value"] is not None}
    where = f"{folds} folds" if folds > 1 else "one test part"
    out = (
        f"<p class=lead>{text(metrics.title(metric))} <b>{spoken(report['metrics'][metric])}</b> "
        f"on {counts['scans']} scans of {counts['subjects']} people in {where}, each judged only "
        "by networks that never saw that person."
    )
    if known:
        best = (min if lower else max)(known, key=lambda name: known[name]["value"])
        ahead = report["differences"][best][metric]
        clear = ahead["low"] is not None and ahead["low"] * ahead["high"] > 0
        better = (
            ahead["value"] is not None and (ahead["value"] < 0) == lower and ahead["value"] != 0
        )
        verdict = (
            "more than the choice of people explains"
            if clear and better
            else "in the baseline's favour"
            if clear
            else "which the choice of people may explain"
        )
        out += (
            f" The best baseline, {text(best)}, reaches {spoken(known[best])}; model minus "
            f"baseline is {spoken(ahead)}, {verdict}."
        )
    return out + "</p>"


def explain(report: Mapping[str, Any]) -> str:
    """How the numbers were made."""
    interval = report["interval"]
    parts = [
        f"Below each value its {interval['level']:.0%} interval: {interval['draws']} resamples of "
        "subjects, each with all of their scans.",
        "Baselines are fitted on each fold's training and validation subjects and judged on the "
        "same test subjects: "
        + "; ".join(
            f"<i>{text(name)}</i> "
            + (
                f"{'linear' if report['target']['regression'] else 'logistic'} regression on "
                f"{text(', '.join(columns))}"
                if columns
                else "says the same of everybody"
            )
            for name, columns in report["baseline_columns"].items()
        )
        + ".",
    ]
    if report["rule"]:
        parts.append(f"A scan is called {text(report['rule'])}; no threshold was tuned.")
    if len(report["names"]) > 2 and not report["target"]["regression"]:
        parts.append("Plain names are means over the classes, each against the rest.")
    return " ".join(parts)


def meaning(report: Mapping[str, Any]) -> str:
    """What the numbers say of other data, and what they do not."""
    classes = not report["target"]["regression"]
    label = "the labels in the table" if classes else "the values in the table"
    return (
        "<div class=said><p>This page says how well networks trained on some people of one study "
        "agreed, on other people of the same study, with "
        f"{label}. Scans of one person were never on both sides. The intervals speak of the choice "
        "of these people, not of other scanners, sites, ages or ways of diagnosing, and each "
        "network was trained on fewer people than the whole study.</p>"
        "<p>It is not a diagnosis, nor evidence that the model would help anyone care for a "
        "patient. The labels are themselves uncertain. A study has its own mix of people, so the "
        "probabilities would have to be calibrated anew for a clinic. And where options were "
        "chosen by looking at these numbers, the numbers flatter. "
        f"<b>{text(NOTICE)}</b></p></div>"
    )
