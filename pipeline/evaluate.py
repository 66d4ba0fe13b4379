"""``uncus evaluate``: metrics with intervals, beside baselines on the same folds."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import tyro

from uncus import NOTICE, __version__
from uncus.data import files
from uncus.data.tables import clean, to_number
from uncus.pipeline.evaluation import metrics
from uncus.pipeline.evaluation.baselines import choose, predict_baseline
from uncus.pipeline.evaluation.bootstrap import LEVEL, bootstrap, interval, intervals, plain
from uncus.pipeline.evaluation.metrics import Array, Values
from uncus.pipeline.evaluation.predictions import Answers, Study, model_answers
from uncus.pipeline.evaluation.retest_agreement import MIN_PAIRS, agreement, session_pairs
from uncus.pipeline.runs import Run

MIN_GROUP = 10  # scans below which nothing is said of a subgroup
MAX_GROUPS = 6


@dataclass(frozen=True)
class Evaluate:
    """Measure a run on scans that its networks never saw; writes report.json and report.html."""

    run_folder: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")] = Path()
    """Folder written by uncus train."""
    baseline: tuple[str, ...] = ()
    """Columns to predict from instead of the image: each alone, and all of them together."""
    draws: int = 2000
    """Resamples of subjects for the intervals."""
    seed: int = 0
    """Fixes the resamples."""

    def __post_init__(self) -> None:
        if self.draws < 100:
            raise ValueError(f"draws={self.draws}: must be at least 100")

    def run(self) -> int:
        """Measure, write and print; returns the exit code."""
        from uncus.pipeline.evaluation import report, terminal

        if self.run_folder == Path():
            raise ValueError("RUN is missing; uncus evaluate RUN")
        run = Run(self.run_folder)
        study = Study.of(run.scans(), run.target, run.splits())
        result = assess(study, run.predictions(), self.baseline, self.draws, self.seed)
        name = run.path.resolve().name
        files.write_json(run.report_path, result.report)
        files.write_text(run.report_page, report.page(name, result, run.training_curves()))
        terminal.show(name, result.report)
        print(f"{run.report_page}. {NOTICE}")
        return 0


def evaluate(run: Path | str, **options: Any) -> dict[str, Any]:
    """Evaluate a run and write its report; returns the contents of its report.json.

    Parameters
    ----------
    run: folder of the run.
    options: fields of :class:`Evaluate`, which are the options of ``uncus evaluate``.

    Raises
    ------
    ValueError: unknown options or baselines, or a run that is not finished (BadInput).
    """
    Evaluate(Path(run), **options).run()
    return Run(Path(run)).report()


@dataclass(frozen=True)
class Assessment:
    """What an evaluation found.

    Attributes
    ----------
    report: what report.json holds.
    answers: one row a labelled scan out of fold, model and baselines: what the plots show.
    pairs: the first two sessions of each subject that has them, see ``session_pairs``.
    """

    report: dict[str, Any]
    answers: Answers
    pairs: pd.DataFrame


def assess(
    study: Study,
    predictions: pd.DataFrame,
    baseline: Sequence[str] = (),
    draws: int = 2000,
    seed: int = 0,
) -> Assessment:
    """Measure predictions (columns as in predictions.tsv) and the baselines on the same folds.

    Raises
    ------
    BadInput: predictions that do not fit the study, or an unknown baseline column.
    """
    answers = model_answers(study, predictions)
    columns = choose(study, baseline)
    said = {name: predict_baseline(study, answers.rows, some) for name, some in columns.items()}
    answers = replace(answers, said={**answers.said, **said})
    everything = answers.pooled("test")
    tested = everything.take(everything.labelled)
    pairs = session_pairs(said_frame(study, everything), list(study.target.names))
    report: dict[str, Any] = {
        "target": study.target.as_dict(),
        "names": list(study.target.names),
        "rule": rule(study),
        "interval": {"level": LEVEL, "method": "bootstrap over subjects", "draws": draws},
        "baseline_columns": {name: list(some) for name, some in columns.items()},
        **measure_part(study, tested, draws, seed),
        "folds": fold_rows(study, answers),
        "within_folds": {},
        "confusion": confusion(study, tested),
        "subgroups": subgroups(study, tested, draws, seed),
        "test_retest": test_retest(study, pairs, draws, seed),
    }
    scores = np.array([row["score"] for row in report["folds"] if row["score"] is not None])
    if len(scores):
        spread = plain(scores.std(ddof=1)) if len(scores) > 1 else None
        report["within_folds"] = {
            "metric": main_metric(study),
            "mean": plain(scores.mean()),
            "sd": spread,
        }
    held = answers.pooled("holdout")
    held = held.take(held.labelled)
    if len(held.rows):
        report["holdout"] = measure_part(study, held, draws, seed)
        report["holdout"]["confusion"] = confusion(study, held)
    report |= {"notice": NOTICE, "version": __version__}
    return Assessment(report, tested, pairs)


def measure(study: Study, labels: Array, said: Array, weights: Array) -> Values:
    """All metrics of one set of answers, [D] each."""
    kind = metrics.regression if study.target.regression else metrics.classification
    return kind(labels, said, weights, study.target.names)


def main_metric(study: Study) -> str:
    """The one metric to tell folds and subgroups by."""
    if study.target.is_classification:
        return "auc"
    columns = study.target.columns
    return "mae" if len(columns) == 1 else f"mae_{columns[0]}"


def rule(study: Study) -> str:
    """How a class is chosen, for the report."""
    if study.target.regression:
        return ""
    if len(study.target.names) == 2:
        return f"{study.target.names[1]} where its probability is over 0.5"
    return "the class of the highest probability"


def measure_part(study: Study, answers: Answers, draws: int, seed: int) -> dict[str, Any]:
    """Counts, metrics, baselines and how much the model is ahead of them, with intervals."""
    found: dict[str, Values] = {}
    for name, said in answers.said.items():
        found[name] = bootstrap(
            lambda weights, said=said: measure(study, answers.labels, said, weights),  # type: ignore[misc]
            answers.subjects,
            draws,
            seed,
            f"intervals: {name}",
        )
    model = found.pop("model")
    return {
        "counts": counts(study, answers),
        "metrics": intervals(model),
        "baselines": {name: intervals(values) for name, values in found.items()},
        # The same resamples serve all, so that draws may be subtracted one by one.
        "differences": {
            name: intervals({metric: model[metric] - values[metric] for metric in model})
            for name, values in found.items()
        },
    }


def counts(study: Study, answers: Answers) -> dict[str, Any]:
    """Scans, subjects and scans of each class or with each column."""
    names = study.target.names
    if study.target.regression:
        each = np.isfinite(answers.labels).sum(axis=0)
    else:
        each = np.bincount(answers.labels, minlength=len(names))
    return {
        "scans": len(answers.rows),
        "subjects": len(np.unique(answers.subjects)),
        "columns" if study.target.regression else "classes": dict(
            zip(names, map(int, each), strict=True)
        ),
    }


def fold_rows(study: Study, answers: Answers) -> list[dict[str, Any]]:
    """Per fold: subjects trained on, scans tested, and the main metric within the fold."""
    rows = []
    for fold in range(study.splits.folds):
        here = (answers.rows["fold"] == fold) & (answers.rows["part"] == "test")
        some = answers.take(here.to_numpy() & answers.labelled)
        if not len(some.rows):
            continue
        found = measure(study, some.labels, some.said["model"], np.ones((1, len(some.rows))))
        row = {"fold": fold, "trained_subjects": len(study.trained(fold))}
        rows.append({**row, **counts(study, some), "score": plain(found[main_metric(study)][0])})
    return rows


def confusion(study: Study, answers: Answers) -> list[list[int]] | None:
    """Scans of each class (row) called each class (column); None for a regression."""
    if study.target.regression:
        return None
    size = len(study.target.names)
    called = answers.said["model"].argmax(axis=1)
    table = np.bincount(answers.labels * size + called, minlength=size * size)
    return [[int(cell) for cell in row] for row in table.reshape(size, size)]


def subgroups(study: Study, answers: Answers, draws: int, seed: int) -> dict[str, dict[str, Any]]:
    """The main metric by sex and by age (split at the median), where the columns are there."""
    fields = study.scans.iloc[study.places(answers.rows)].reset_index(drop=True)
    groups: dict[str, dict[str, Array]] = {}
    if "sex" in fields:
        cells = np.array([clean(cell) for cell in fields["sex"]], dtype=object)
        levels = sorted({cell for cell in cells if cell})[:MAX_GROUPS]
        groups["sex"] = {level: cells == level for level in levels}
    if "age" in fields:
        ages = [to_number(clean(cell)) for cell in fields["age"]]
        age = np.array([np.nan if number is None else number for number in ages])
        if np.isfinite(age).any():
            middle = float(np.nanmedian(age))
            groups["age"] = {f"up to {middle:g}": age <= middle, f"over {middle:g}": age > middle}
    metric = main_metric(study)
    result: dict[str, dict[str, Any]] = {}
    for column, masks in groups.items():
        for level, mask in masks.items():
            some = answers.take(mask)
            entry: dict[str, Any] = {**counts(study, some), "metric": metric, "score": None}
            if len(some.rows) >= MIN_GROUP:
                found = bootstrap(
                    lambda weights, some=some: {  # type: ignore[misc]
                        metric: measure(study, some.labels, some.said["model"], weights)[metric]
                    },
                    some.subjects,
                    draws,
                    seed,
                )
                entry["score"] = interval(found[metric])
            result.setdefault(column, {})[level] = entry
    return result


def said_frame(study: Study, answers: Answers) -> pd.DataFrame:
    """The rows with what the model said of each class or column."""
    said = pd.DataFrame(answers.said["model"], columns=list(study.target.names))
    return pd.concat([answers.rows, said], axis=1)


def test_retest(study: Study, pairs: pd.DataFrame, draws: int, seed: int) -> dict[str, Any] | None:
    """Agreement between the first two sessions of a subject; None where too few have two.

    Of the probability of each class (of two classes, the second only) or of each value.
    """
    if len(pairs) < MIN_PAIRS:
        return None
    names = study.target.names
    shown = names[1:] if len(names) == 2 and study.target.is_classification else names
    found: dict[str, Any] = {
        name: agreement(pairs[[f"{name}_1", f"{name}_2"]].to_numpy(dtype=float), draws, seed)
        for name in shown
    }
    result: dict[str, Any] = {"subjects": len(pairs), "of": found}
    if study.target.is_classification:
        calls = [pairs[[f"{n}_{k}" for n in names]].to_numpy().argmax(axis=1) for k in (1, 2)]
        result["same_class"] = plain(np.mean(calls[0] == calls[1]))
    return result
