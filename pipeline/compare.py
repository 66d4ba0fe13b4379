"""``uncus compare``: what a batch size does to each norm, on one's own scans, in one command."""

from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated

import tyro

from uncus import NOTICE
from uncus.data import files
from uncus.data.prepared_cohort import PreparedCohort
from uncus.models.build import ModelConfig
from uncus.pipeline import config
from uncus.pipeline.comparison import page, table, training_dynamics
from uncus.pipeline.comparison.cell_training import common_folds, train_cells
from uncus.pipeline.comparison.cells import (
    Cell,
    Design,
    Rule,
    at_start,
    check_norm,
    grid,
    model_of,
    optimization_of,
    rule_text,
)
from uncus.pipeline.runs import Comparison, Run
from uncus.pipeline.training.optimization import Optimization
from uncus.pipeline.training.options import TrainingOptions
from uncus.pipeline.training.task import Devices, steps


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
class Compare(TrainingOptions):
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
        self.check_given("compare", "OUT")
        cohort, folder = PreparedCohort.open(self.cohort), Comparison(self.out)
        with files.locked(self.out, "comparison"):
            files.write_json(folder.config_path, config.to_dict(replace(self, load=None)))
            cells = grid(self.norms, self.groups, self.batch_sizes)
            trainings = {cell: self.training(cell) for cell in cells}
            cannot: dict[str, str] = {}
            folds = None
            if self.transfer:
                shared = replace(trainings[cells[0]], out=folder.folds.path)
                folds = common_folds(shared, cohort, folder.all_subjects_path)
                first = {cell: self.pretraining(cell) for cell in cells}
                named = {f"pre-{cell.name}": options for cell, options in first.items()}
                stopped, _ = train_cells(named, cohort, self.jobs, folds)
                trainings = {}
                for cell, pretraining in first.items():
                    trainings[cell] = self.training(cell)
                    for start in ("tuned", "frozen"):
                        other = at_start(cell, start)
                        if reason := stopped.get(f"pre-{cell.name}"):
                            cannot[other.name] = f"its pre-training: {reason}"
                        trainings[other] = replace(self.training(other), init_from=pretraining.out)
            todo = {c.name: options for c, options in trainings.items() if c.name not in cannot}
            failed, tasks = train_cells(todo, cohort, self.jobs, folds)
            design = Design(**{f.name: getattr(self, f.name) for f in fields(Design)})
            runs = {cell.name: Run(options.out) for cell, options in trainings.items()}
            result = table.assess(list(trainings), runs, cannot | failed, design)
            for entry in result["cells"]:
                if task := tasks.get(entry["name"]):
                    entry["steps"] = steps(task, 0)
            result["rule"] = rule_text(self.lr_rule, self.base_batch, self.optimization.lr)
            if self.dynamics:
                result["dynamics"] = training_dynamics.measure(design, cohort, tasks)
            table.write(self.out, result)
            page.write(self.out, result)
        print(page.plain_summary(result))
        print(f"{folder.page}. {NOTICE}")
        return 0

    def training(self, cell: Cell) -> TrainingOptions:
        """The options of a cell's run."""
        shared = {
            option.name: getattr(self, option.name)
            for option in fields(TrainingOptions)
            if option.name not in {"out", "model", "optimization", "devices", "load", "jobs"}
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
        return TrainingOptions(out=Comparison(self.out).cell(cell.name).path, **shared)

    def pretraining(self, cell: Cell) -> TrainingOptions:
        """The options of the run that a cell may start from: other columns, every scan."""
        return replace(
            self.training(cell),
            out=Comparison(self.out).pretrained(cell.name).path,
            target=self.transfer,
            classes=self.transfer_classes,
            regression=not self.transfer_classes,
            where="",
        )
