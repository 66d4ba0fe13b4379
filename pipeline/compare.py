"""``uncus compare``: what a batch size does to each norm, on one's own scans, in one command."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import tyro

from uncus import NOTICE
from uncus.data import files
from uncus.data.cohorts.scans import write_table
from uncus.data.design.splits import Splits, holdout_subjects
from uncus.data.prepared_cohort import PreparedCohort
from uncus.models.build import ModelConfig
from uncus.pipeline import config
from uncus.pipeline.comparison import page, table, training_dynamics
from uncus.pipeline.comparison.cells import (
    Cell,
    Rule,
    at_start,
    check_norm,
    grid,
    model_of,
    optimization_of,
    rule_text,
)
from uncus.pipeline.runs import Comparison, Member, Run, members
from uncus.pipeline.train import Train, finish
from uncus.pipeline.training.optimization import Optimization
from uncus.pipeline.training.parallel import Job, train_jobs
from uncus.pipeline.training.task import Devices, Task, steps, why_not


@dataclass(frozen=True)
class ComparedModel(ModelConfig):
    """The network, but for what is compared."""

    norm: Annotated[str, tyro.conf.Suppress] = "group"
    groups: Annotated[int | None, tyro.conf.Suppress] = None


@dataclass(frozen=True)
class ComparedOptimization(Optimization):
    """How weights are found, but for what is compared."""

    batch_size: Annotated[int, tyro.conf.Suppress] = 2
    freeze_norms: Annotated[bool, tyro.conf.Suppress] = False


@dataclass(frozen=True)
class ComparedDevices(Devices):
    """Where to train; each network has one device, so that batch sizes are what they say."""

    devices: Annotated[str, tyro.conf.Suppress] = "1"
    nodes: Annotated[int, tyro.conf.Suppress] = 1
    strategy: Annotated[str, tyro.conf.Suppress] = "auto"


@dataclass(frozen=True)
class Compare(Train):
    """Train every norm at every batch size, and say which differ by more than chance.

    The same command goes on where a broken one stopped. Options of training are those of uncus
    train; the learning rate and the weight decay are those at the base batch, and are scaled.
    """

    out: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")] = Path()
    """Folder for the runs, one a cell, the table, the plot and the page."""
    seeds: int = 3
    """Networks a fold, each measured by itself."""
    jobs: int = 1
    """Networks to train at once on the CPU, or on each GPU; all GPUs are used."""
    resume: Annotated[bool, tyro.conf.Suppress] = True
    norms: tuple[str, ...] = ("group", "batch", "instance")
    """Norms to compare, the first is the reference; +ws behind one adds weight standardization."""
    batch_sizes: tuple[int, ...] = (1, 2, 4, 8, 16)
    """Volumes a step."""
    groups: tuple[int, ...] = (8,)
    """Number of groups; several are compared with each other where a norm has groups."""
    base_batch: int = 2
    """The batch size that --lr and --weight-decay are meant for."""
    lr_rule: Rule = "sqrt"
    """How the learning rate grows with the batch: sqrt suits AdamW, linear is the GN paper's."""
    metric: str = ""
    """What the page reads: error, auc or balanced_accuracy of classes; mae, r2 of numbers."""
    draws: int = 1000
    """Resamples of subjects and seeds for the intervals."""
    transfer: tuple[str, ...] = ()
    """Columns to pre-train on first; each cell is then trained from scratch, from the pre-trained
    weights, and from them with frozen norms."""
    transfer_classes: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=VALUES...")] = ()
    """Classes of the pre-training, as --classes; without them it is a regression."""
    dynamics: bool = False
    """Also measure how smooth training is: loss and gradient along the steps, noise, dropout."""
    dynamics_steps: int = 100
    """Steps of each training that --dynamics looks at."""
    model: Annotated[ComparedModel, tyro.conf.OmitArgPrefixes] = field(
        default_factory=ComparedModel
    )
    optimization: Annotated[ComparedOptimization, tyro.conf.OmitArgPrefixes] = field(
        default_factory=ComparedOptimization
    )
    devices: Annotated[ComparedDevices, tyro.conf.OmitArgPrefixes] = field(
        default_factory=ComparedDevices
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in self.norms:
            check_norm(name)
        for name in ("norms", "batch_sizes", "groups"):
            values = getattr(self, name)
            if not values or len(set(values)) < len(values):
                raise ValueError(f"{name}={values}: give at least one, each once")
        if min(*self.batch_sizes, *self.groups, self.base_batch, self.dynamics_steps) < 1:
            raise ValueError("batch sizes, groups and steps must be at least 1")
        if self.model.channels_per_group is not None and len(self.groups) > 1:
            raise ValueError(
                f"--groups {' '.join(map(str, self.groups))} and --channels-per-group "
                f"{self.model.channels_per_group}: give one of the two"
            )
        if self.draws < 100:
            raise ValueError(f"draws={self.draws}: must be at least 100")
        if self.transfer and self.init_from:
            raise ValueError("--transfer makes its own pre-training; leave --init-from out")

    def run(self) -> int:
        """Train the grid, measure it, write table, plot and page; returns the exit code."""
        for name, value in (("COHORT", self.cohort), ("OUT", self.out)):
            if value == Path():
                raise ValueError(f"{name} is missing; uncus compare COHORT OUT --target COLUMN")
        if not self.target:
            raise ValueError("--target is missing; name the column to predict")
        cohort = PreparedCohort.open(self.cohort)
        folder = Comparison(self.out)
        with files.locked(self.out, "comparison"):
            files.write_json(folder.config_path, config.to_dict(replace(self, load=None)))
            cells = grid(self.norms, self.groups, self.batch_sizes)
            cannot: dict[str, str] = {}
            verbs = {cell: self.training(cell) for cell in cells}
            if self.transfer:
                self.common_folds(cohort, cells[0])
                first = {cell: self.pretraining(cell) for cell in cells}
                stopped = self.train(cohort, {f"pre-{c.name}": v for c, v in first.items()})[0]
                verbs = {}
                for cell, before in first.items():
                    verbs[cell] = self.training(cell)
                    for start in ("tuned", "frozen"):
                        other = at_start(cell, start)
                        if reason := stopped.get(f"pre-{cell.name}"):
                            cannot[other.name] = f"its pre-training: {reason}"
                        verbs[other] = replace(self.training(other), init_from=before.out)
            todo = {cell.name: verb for cell, verb in verbs.items() if cell.name not in cannot}
            failed, tasks = self.train(cohort, todo)
            cannot |= failed
            found = table.assess(
                list(verbs), {c.name: Run(v.out) for c, v in verbs.items()}, cannot, self
            )
            for entry in found["cells"]:
                if task := tasks.get(entry["name"]):
                    entry["steps"] = steps(task, 0)
            found["rule"] = rule_text(self.lr_rule, self.base_batch, self.optimization.lr)
            if self.dynamics:
                found["dynamics"] = training_dynamics.measure(self, cohort, tasks)
            table.write(self.out, found)
            page.write(self.out, found)
        print(page.plain_summary(found))
        print(f"{folder.page}. {NOTICE}")
        return 0

    def training(self, cell: Cell) -> Train:
        """The ordinary training of a cell."""
        shared = {
            name: getattr(self, name)
            for name in Train.__dataclass_fields__
            if name not in {"out", "model", "optimization", "devices", "load", "jobs"}
        }
        shared["model"] = model_of(cell, self.model, self.groups[0])
        shared["optimization"] = optimization_of(
            self.optimization, cell.batch, self.base_batch, self.lr_rule, cell.start == "frozen"
        )
        shared["devices"] = Devices(
            accelerator=self.devices.accelerator,
            workers=self.devices.workers,
            compile=self.devices.compile,
            channels_last=self.devices.channels_last,
            graphs=self.devices.graphs,
        )
        return Train(out=Comparison(self.out).cell(cell.name).path, **shared)

    def pretraining(self, cell: Cell) -> Train:
        """The training whose weights a cell may start from: other columns, every scan."""
        return replace(
            self.training(cell),
            out=Comparison(self.out).pretrained(cell.name).path,
            target=self.transfer,
            classes=self.transfer_classes,
            regression=not self.transfer_classes,
            where="",
        )

    def common_folds(self, cohort: PreparedCohort, cell: Cell) -> None:
        """The folds of pre-training and training: those of the task, and all others train only."""
        folder, verb = Comparison(self.out), self.training(cell)
        run = folder.folds
        table, labels, _ = verb.scans(run, cohort)
        frame = verb.subjects(run, cohort.table, table, labels).frame
        known = {*frame["participant_id"]}
        others = [p for p in dict.fromkeys(cohort.table["participant_id"]) if p not in known]
        kept = holdout_subjects(self.holdout, cohort.table) if self.holdout else ()
        columns = [name for name in frame.columns if name != "participant_id"]
        rows = [
            {"participant_id": p, **dict.fromkeys(columns, "holdout" if p in kept else "train")}
            for p in others
        ]
        everybody = pd.concat([frame, pd.DataFrame(rows, columns=frame.columns)])
        Splits(everybody.reset_index(drop=True)).save(folder.all_subjects_path)

    def train(
        self, cohort: PreparedCohort, verbs: dict[str, Train]
    ) -> tuple[dict[str, str], dict[str, Task]]:
        """Train what is left of the cells; why some cannot be, and the tasks of the others."""
        scans: Any = None
        jobs: list[Job] = []
        tasks: dict[str, Task] = {}
        wholes: dict[str, tuple[Run, tuple[Member, ...]]] = {}
        cannot: dict[str, str] = {}
        for name, verb in verbs.items():
            run = Run(verb.out)
            verb.start(run, cohort)
            if scans is None:
                scans = verb.scans(run, cohort)
            table, labels, target = scans
            write_table(run.scans_path, table)
            path = run.splits_path
            if self.transfer and not path.exists():
                Splits.load(Comparison(self.out).all_subjects_path).save(path)
            splits = verb.subjects(run, cohort.table, table, labels)
            task = verb.task(cohort, table, labels, target, splits)
            todo = members(splits.folds, self.seed, self.seeds)
            left = [member for member in todo if not run.weights(member).exists()]
            if left and (reason := why_not(task)):
                cannot[name] = reason
                continue
            tasks[name], wholes[name] = task, (run, todo)
            jobs += [Job(name, f"{name} {m.name}", run, m, task) for m in left]
        if jobs:
            epochs = self.optimization.epochs
            cannot |= train_jobs(jobs, self.jobs, self.devices.accelerator, epochs)
        for name, (run, todo) in wholes.items():
            if name not in cannot and not run.is_sealed():
                finish(run, tasks[name], todo)
        return cannot, {name: task for name, task in tasks.items() if name not in cannot}
