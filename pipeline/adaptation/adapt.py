"""``uncus adapt``: a trained run meets a new site."""

import difflib
from dataclasses import KW_ONLY, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
import tyro
from scipy.special import softmax

from uncus import NOTICE
from uncus.data import files
from uncus.data.errors import BadInput
from uncus.data.prepared_cohort import PreparedCohort
from uncus.data.tables import clean, read_table, write_table
from uncus.data.text import counted
from uncus.models.weights import save_weights
from uncus.pipeline import config, environment
from uncus.pipeline.adaptation.choice import choose, cross_validated
from uncus.pipeline.adaptation.norms import why_none
from uncus.pipeline.adaptation.plan import Plan, plan
from uncus.pipeline.adaptation.registry import ADAPTATIONS
from uncus.pipeline.adaptation.source import source_facts
from uncus.pipeline.builtin.catalog import named_run
from uncus.pipeline.evaluation.external import ExternalScans, Overlap
from uncus.pipeline.progress_bars import track
from uncus.pipeline.run_files import log
from uncus.pipeline.runs import Run, check_free
from uncus.pipeline.training import model_card as trained_card
from uncus.pipeline.training.checkpoints import writing
from uncus.pipeline.training.domain import too_few_tests
from uncus.pipeline.training.member import test_predictions
from uncus.pipeline.training.options import TrainingOptions
from uncus.pipeline.training.run_setup import saved
from uncus.pipeline.trust.calibration import MIN_SUBJECTS
from uncus.pipeline.trust.domain import FEWEST
from uncus.pipeline.trust.out_of_fold import OutOfFold
from uncus.pipeline.trust.reliability import Reliability

AUTO = "auto"


@dataclass(frozen=True)
class Adapt:
    """Adapt a run to the scans of a new site, with or without labels of it; writes a new run.

    Labels of the subjects that the new run is tested on are used for nothing but its report.
    """

    run_folder: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")] = Path()
    """Folder written by uncus train, of classes, or a built-in model."""
    cohort: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="COHORT")] = Path()
    """The new site, prepared with --like RUN."""
    out: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")] = Path()
    """Folder of the adapted run."""
    _: KW_ONLY
    method: str = AUTO
    """Without labels: none, statistics, entropy, pseudo, coral, dann or calibration. With --labels
    also head, head+norms, network, joint or prototypes. auto chooses: by cross-validation inside
    the labelled subjects if there are 3 of each class, otherwise without any label."""
    labels: int = 0
    """Subjects of each class whose labels may be used, drawn at random; they are never tested."""
    seed: int = 0
    """Seed of the labelled subjects, of the folds and of the training."""
    target: tuple[str, ...] = ()
    """Column of the labels in the new cohort, if its name differs."""
    classes: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=VALUES...")] = ()
    """Values of the run's classes in the new cohort, if they differ, such as CN=0 AD=0.5,1,2."""
    where: str = ""
    """Scans of the new cohort to use, such as "age >= 60"."""
    overlap: Overlap = "refuse"
    """Subjects named like subjects of the training: refuse; leave-out; or other-people, if equal
    names are different people, as in cohorts that count sub-01, sub-02 ..."""
    source: Annotated[Path | None, tyro.conf.arg(metavar="COHORT")] = None
    """The cohort that RUN was trained on, where it was moved; coral, dann and joint need it."""
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    """Device to train on."""

    def __post_init__(self) -> None:
        if self.method not in (AUTO, *ADAPTATIONS):
            close = difflib.get_close_matches(self.method, [AUTO, *ADAPTATIONS], n=1)
            remedy = f"did you mean {close[0]!r}?" if close else f"use {', '.join(ADAPTATIONS)}"
            raise ValueError(f"--method {self.method}: no such method; {remedy}")
        if not 0 <= self.labels <= 10_000 or not 0 <= self.seed < 2**31:
            raise ValueError(f"labels={self.labels}, seed={self.seed}: must not be negative")
        if self.method != AUTO and ADAPTATIONS[self.method].labels and not self.labels:
            raise ValueError(
                f"--method {self.method} needs labels of the new site; add --labels 10"
            )

    def run(self) -> int:
        """Adapt every network, then complete the run; returns the exit code."""
        from uncus.pipeline.model_card import card as model_card

        if Path() in (self.run_folder, self.cohort, self.out):
            raise ValueError("uncus adapt RUN COHORT OUT: a folder is missing")
        scans = ExternalScans(
            PreparedCohort.open(self.cohort), self.target, self.classes, self.where, self.overlap
        )
        check_free(self.out, but="a run")
        needed = self.method != AUTO and ADAPTATIONS[self.method].source
        todo = plan(
            Run(named_run(self.run_folder) or self.run_folder),
            scans,
            self.labels,
            self.seed,
            self.accelerator,
            self.source,
            needed,
        )
        if self.method == "statistics" and (reason := why_none(todo.network(todo.members[0]))):
            raise BadInput(self.run_folder, reason, "choose another --method")
        if too_few_tests(todo.task):
            print(
                f"warning: fewer than {FEWEST} scans are tested: {self.out} will not check whether "
                "a new scan is like those that it was trained on"
            )
        out = Run(self.out)
        with files.locked(out.path, "run"):
            self.begin(out, todo)
            method, facts = self.choice(todo)
            for member in track(todo.members, "adapting"):
                if out.weights(member).exists():
                    continue
                network = todo.network(member)
                ADAPTATIONS[method].apply(network, todo.site(member))
                predictions = test_predictions(network, member, todo.task)
                write_table(out.member_predictions(member), predictions)
                with writing(out.weights(member)):
                    out.model_folder.mkdir(exist_ok=True)
                    save_weights(network, out.weights(member))
            tables = [read_table(out.member_predictions(member)) for member in todo.members]
            write_table(out.predictions_path, pd.concat(tables, ignore_index=True))
            task = replace(todo.task, labels=todo.seen, adapted=facts)
            reliability = self.reliability(todo, method)
            trained_card.write(out, task, todo.members, reliability)
            model_card.write(out)
        labelled = any(map(clean, pd.concat(tables)["true"]))
        following = f"; next: uncus evaluate {out.path}" if labelled else ""
        print(f"{out.path}: {facts['summary']}{following}. {NOTICE}")
        return 0

    def begin(self, out: Run, todo: Plan) -> None:
        """Write the options of a new run, or continue one of the same.

        Raises
        ------
        BadInput: the folder has another run, or a finished one.
        """
        names = ("method", "labels", "seed", "where", "overlap", "target", "classes")
        options = {name: config.to_json(getattr(self, name)) for name in names}
        options |= {"run": files.sha256(todo.run.card_path), "cohort": todo.task.cohort.fingerprint}
        if out.config_path.exists() or out.is_sealed():
            same = out.environment_path.exists() and out.environment.get("adapted") == options
            if not same or out.is_sealed():
                raise BadInput(out.path, "contains a run", "choose a new folder")
        call = environment.this_call()
        facts = call | environment.describe()
        facts |= {"cohort_fingerprint": todo.task.cohort.fingerprint, "adapted": options}
        files.write_json(out.environment_path, facts)
        write_table(out.scans_path, todo.task.table)
        todo.task.splits.save(out.splits_path)
        files.write_json(out.config_path, saved(self.as_training(todo)))
        log.append(out.log_path, f"{call['command']}  (uncus {call['code']})")

    def as_training(self, todo: Plan) -> TrainingOptions:
        """The run's options as those of a training that starts from another run's weights."""
        task = todo.task
        classes = (f"{name}={','.join(cells)}" for name, cells in task.target.classes.items())
        return TrainingOptions(
            cohort=self.cohort,
            out=self.out,
            target=task.target.columns,
            classes=tuple(classes),
            covariates=task.covariate_names,
            where=self.where,
            folds=task.splits.folds,
            validation=0.0,
            seeds=len(todo.members) // task.splits.folds,
            seed=todo.members[0].seed,
            init_from=todo.run.path,
            flip_average=task.flip_average,
            recipe="none",
            model=task.model,
            optimization=task.optimization,
            augment=task.augment,
            devices=task.devices,
        )

    def choice(self, todo: Plan) -> tuple[str, dict[str, Any]]:
        """The method, and what the model card says of the adaptation."""
        method, first = self.method, todo.members[0]
        chosen: dict[str, Any] = {}
        if method == AUTO:
            method, scores, by = choose(
                lambda: todo.network(first), todo.site(first), todo.subjects(first)
            )
            chosen = {"chosen_by": by, "scores": scores}
        name, cohort = todo.run.path.resolve().name, self.cohort.resolve().name
        subjects = todo.task.table["participant_id"].nunique()
        seen = f"{counted(self.labels, 'label')} a class" if self.labels else "no labels"
        summary = (
            f"{name} adapted to {cohort} by {method} ({ADAPTATIONS[method].summary}) with {seen}"
        )
        if chosen:
            summary += f", chosen by {chosen['chosen_by']}"
        synthetic = todo.task.cohort.synthetic
        if synthetic is not None:
            chosen["synthetic"] = synthetic
        return method, {
            "run": name,
            "card_sha256": files.sha256(todo.run.card_path),
            "cohort": cohort,
            "method": method,
            "labels": self.labels,
            "seed": self.seed,
            "subjects": int(subjects),
            "summary": summary,
            "source": source_facts(todo.run),
            **chosen,
        }

    def reliability(self, todo: Plan, method: str) -> Reliability:
        """Calibration and conformal sets from cross-validated answers for the labelled subjects."""
        names, first = todo.task.target.names, todo.members[0]
        if self.labels < MIN_SUBJECTS:
            reason = f"it was adapted with fewer than {MIN_SUBJECTS} labels of a class"
            return Reliability(names, False, None, None, reason)
        site, subjects = todo.site(first), todo.subjects(first)
        outputs = cross_validated(method, lambda: todo.network(first), site, subjects)
        rows = todo.task.rows(first.fold, "train")[site.shown]
        scans = todo.task.table.iloc[rows][["participant_id", "session_id"]].reset_index(drop=True)
        folds = np.zeros(len(rows), dtype=int)
        labels = site.labelled().labels
        return Reliability.fit(OutOfFold(names, scans, folds, labels, softmax(outputs, axis=1)))


def adapt(run: Path | str, cohort: Path | str, out: Path | str, **options: Any) -> Path:
    """Adapt a run to a new site; returns the adapted run's folder.

    Parameters
    ----------
    run, cohort, out: folders of the run, of the new site's cohort and of the new run.
    options: fields of :class:`Adapt`, which are the options of ``uncus adapt``.

    Raises
    ------
    ValueError: unsuitable options or data (BadInput for a file or folder).
    """
    Adapt(Path(run), Path(cohort), Path(out), **options).run()
    return Path(out)
