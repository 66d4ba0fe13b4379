"""Calibration before and after, and the coverage of conformal sets: measured, and as a section."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from uncus.data.tables import find_column
from uncus.pipeline.evaluation import metrics, plots
from uncus.pipeline.evaluation.bootstrap import bootstrap, intervals, plain
from uncus.pipeline.evaluation.metrics import Array, Values
from uncus.pipeline.evaluation.predictions import SCAN, Study
from uncus.pipeline.evaluation.subgroups import COLUMNS, MIN_GROUP, levels
from uncus.pipeline.rendering.html import card, table, text
from uncus.pipeline.rendering.numbers import estimate_text, number
from uncus.pipeline.trust.conformal import ERROR_LEVEL
from uncus.pipeline.trust.nested import Nested
from uncus.pipeline.trust.out_of_fold import OutOfFold

SHOWN = ("ece", "brier")
PERFECT_DRAWS = 200


def measured(study: Study, nested: Nested, draws: int, seed: int) -> dict[str, Any]:
    """The report's "calibration" (of a classification) and "conformal".

    "covered" is the share of a class's scans whose set has the class, "named" of those whose set
    has one class only, "wrong" of those whose one class is another. Of a regression's column,
    "covered" is the share of values in the interval.
    """
    known, report = nested.known, dict[str, Any]()
    if study.target.is_classification:
        subjects = known.scans["participant_id"].to_numpy(str)
        parts = {"before": known.outputs, "after": nested.calibrated}
        report["calibration"] = {"scans": len(known.scans)}
        for when, values in parts.items():
            drawn = bootstrap(
                lambda weights, values=values: errors(known.labels, values, weights, known.names),  # type: ignore[misc]
                subjects,
                draws,
                seed,
            )
            report["calibration"][when] = intervals(drawn)
        report["calibration"]["perfect"] = perfect(nested.calibrated, known.names, seed)
    fields = study.scans.iloc[study.positions(known.scans)].reset_index(drop=True)
    groups: dict[str, dict[str, Any]] = {}
    for group, names in COLUMNS.items():
        column = find_column(fields, names)
        if column and column not in study.target.columns:
            masks = levels(group, fields[column])
            groups[group] = {level: coverage(nested, mask) for level, mask in masks.items()}
    everything = coverage(nested, np.ones(len(known.scans), bool))
    conformal = {"error_level": nested.error_level, "of": everything, "groups": groups}
    return report | {"conformal": conformal}


def errors(labels: Array, probabilities: Array, weights: Array, names: tuple[str, ...]) -> Values:
    """ECE and Brier score, over the classes' mean for more than two."""
    found = metrics.classification(labels, probabilities, weights, names)
    return {name: found[name] for name in SHOWN}


def perfect(probabilities: Array, names: tuple[str, ...], seed: int) -> dict[str, float]:
    """What the errors would be on average if the probabilities [N, K] were true, by chance alone.

    Few scans in a bin differ from its probability although nothing is wrong.
    """
    rng, edges = np.random.default_rng(seed), probabilities.cumsum(axis=1)[:, :-1]
    weights = np.ones((1, len(probabilities)))
    drawn = [
        errors((rng.random((len(edges), 1)) > edges).sum(axis=1), probabilities, weights, names)
        for _ in range(PERFECT_DRAWS)
    ]
    return {name: float(np.mean([one[name] for one in drawn])) for name in SHOWN}


def coverage(nested: Nested, mask: Array) -> dict[str, dict[str, Any]]:
    """Class or column -> its coverage among the scans of ``mask`` [N], with a Wilson interval."""
    labels, fits, found = nested.known.labels, nested.fits, {}
    for k, name in enumerate(nested.known.names):
        one = mask & ((labels == k) if labels.ndim == 1 else np.isfinite(labels[:, k]))
        count, entry = int(one.sum()), dict[str, Any]()
        if count:
            share = float(fits[one, k].mean())
            low, high = plots.wilson(share, count)
            entry["covered"] = {"value": share, "low": low, "high": high}
        if count and labels.ndim == 1:
            single = fits[one].sum(axis=1) == 1
            entry["named"] = plain(single.mean())
            entry["wrong"] = plain((single & ~fits[one, k]).mean())
        found[name] = {"scans": count, **entry}
    return found


def judged_by_the_run(predictions: pd.DataFrame, known: OutOfFold) -> Nested:
    """Another cohort's scans as the run judged them: it was fitted on none of them."""
    table = known.scans.merge(predictions, on=SCAN, how="left")
    raw, fits = (
        table[[f"{part}_{name}" for name in known.names]].to_numpy(dtype=float)
        for part in ("uncalibrated", "fits")
    )
    return Nested(replace(known, outputs=raw), known.outputs, fits == 1, ERROR_LEVEL)


def section(report: Mapping[str, Any], nested: Nested | None) -> str:
    """The section of the page."""
    if not (conformal := report.get("conformal")):
        reason = report.get("not_calibrated")
        return f"<h2>Calibration</h2><p>None: {text(reason)}.</p>" if reason else ""
    assert nested
    parts = []
    if found := report.get("calibration"):
        whens = ("before", "after")
        rows = [
            [
                metrics.title(name),
                *(estimate_text(found[when][name]) for when in whens),
                number(found["perfect"][name]),
            ]
            for name in SHOWN
        ]
        known = nested.known
        drawn = [
            diagram(title, known.labels, values, known.names)
            for title, values in (("Before", known.outputs), ("After", nested.calibrated))
        ]
        parts += [
            "<h2>Calibration</h2>",
            f"<p class=faint><small>{NESTED}</small></p>",
            table(["", "before", "after calibration", "by chance alone"], rows),
            f'<div class=figures style="margin-top:16px">{"".join(drawn)}</div>',
        ]
    parts += [
        f"<h2>{'Sets' if found else 'Intervals'} at an error level of "
        f"{conformal['error_level']:.0%}</h2>",
        f"<p class=faint><small>{SETS if found else INTERVALS}</small></p>",
        table(coverage_head(bool(found)), list(coverage_rows(conformal))),
    ]
    return "".join(parts)


def diagram(title: str, labels: Array, values: Array, names: Sequence[str]) -> str:
    """A reliability diagram with its caption."""
    caption = "Ten bins; the dashed line is perfect calibration."
    caption += " Bars: 95% (Wilson)." if len(names) == 2 else ""
    return card(title, plots.calibration(labels, values, names, f"calibration: {title}"), caption)


NESTED = (
    "Each scan's probability is calibrated by a map that was fitted on the out-of-fold predictions "
    "of other subjects (five parts); the run's own map is fitted on all of them. By chance alone: "
    "the mean for labels drawn with the calibrated probabilities, which are then perfect."
)
SETS = (
    "A class is in a scan's set unless the scan is less like it than all but that share of the "
    "class's own scans; with one class in the set, it is named, else the answer is “cannot tell”. "
    "Covered: the set has the true class. Thresholds are from other subjects."
)
INTERVALS = (
    "Covered: the true value is in the interval, whose width is from other subjects' errors."
)


def coverage_head(classes: bool) -> list[str]:
    """The head of the table."""
    return ["", "scans", "covered", *(["one class named", "another one named"] if classes else [])]


def coverage_rows(conformal: Mapping[str, Any]) -> list[list[object]]:
    """Rows of the table: each class or column, then by group."""
    rows: list[list[object]] = []
    groups = {"": {"": conformal["of"]}, **conformal["groups"]}
    for column, found in groups.items():
        for level, classes in found.items():
            for name, entry in classes.items():
                if entry["scans"] >= (MIN_GROUP if column else 1):
                    shares = [f"{entry[key]:.0%}" for key in ("named", "wrong") if key in entry]
                    where = ": ".join(filter(None, [f"{column} {level}".strip(), name]))
                    rows.append([where, entry["scans"], estimate_text(entry["covered"]), *shares])
    return rows


def lines(report: Mapping[str, Any]) -> list[str]:
    """The figures for the terminal."""
    if not (conformal := report.get("conformal")):
        reason = report.get("not_calibrated")
        return [f"not calibrated: {reason}"] if reason else []
    found, shown = report.get("calibration"), []
    if found:
        parts = [
            f"{metrics.title(name)} {estimate_text(found['before'][name])} before, "
            f"{estimate_text(found['after'][name])} after "
            f"(by chance alone {number(found['perfect'][name])})"
            for name in SHOWN
        ]
        shown.append(f"calibration measured on other subjects: {'; '.join(parts)}")
    covered = [
        f"{name} {estimate_text(entry['covered'])}"
        for name, entry in conformal["of"].items()
        if entry["scans"]
    ]
    what = "sets" if found else "intervals"
    return [
        *shown,
        f"covered by {what} of {1 - conformal['error_level']:.0%}: {', '.join(covered)}",
    ]
