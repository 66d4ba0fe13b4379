"""The texts of a report."""

from collections.abc import Mapping
from typing import Any

from uncus import NOTICE
from uncus.data.text import listed
from uncus.pipeline.evaluation import metrics
from uncus.pipeline.rendering.html import text
from uncus.pipeline.rendering.numbers import Estimate, estimate_text


def main_of(report: Mapping[str, Any]) -> str:
    """The metric that the page leads with; reports of early versions do not name it."""
    known = "auc" if "auc" in report["metrics"] else next(iter(report["metrics"]))
    return str(report["headline"]["metric"]) if "headline" in report else known


def row_title(metric: str, part: Mapping[str, Any]) -> str:
    """A metric's name in the table of a report or a holdout.

    The run's map is fitted on its own scans, so that the errors there are those before calibration;
    those after it, on other subjects, are in a section of their own.
    """
    after = "external" in part and "calibration" in part
    raw = metrics.base(metric) in ("brier", "ece") and not after
    return metrics.title(metric) + ", not calibrated" * raw


def headline(report: Mapping[str, Any]) -> str:
    """The figure to lead with: ``AUC adjusted for age and sex 0.701 (0.610 to 0.790)``."""
    metric = main_of(report)
    name = report["headline"]["name"] if "headline" in report else metrics.title(metric)
    return f"{name} {estimate_text(report['metrics'][metric])}"


def unadjusted(report: Mapping[str, Any]) -> str:
    """What the headline leaves out: the plain AUC, and what the covariates explain; or ""."""
    lead = report.get("headline", {"adjusted_for": []})
    if not lead["adjusted_for"]:
        return ""
    share = report["adjustment"]["explained"]
    around = f" ({share['low']:.0%} to {share['high']:.0%})" if share["low"] is not None else ""
    return (
        f"Unadjusted it is {estimate_text(report['metrics']['auc'])}; of the variance of the score "
        f"{share['value']:.0%}{around} is explained by {listed(lead['adjusted_for'])}."
    )


def title(report: Mapping[str, Any]) -> str:
    """The heading of the metrics."""
    external = report.get("external")
    return f"Metrics on {external['cohort']}" if external else "Out-of-fold metrics"


def summary(report: Mapping[str, Any]) -> str:
    """The result in two sentences: the main metric, and its difference from the best baseline."""
    metric = main_of(report)
    counts, folds = report["counts"], len(report["folds"])
    where = f"{folds} folds" if folds > 1 else "one test set"
    external = report.get("external")
    tested = (
        f"the cohort {text(external['cohort'])}, by networks trained on "
        f"{external['trained_subjects']} subjects of another one."
        if external
        else f"{where}, each tested only by networks that were not trained on that subject."
    )
    value = estimate_text(report["metrics"][metric])
    name = headline(report).removesuffix(f" {value}")
    out = (
        f"<p class=lead>{text(name)} <b>{value}</b> on {counts['scans']} scans of "
        f"{counts['subjects']} subjects in {tested}"
    )
    if without := unadjusted(report):
        out += f" {text(without)}"
    if best := best_baseline(report):
        reaches, ahead = report["baselines"][best][metric], report["differences"][best][metric]
        out += (
            f" The best baseline, {text(best)}, reaches {estimate_text(reaches)}; model minus "
            f"baseline is {estimate_text(ahead)}, {verdict(metric, ahead)}."
        )
    return out + "</p>"


def best_baseline(report: Mapping[str, Any]) -> str:
    """The baseline with the best main metric; "" where there is none."""
    metric = main_of(report)
    known = {n: b[metric] for n, b in report["baselines"].items() if b[metric]["value"] is not None}
    choose = min if metrics.base(metric) in metrics.LOWER_IS_BETTER else max
    return choose(known, key=lambda name: known[name]["value"], default="")


def verdict(metric: str, ahead: Estimate) -> str:
    """Whether a difference, the model's value minus another, is significant."""
    value, low, high = ahead["value"], ahead["low"], ahead["high"]
    if value is None or low is None or high is None or low * high <= 0 or value == 0:
        return "not significant"
    lower = metrics.base(metric) in metrics.LOWER_IS_BETTER
    return f"significantly {'better' if (value < 0) == lower else 'worse'}"


def against_title(against: Mapping[str, Any]) -> str:
    """The heading of the comparison with another run."""
    counts = against["counts"]
    on = f"{counts['scans']} scans of {counts['subjects']} subjects"
    return f"Compared with {against['run']} on {on}"


def against_table(against: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Head and rows of the comparison with another run: values, differences, verdicts."""
    rows = [
        [
            metrics.title(metric),
            estimate_text(value),
            estimate_text(against["other"][metric]),
            estimate_text(against["differences"][metric]),
            verdict(metric, against["differences"][metric]),
        ]
        for metric, value in against["metrics"].items()
    ]
    return ["", "this run", against["run"], "difference", ""], rows


def explain(report: Mapping[str, Any]) -> str:
    """How the numbers were computed."""
    interval = report["interval"]
    kind = "linear" if report["target"]["regression"] else "logistic"
    fits = [
        f"<i>{text(name)}</i> "
        + (f"{kind} regression on {text(', '.join(columns))}" if columns else "a constant")
        for name, columns in report["baseline_columns"].items()
    ]
    parts = [
        f"Below each value: its {interval['level']:.0%} interval, by {interval['draws']} bootstrap "
        "resamples of subjects, each with all of their scans.",
    ]
    if fits:
        own = "the run's own" if "external" in report else "each fold's training and validation"
        parts.append(
            f"Baselines are fitted on {own} subjects and tested on the same test subjects: "
            f"{'; '.join(fits)}."
        )
    if adjustment := report.get("adjustment"):
        share, known = adjustment["explained"], adjustment["scans"]
        names = text(listed(adjustment["columns"]))
        parts.append(
            f"Adjusted for {names}, on the {known} scans where they are known: each scan is "
            f"compared with those of its own {names} (covariate-adjusted ROC, Janes and Pepe 2009),"
            f" and scans are weighted so that {names} are alike in the classes (overlap weights, "
            f"Li et al. 2018). The part of the variance of the network's score that they explain: "
            f"R² {estimate_text(share)}, on the logit scale."
        )
    if report["rule"]:
        parts.append(f"The predicted class is {text(report['rule'])}; no threshold was tuned.")
    if len(report["names"]) > 2 and not report["target"]["regression"]:
        parts.append("Metrics without a class are means over the classes, one against the rest.")
    return " ".join(parts)


def caveats(report: Mapping[str, Any]) -> str:
    """What was odd in the columns that the report uses."""
    found = "".join(f"<li>{text(warning)}</li>" for warning in report["warnings"])
    return f"<div class=note><ul>{found}</ul></div>" if found else ""


def meaning(report: Mapping[str, Any]) -> str:
    """What the numbers mean for other data, and what they do not."""
    classes = not report["target"]["regression"]
    label = "the labels in the table" if classes else "the values in the table"
    where = (
        "another one. By names and voxels, no subject of their training is in it"
        if "external" in report
        else "the same study. Scans of a subject were never on both sides"
    )
    return (
        "<div class=note><p>The numbers show how well networks trained on some subjects of one "
        f"study reproduce {label} for other subjects of {where}. The intervals account for the "
        "sampling of subjects, not for other scanners, sites, ages or diagnostic criteria, and "
        "each network was trained on fewer subjects than the whole study.</p>"
        "<p>This is neither a diagnosis nor evidence that the model improves patient care. The "
        "labels are themselves uncertain. Each study has its own mix of subjects, so that "
        "probabilities must be calibrated again for a clinic. If options were chosen by these "
        f"numbers, they are optimistic. <b>{text(NOTICE)}</b></p></div>"
    )
