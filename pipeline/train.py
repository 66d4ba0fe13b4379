"""``uncus train``: networks on a prepared cohort, fold by fold."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import torch
import tyro

from uncus import NOTICE
from uncus.data import files
from uncus.data.augment import Augment
from uncus.data.cohorts.scans import read_table, write_table
from uncus.data.design import covariates
from uncus.data.design.splits import Splits, check_leakage, holdout_subjects, make_splits
from uncus.data.design.targets import Target, labelled, select
from uncus.data.errors import BadInput
from uncus.data.prepared_cohort import PreparedCohort
from uncus.models.build import ModelConfig
from uncus.pipeline import config, environment
from uncus.pipeline.parallel import train_members
from uncus.pipeline.runs import Member, Run, members
from uncus.pipeline.training import model_card, pretraining
from uncus.pipeline.training.bf16_check import check_bf16
from uncus.pipeline.training.member import precision
from uncus.pipeline.training.optimization import Optimization
from uncus.pipeline.training.task import Devices, Task

FREE = frozenset({"cohort", "devices", "jobs"})
"""Options that may change on the way: where the cohort lies and what computes."""


def train(cohort: Path | str, out: Path | str, **options: Any) -> Path:
    """Train a run on a prepared cohort; returns the run's folder.

    Parameters
    ----------
    cohort, out: folders of the cohort and of the run.
    options: fields of :class:`Train`, which are the options of ``uncus train``.

    Raises
    ------
    ValueError: options or data that do not allow it (BadInput for a file).
    """
    Train(Path(cohort), Path(out), **options).run()
    return Path(out)


@dataclass(frozen=True)
class Train:
    """Train networks on a prepared cohort: one for each fold and seed.

    A run with folds leaves predictions of every scan by networks that never saw its subject.
    """

    cohort: Annotated[Path, tyro.conf.Positional] = Path()
    """Folder made by uncus prepare."""
    out: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")] = Path()
    """Folder to write the run to."""
    target: tuple[str, ...] = ()
    """Column to predict; several for a regression."""
    classes: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=VALUES...")] = ()
    """Classes and their values, such as CN=0 AD=0.5,1,2; the last is the positive one."""
    regression: bool = False
    """Predict numbers rather than classes."""
    covariates: tuple[str, ...] = ()
    """Columns that are known of a person besides the scan and are given to the network, such as
    age sex; a prediction then asks for them. Never a diagnosis or a test that it rests on."""
    where: str = ""
    """Scans to use, such as "age >= 60"."""
    folds: int = 5
    """Parts of the subjects, each tested once; 1 is a single split with a fifth for testing."""
    validation: float = 0.15
    """Share of a fold's training subjects kept to choose the epoch; 0 keeps none."""
    stratify: tuple[str, ...] = ()
    """Columns whose values are spread evenly over the folds, besides the target, sex and age."""
    holdout: str = ""
    """Subjects never trained on: a file with their ids, or an expression such as "site == 'B'"."""
    splits: Path | None = None
    """Reuse the splits.tsv of another run."""
    seeds: int = 1
    """Networks a fold, averaged in predictions."""
    seed: int = 0
    """The first seed; fixes splits, weights, order and augmentation."""
    init_from: Path | None = None
    """Start from the weights of another run, fold by fold, and use its splits."""
    flip_average: bool = False
    """Predict the mean over a scan and its left-right mirror."""
    jobs: int = 1
    """Networks to train at once on this machine, each in its own process with its share of the
    CPU's threads; pays for small networks on a CPU."""
    resume: bool = False
    """Go on where a broken run stopped."""
    load: Annotated[Path | None, tyro.conf.arg(name="config", metavar="RUN/config.json")] = None
    """Take the options of another run; those given here win."""
    model: Annotated[ModelConfig, tyro.conf.OmitArgPrefixes] = field(default_factory=ModelConfig)
    optimization: Annotated[Optimization, tyro.conf.OmitArgPrefixes] = field(
        default_factory=Optimization
    )
    augment: Augment = field(default_factory=Augment)
    devices: Annotated[Devices, tyro.conf.OmitArgPrefixes] = field(default_factory=Devices)

    def __post_init__(self) -> None:
        for name in ("folds", "seeds", "jobs"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: must be at least 1")
        if not 0 <= self.validation < 0.5:
            raise ValueError(f"validation={self.validation}: must be from 0 to below 0.5")
        if self.init_from and self.splits:
            raise ValueError("--init-from brings its own splits; leave --splits out")
        if self.model.group_plus_literal:
            raise ValueError(
                "--group-plus-literal: such a network has no answer for one scan alone (its norm "
                "is over the batch and keeps no statistics), so no run can be made of it; leave it "
                "out for GN+ with running statistics"
            )
        both = sorted(set(self.covariates) & set(self.target))
        if both or len(set(self.covariates)) < len(self.covariates):
            raise ValueError(
                f"--covariates {' '.join(self.covariates)}: name each column once, and none that "
                "is the target"
            )
        if self.validation == 0 and self.optimization.patience:
            raise ValueError("early stopping (--patience) needs --validation above 0")

    @classmethod
    def defaults(cls, arguments: list[str]) -> "Train | None":
        """The options that ``--config FILE`` names, as defaults for the rest."""
        for i, argument in enumerate(arguments):
            name, _, value = argument.partition("=")
            if name == "--config":
                path = Path(value or (arguments[i + 1] if i + 1 < len(arguments) else ""))
                return config.from_dict(cls, files.read_json(path), path)
        return None

    def run(self) -> int:
        """Train every member, then write what all of them leave; returns the exit code."""
        for name, value in (("COHORT", self.cohort), ("RUN", self.out)):
            if value == Path():
                raise ValueError(f"{name} is missing; uncus train COHORT RUN --target COLUMN")
        if not self.target:
            raise ValueError("--target is missing; name the column to predict")
        cohort = PreparedCohort.open(self.cohort)
        run = Run(self.out)
        with files.locked(self.out, "run"):
            self.start(run, cohort)
            table, labels, target = self.scans(run, cohort)
            splits = self.subjects(run, cohort.table, table, labels)
            task = self.task(cohort, table, labels, target, splits)
            todo = members(splits.folds, self.seed, self.seeds)
            left = tuple(member for member in todo if not run.weights(member).exists())
            train_members(run, left, task, self.jobs)
            finish(run, task, todo)
        print(
            f"{self.out}: {len(todo)} networks trained; next: uncus evaluate {self.out}. {NOTICE}"
        )
        return 0

    def start(self, run: Run, cohort: PreparedCohort) -> None:
        """Write down what is run on what; refuse to compute wrongly, or to mix two runs."""
        accelerator = self.devices.accelerator
        on_gpu = accelerator != "cpu" and torch.cuda.is_available()
        check_bf16(precision(self.optimization.precision, accelerator), on_gpu)
        options = config.to_dict(replace(self, resume=False, load=None))
        del options["out"]
        path = run.config_path
        if path.exists():
            if not self.resume:
                raise BadInput(run.path, "holds a run", "go on with --resume, or name a new folder")
            # Read as options, so that one that is newer than the run has its default.
            before = config.to_dict(config.from_dict(Train, run.config, path))
            differing = [k for k, v in options.items() if before[k] != v and k not in FREE]
            if run.environment["cohort_fingerprint"] != cohort.fingerprint:
                differing.append("cohort (its content)")
            if differing:
                raise BadInput(
                    path,
                    f"the run was started with other options: {', '.join(differing)}",
                    "resume with the same ones, or name a new folder",
                )
            return
        facts = {**environment.describe(), "cohort_fingerprint": cohort.fingerprint}
        files.write_json(run.environment_path, facts)
        files.write_json(path, options)

    def scans(
        self, run: Run, cohort: PreparedCohort
    ) -> tuple[pd.DataFrame, np.ndarray[Any, Any], Target]:
        """The scans to use with their labels; the table's index is the position in the cohort."""
        target = Target.parse(self.target, self.classes, self.regression)
        table = select(cohort.table, self.where) if self.where else cohort.table
        target = target.resolve(table)
        table, labels, warnings = labelled(table, target)
        for warning in warnings:
            print(f"warning: {warning}")
        write_table(run.scans_path, table)
        return table, labels, target

    def subjects(
        self,
        run: Run,
        everybody: pd.DataFrame,
        table: pd.DataFrame,
        labels: np.ndarray[Any, Any],
    ) -> Splits:
        """The folds: those of this run, of the run it starts from, or new ones; never leaking."""
        path = run.splits_path
        shared = self.splits or (self.init_from and Run(self.init_from).splits_path)
        people = set(table["participant_id"])
        source = path if path.exists() else shared
        known = Splits.load(source) if source else None
        if known and people & set(known.frame["participant_id"]):
            splits = known.restricted(people)
        else:
            splits = make_splits(
                table,
                labels,
                folds=self.folds,
                seed=self.seed,
                validation=self.validation,
                holdout=holdout_subjects(self.holdout, everybody) if self.holdout else (),
                stratify=self.stratify,
            )
        missing = sorted(people - set(splits.frame["participant_id"]))
        if missing:
            raise BadInput(
                shared or path,
                f"{missing[0]} and {len(missing) - 1} more subjects have no fold",
                "add them, or leave them out with --where",
            )
        check_leakage(splits, table)
        if self.init_from:
            pretraining.check(Run(self.init_from), splits, table)
        splits.save(path)
        return splits

    def task(
        self,
        cohort: PreparedCohort,
        table: pd.DataFrame,
        labels: np.ndarray[Any, Any],
        target: Target,
        splits: Splits,
    ) -> Task:
        """Everything that the members share."""
        return Task(
            cohort=cohort,
            table=table,
            labels=labels,
            covariates=covariates.columns(table, self.covariates),
            covariate_names=self.covariates,
            target=target,
            splits=splits,
            model=replace(self.model, classes=len(target.names), covariates=len(self.covariates)),
            optimization=self.optimization,
            augment=self.augment,
            devices=self.devices,
            flip_average=self.flip_average,
            init_from=Run(self.init_from) if self.init_from else None,
        )


def finish(run: Run, task: Task, todo: tuple[Member, ...]) -> None:
    """What a run holds when all of its members are trained: predictions, and the sealed model."""
    predictions = [read_table(run.member_predictions(member)) for member in todo]
    write_table(run.predictions_path, pd.concat(predictions, ignore_index=True))
    model_card.write(run, task.cohort, task, todo)
