"""Metrics with intervals, baselines, folds, subgroups and test-retest of a run's predictions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd

from uncus import NOTICE, __version__
from uncus.data.errors import BadInput
from uncus.data.tables import find_column, limit_warnings, text_warnings
from uncus.data.text import listed
from uncus.pipeline.evaluation import metrics, reliability
from uncus.pipeline.evaluation.adjustment import NOTABLE, explained
from uncus.pipeline.evaluation.baselines import choose, predict_baseline
from uncus.pipeline.evaluation.bootstrap import LEVEL, bootstrap, interval, plain
from uncus.pipeline.evaluation.measurement import (
    adjustment_of,
    counts,
    main_metric,
    measure,
    measure_part,
)
from uncus.pipeline.evaluation.predictions import Outputs, Study, model_outputs
from uncus.pipeline.evaluation.retest_agreement import MIN_PAIRS, agreement, session_pairs
from uncus.pipeline.evaluation.subgroups import few_warnings, subgroups
from uncus.pipeline.trust.nested import Nested
from uncus.pipeline.trust.out_of_fold import OutOfFold


@dataclass(frozen=True)
class Assessment:
    """The result of an evaluation.

    Attributes
    ----------
    report: the content of report.json.
    outputs: out-of-fold outputs of model and baselines, one row per labelled scan, for the plots.
    pairs: the first two sessions of each subject with several, see ``session_pairs``.
    nested: the scans judged by what was fitted on other subjects; None where these are too few.
    """

    report: dict[str, Any]
    outputs: Outputs
    pairs: pd.DataFrame
    nested: Nested | None = None


def assess(
    study: Study,
    predictions: pd.DataFrame,
    baseline: Sequence[str] = (),
    draws: int = 2000,
    seed: int = 0,
    external: Mapping[str, Any] = MappingProxyType({}),
) -> Assessment:
    """Measure predictions (columns as in predictions.tsv) and the baselines on the same folds.

    Parameters
    ----------
    external: the facts of another cohort, see uncus.pipeline.evaluation.external.

    Raises
    ------
    BadInput: predictions that do not fit the study, no labelled test scan, or an unknown baseline
        column.
    """
    outputs = model_outputs(study, predictions)
    if not outputs.pooled("test").labelled.any():
        cause = f"no test scan has a {', '.join(study.target.columns)}: there is nothing to measure"
        raise BadInput("scans.tsv", cause, "use a cohort whose labels are known: --on COHORT")
    columns, warnings = choose(study, baseline)
    fitted = {name: predict_baseline(study, outputs.rows, some) for name, some in columns.items()}
    outputs = replace(outputs, values={**outputs.values, **fitted})
    everything = outputs.pooled("test")
    tested = everything.take(everything.labelled)
    pairs = session_pairs(output_frame(study, everything), list(study.target.names))
    report: dict[str, Any] = {
        "target": study.target.as_dict(),
        "names": list(study.target.names),
        "rule": rule(study),
        "interval": {"level": LEVEL, "method": "bootstrap over subjects", "draws": draws},
        "baseline_columns": {name: list(some) for name, some in columns.items()},
        **measure_part(study, tested, draws, seed),
        "adjustment": adjustment(study, tested, draws, seed),
        "folds": fold_rows(study, outputs),
        "within_folds": {},
        "confusion": confusion(study, tested),
        "subgroups": subgroups(study, tested, draws, seed),
        "test_retest": test_retest(study, pairs, draws, seed),
    }
    nested, reason = judged(study, predictions, external)
    report |= reliability.measured(study, nested, draws, seed) if nested else {}
    report |= {"not_calibrated": reason} if reason else {}
    report["headline"] = headline(study, report)
    if study.target.is_classification and not report["adjustment"]:
        warnings.append(
            "the AUC is not adjusted for age and sex: they are unknown, or the classes share too "
            "few of them"
        )
    warnings += few_warnings(report["subgroups"])
    scores = np.array([row["score"] for row in report["folds"] if row["score"] is not None])
    if len(scores):
        spread = plain(scores.std(ddof=1)) if len(scores) > 1 else None
        report["within_folds"] = {
            "metric": main_metric(study),
            "mean": plain(scores.mean()),
            "sd": spread,
        }
    held = outputs.pooled("holdout")
    held = held.take(held.labelled)
    if len(held.rows):
        report["holdout"] = measure_part(study, held, draws, seed)
        report["holdout"]["confusion"] = confusion(study, held)
    used = dict.fromkeys([find_column(study.scans, ["age"]), *sum(columns.values(), ())])
    cells = {name: study.scans[name] for name in used if name}
    for name in cells:
        warnings += text_warnings(name, cells[name])
    warnings += limit_warnings(cells)
    if external:
        report["external"] = dict(external)
        report["folds"][0]["trained_subjects"] = external["trained_subjects"]
        warnings += external_warnings(external)
    report |= {"warnings": warnings, "notice": NOTICE, "version": __version__}
    return Assessment(report, tested, pairs, nested)


def judged(
    study: Study, predictions: pd.DataFrame, external: Mapping[str, Any]
) -> tuple[Nested | None, str]:
    """The scans judged by what was fitted on other subjects, or None and why they are not."""
    known = OutOfFold.of(predictions, study.target)
    if external:
        reason = external["not_calibrated"]
        return (None if reason else reliability.judged_by_the_run(predictions, known)), reason
    try:
        return Nested.of(known), ""
    except ValueError as error:
        return None, str(error)


def external_warnings(facts: Mapping[str, Any]) -> list[str]:
    """What a reader of an evaluation on another cohort has to know of it."""
    name, counts = facts["cohort"], {key: len(facts[key]) for key in ("left_out", "rejected")}
    remarks = {
        "not labelled and left out": facts["unlabelled"],
        "rejected by quality control": counts["rejected"],
    }
    warnings = [f"{count} scans of {name} are {what}" for what, count in remarks.items() if count]
    if counts["left_out"]:
        warnings.append(f"{counts['left_out']} subjects of {name} were used in training: left out")
    if facts["unchecked"]:
        warnings.append(f"{facts['unchecked']} are not known here: check that none is in {name}")
    return warnings + list(facts["warnings"])


def adjustment(study: Study, outputs: Outputs, draws: int, seed: int) -> dict[str, Any] | None:
    """What the adjusted metrics are adjusted for, and the part of the score that it explains.

    None where nothing is adjusted. "auc" is the plain one of the same scans.
    """
    adjusted_for = adjustment_of(study, outputs)
    if adjusted_for is None:
        return None
    known = outputs.take(adjusted_for.known)
    values = outputs.values["model"]
    share = bootstrap(
        lambda weights: {"r2": explained(values, weights, adjusted_for)},
        outputs.subjects,
        draws,
        seed,
    )["r2"]
    plain_one = measure(study, known.labels, known.values["model"], np.ones((1, len(known.rows))))
    return {
        "columns": list(adjusted_for.columns),
        "scans": len(known.rows),
        "auc": plain(plain_one["auc"][0]),
        "explained": interval(share, centred=True),
    }


def headline(study: Study, report: Mapping[str, Any]) -> dict[str, Any]:
    """The figure to lead with: the adjusted AUC where it differs from the plain one."""
    found, known = report["adjustment"], report["metrics"]
    metric = main_metric(study)
    lead = {"metric": metric, "name": metrics.title(metric), "adjusted_for": []}
    if found and found["auc"] is not None:
        value = known["auc_adjusted"]["value"]
        if value is not None and abs(value - found["auc"]) > NOTABLE:
            lead = {"metric": "auc_adjusted", "adjusted_for": found["columns"]}
            lead["name"] = f"AUC adjusted for {listed(found['columns'])}"
    return {**lead, **known[lead["metric"]]}


def rule(study: Study) -> str:
    """The decision rule, for the report."""
    if study.target.regression:
        return ""
    if len(study.target.names) == 2:
        return f"{study.target.names[1]} if its probability exceeds 0.5"
    return "the class of the highest probability"


def fold_rows(study: Study, outputs: Outputs) -> list[dict[str, Any]]:
    """Per fold: training subjects, test scans, and the main metric within the fold."""
    rows = []
    for fold in range(study.splits.folds):
        here = (outputs.rows["fold"] == fold) & (outputs.rows["part"] == "test")
        some = outputs.take(here.to_numpy() & outputs.labelled)
        if not len(some.rows):
            continue
        scores = measure(study, some.labels, some.values["model"], np.ones((1, len(some.rows))))
        row = {"fold": fold, "trained_subjects": len(study.trained(fold))}
        rows.append({**row, **counts(study, some), "score": plain(scores[main_metric(study)][0])})
    return rows


def confusion(study: Study, outputs: Outputs) -> list[list[int]] | None:
    """Scans of each class (row) by predicted class (column); None for a regression."""
    if study.target.regression:
        return None
    size = len(study.target.names)
    predicted = outputs.values["model"].argmax(axis=1)
    table = np.bincount(outputs.labels * size + predicted, minlength=size * size)
    return [[int(cell) for cell in row] for row in table.reshape(size, size)]


def output_frame(study: Study, outputs: Outputs) -> pd.DataFrame:
    """The rows with the model's output for each class or column."""
    values = pd.DataFrame(outputs.values["model"], columns=list(study.target.names))
    return pd.concat([outputs.rows, values], axis=1)


def test_retest(study: Study, pairs: pd.DataFrame, draws: int, seed: int) -> dict[str, Any] | None:
    """Agreement between the first two sessions of a subject; None if too few have two.

    It concerns the probability of each class (of two classes, the second only) or each value.
    """
    if len(pairs) < MIN_PAIRS:
        return None
    names = study.target.names
    shown = names[1:] if len(names) == 2 and study.target.is_classification else names
    agreements: dict[str, Any] = {
        name: agreement(pairs[[f"{name}_1", f"{name}_2"]].to_numpy(dtype=float), draws, seed)
        for name in shown
    }
    result: dict[str, Any] = {"subjects": len(pairs), "of": agreements}
    if study.target.is_classification:
        calls = [pairs[[f"{n}_{k}" for n in names]].to_numpy().argmax(axis=1) for k in (1, 2)]
        result["same_class"] = plain(np.mean(calls[0] == calls[1]))
    return result
