"""``uncus evaluate``: metrics with intervals, compared with baselines on the same folds."""

from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from uncus import NOTICE
from uncus.data import files
from uncus.data.prepared_cohort import PreparedCohort
from uncus.data.tables import find_column, write_table
from uncus.pipeline.builtin.catalog import is_built_in, named_run
from uncus.pipeline.environment import torch_device
from uncus.pipeline.evaluation.assessment import assess
from uncus.pipeline.evaluation.external import (
    ExternalScans,
    Overlap,
    predict_external,
)
from uncus.pipeline.evaluation.paired import compare
from uncus.pipeline.evaluation.predictions import Predicted, Study
from uncus.pipeline.evaluation.run_facts import run_facts
from uncus.pipeline.prediction.output import check_writable
from uncus.pipeline.runs import Run, check_free
from uncus.pipeline.trust.domain import synthetic_warning

if TYPE_CHECKING:
    from uncus.pipeline.robustness.trial import Trial


@dataclass(frozen=True)
class Evaluate:
    """Measure a run on its held-out scans, or on another cohort; writes report.json and .html."""

    run_folder: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")] = Path()
    """Folder written by uncus train; with --on also a model without its run, or the name of a
    built-in model (uncus models)."""
    baseline: tuple[str, ...] = ()
    """Columns to predict from instead of the image: each alone, and all of them together."""
    draws: int = 2000
    """Resamples of subjects for the intervals."""
    seed: int = 0
    """Seed of the resamples."""
    _: KW_ONLY
    against: Annotated[Path | None, tyro.conf.arg(metavar="RUN")] = None
    """Another run with the same target, to compare with on the scans that both predicted: paired
    differences with intervals."""
    on: Annotated[Path | None, tyro.conf.arg(metavar="COHORT")] = None
    """Another prepared cohort with labels (external evaluation): all networks predict each of its
    scans. Subjects that the run was trained on are refused."""
    out: Path | None = None
    """Folder of the report on another cohort; by default RUN/external/COHORT."""
    target: tuple[str, ...] = ()
    """Column of the labels in the other cohort, if its name differs."""
    classes: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=VALUES...")] = ()
    """Values of the run's classes in the other cohort, if they differ, such as CN=0 AD=0.5,1,2."""
    where: str = ""
    """Scans of the other cohort to use, such as "age >= 60"."""
    overlap: Overlap = "refuse"
    """Subjects named like subjects of the training: refuse; leave-out; or other-people, if equal
    names are different people, as in cohorts that count sub-01, sub-02 ..."""
    device: str = "cpu"
    """Device to predict the other cohort on, or disturbed scans: cpu, cuda, cuda:1 ..."""
    robust: bool = False
    """Also disturb the scans (noise, bias field, contrast, blur, shift, rotation, missing slices)
    and attack the networks (FGSM, PGD), at graded levels; writes robustness.html. Takes over a
    hundred times as long as predicting; the same command continues where it was interrupted."""
    robust_subjects: int = 0
    """Subjects for --robust at most, drawn at random; 0 for all."""
    cohort: Path | None = None
    """The run's prepared cohort, if it was moved; for --robust."""

    def __post_init__(self) -> None:
        if self.draws < 100:
            raise ValueError(f"draws={self.draws}: must be at least 100")
        if self.seed < 0:
            raise ValueError(f"seed={self.seed}: must not be negative")
        for name in ("out", "target", "classes", "where"):
            if getattr(self, name) and not self.on:
                raise ValueError(f"--{name} is for another cohort; add --on COHORT")
        if self.robust_subjects < 0:
            raise ValueError(f"robust_subjects={self.robust_subjects}: must not be negative")
        if (self.robust_subjects or self.cohort) and not self.robust:
            raise ValueError("--robust-subjects and --cohort are for --robust; add it")

    def run(self) -> int:
        """Measure, write and print; returns the exit code."""
        from uncus.pipeline.evaluation import report, terminal
        from uncus.pipeline.model_card import card as model_card

        if self.run_folder == Path():
            raise ValueError("RUN is missing; uncus evaluate RUN")
        torch_device(self.device)
        run = Run(named_run(self.run_folder) or self.run_folder)
        out = self.written_to(run)
        curves = {} if self.on else run.training_curves()
        found = self.predictions(run)
        trial = self.trial(run, found) if self.robust else None
        other = self.predictions(Run(self.against)) if self.against else None
        if self.on:
            write_table(out.predictions_path, found.predictions)
        result = assess(
            found.study, found.predictions, self.baseline, self.draws, self.seed, found.facts
        )
        known = run.card.get("covariates", {}).values()
        result.report["warnings"][:0] = [
            *synthetic_warning(run.card),
            *(one["tie"]["warning"] for one in known if one.get("tie", {}).get("warning")),
        ]
        if not self.on:
            name_folds(result.report["folds"], found.study, run)
        if self.against and other:
            against = Run(self.against).path.resolve().name
            result.report["against"] = compare(found, other, against, self.draws, self.seed)
        result.report["run"] = run_facts(run)
        name = run.path.resolve().name
        files.write_json(out.report_path, result.report)
        files.write_text(out.report_page, report.page(name, result, curves))
        if not self.out:
            model_card.write(run)
        terminal.show(name, result.report)
        if trial:
            self.disturb(trial, out)
            if not self.out:
                model_card.write(run)
        print(f"{out.report_page}. {NOTICE}")
        return 0

    def trial(self, run: Run, found: Predicted) -> "Trial":
        """The scans to disturb, and who judges them; raises BadInput where they are not there."""
        from uncus.pipeline.robustness.trial import Trial

        if self.on:
            whole = Trial.other(run, PreparedCohort.open(self.on), found)
        else:
            whole = Trial.own(run, run.cohort(self.cohort), found)
        return whole.some(self.robust_subjects, self.seed)

    def disturb(self, trial: "Trial", out: Run) -> None:
        """Measure disturbed scans, write and print."""
        from uncus.pipeline.robustness import page, summary
        from uncus.pipeline.robustness.measurement import robustness

        with files.locked(out.path, "robustness"):
            result = robustness(trial, out, self.draws, self.seed, self.device)
            shown = page.page(result)
            files.write_json(out.robustness_path, result)
            files.write_text(out.robustness_page, shown)
        print(f"{summary.headline(result)} {out.robustness_page}")

    def predictions(self, run: Run) -> Predicted:
        """The run's own predictions of its test scans, or those of the other cohort."""
        shared = bool(self.on) and not run.scans_path.exists()  # a model without its run
        if not shared and (warning := run.verify_results()):
            print(f"warning: {warning}")
        if not self.on:
            study = Study.of(run.scans(), run.target, run.splits(), run.card.get("covariates", ()))
            return Predicted(study, run.predictions(), {})
        cohort = PreparedCohort.open(self.on)
        scans = ExternalScans(cohort, self.target, self.classes, self.where, self.overlap)
        return predict_external(run, scans, self.device)

    def written_to(self, run: Run) -> Run:
        """Where the report is written: to the run, or to a folder for the other cohort."""
        if run.path == run.model_folder or is_built_in(run.path):
            given = {"--on COHORT": self.on, "--out for the report": self.out}
            if missing := [option for option, value in given.items() if not value]:
                add = " and ".join(missing)
                raise ValueError(f"{run.path} is a model without its run; add {add}")
        if not self.on:
            return run
        out = Run(self.out) if self.out else run.external(self.on.resolve().name)
        check_free(self.out or out.path)
        check_writable(next(path for path in (out.path, *out.path.parents) if path.exists()))
        return out


def name_folds(folds: list[dict[str, Any]], study: Study, run: Run) -> None:
    """Add the site that each fold tests, of a run whose folds are by site."""
    by = run.config.get("folds") if run.config_path.exists() else None
    column = find_column(study.scans, [by.lower()]) if isinstance(by, str) else None
    for row in folds if column else ():
        tested = study.scans["participant_id"].isin(study.splits.subjects(row["fold"], "test"))
        row["tested"] = f"{by} {' '.join(sorted(set(study.scans.loc[tested, column])))}"


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
    verb = Evaluate(Path(run), **options)
    verb.run()
    return verb.written_to(Run(named_run(Path(run)) or Path(run))).report()
