"""``uncus compare``: train and compare norms at several batch sizes."""

import re
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro

from uncus import NOTICE
from uncus.data import files
from uncus.data.prepared_cohort import PreparedCohort
from uncus.models.build import ModelConfig
from uncus.pipeline import config
from uncus.pipeline.comparison import page, sample_size, table, training_dynamics
from uncus.pipeline.comparison.cell_training import CellOptions, common_folds, train_cells
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
from uncus.pipeline.comparison.summary import plain_summary
from uncus.pipeline.runs import Comparison, Run, check_free
from uncus.pipeline.training.optimization import Optimization
from uncus.pipeline.training.options import TrainingOptions
from uncus.pipeline.training.run_setup import SETTING_UP, label_scans, plan
from uncus.pipeline.training.task import Devices, optimizer_steps


@dataclass(frozen=True)
class ComparedModel(ModelConfig):
    """The network's architecture, except for what is compared."""

    norm: Annotated[str, tyro.conf.Suppress] = "group"
    groups: Annotated[int | None, tyro.conf.Suppress] = None


@dataclass(frozen=True)
class ComparedOptimization(Optimization):
    """How the weights are optimized, except for what is compared."""

    batch_size: Annotated[int, tyro.conf.Suppress] = 2
    freeze_norms: Annotated[bool, tyro.conf.Suppress] = False


@dataclass(frozen=True)
class ComparedDevices(Devices):
    """Devices to train on, one per network, so that the batch sizes are exact."""

    devices: Annotated[str, tyro.conf.Suppress] = "1"
    nodes: Annotated[int, tyro.conf.Suppress] = 1
    strategy: Annotated[Literal["auto", "ddp"], tyro.conf.Suppress] = "auto"


@dataclass(frozen=True)
class Compare(TrainingOptions):
    """Train every norm at every batch size, and test which differ significantly.

    The same command continues an interrupted comparison, and with more --seeds a finished one. The
    training options are those of uncus train; learning rate and weight decay apply to the base
    batch and are scaled for the others.
    """

    out: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")] = Path()
    """Folder for the runs (one per cell), the table, the plots and the page."""
    seeds: int = 3
    """Networks per fold, each evaluated separately. With fewer than 5 most differences are
    inconclusive, with one all; --plan says how many are needed. Fix the number in advance: adding
    seeds until a difference is significant finds differences that are not there."""
    resume: Annotated[bool, tyro.conf.Suppress] = True
    recipe: Annotated[Literal["none"], tyro.conf.Suppress] = "none"
    only: tuple[str, ...] = ()
    """Train these cells alone, such as group-b2, perhaps one fold or seed of them (group-b2
    fold-1): jobs on any machines train a comparison together. Then --finish completes it."""
    finish: bool = False
    """Write the table and the page, once all cells are trained (with --only)."""
    norms: tuple[str, ...] = ("group", "batch", "instance")
    """Norms to compare, the first as the reference; a suffix +ws adds weight standardization."""
    batch_sizes: tuple[int, ...] = (1, 2, 4, 8, 16)
    """Batch sizes to compare, in volumes per step."""
    groups: tuple[int, ...] = (8,)
    """Number of groups; several are compared for every norm that has groups."""
    base_batch: int = 2
    """Batch size that --lr and --weight-decay apply to."""
    lr_rule: Rule = "sqrt"
    """Scaling of --lr with the batch size: sqrt suits AdamW, linear is that of the GN paper."""
    metric: str = ""
    """Metric to compare by: error, auc or balanced_accuracy for classes; mae or r2 for numbers."""
    effect: float | None = None
    """Smallest difference worth seeing, in units of the metric: the margin within which two cells
    are equal. By default 0.03, and for a MAE 5% of that of a constant prediction."""
    so_far: bool = False
    """Train nothing; write the table and the page of the networks that are trained so far."""
    plan: bool = False
    """Train nothing; say how many test subjects, folds and seeds the differences need, by the
    variances of this comparison, which is the pilot (uncus compare OUT --plan)."""
    transfer: tuple[str, ...] = ()
    """Columns to pre-train on; each cell is then trained from scratch, from the pre-trained
    weights, and from these with frozen norms."""
    transfer_classes: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=VALUES...")] = ()
    """Classes of the pre-training, as in --classes; a regression without them."""
    dynamics: bool = False
    """Also measure the training dynamics: smoothness of loss and gradients, noise, dropout."""
    dynamics_steps: int = 100
    """Number of steps that --dynamics trains at the base batch; as many volumes at the others."""
    dynamics_batches: tuple[int, ...] = ()
    """Batch sizes of --dynamics; by default the one nearest to the base batch."""
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
                raise ValueError(f"{name}={values}: name at least one, and each once")
        if min(*self.batch_sizes, *self.groups, self.base_batch, self.dynamics_steps) < 1:
            raise ValueError("batch sizes, groups and steps must be at least 1")
        if self.model.channels_per_group is not None and len(self.groups) > 1:
            raise ValueError(
                f"several --groups ({' '.join(map(str, self.groups))}) and --channels-per-group "
                f"{self.model.channels_per_group} cannot be combined; leave one out"
            )
        if unknown := set(self.dynamics_batches) - set(self.batch_sizes):
            raise ValueError(f"--dynamics-batches {min(unknown)}: must be of --batch-sizes")
        if self.effect is not None and not 0 < self.effect < float("inf"):
            raise ValueError(f"effect={self.effect}: must be above 0")
        if self.transfer and self.init_from:
            raise ValueError("--transfer trains its own pre-training; leave out --init-from")

    def run(self) -> int:
        """Train all cells, write the table, plots and page; returns the exit code."""
        if self.plan:
            pilot = self.cohort if self.out == Path() else self.out
            print(sample_size.planned(pilot, self.effect))
            return 0
        self.check_given("compare", "OUT")
        check_free(self.out, but="a comparison")
        cohort, folder = PreparedCohort.open(self.cohort), Comparison(self.out)
        cells = self.chosen_cells()
        trainings = {cell: self.training(cell) for cell in cells}
        one = trainings[cells[0]]
        scans = label_scans(one, cohort)
        plan(one, cohort, scans)  # nothing is written if the scans or the folds are unsuitable
        if self.metric:
            table.check_metric(self.metric, scans.target.regression)
        with files.locked(self.out, "comparison", wait=SETTING_UP):
            saved = replace(self, load=None, only=(), finish=False, so_far=False)
            files.write_json(folder.config_path, config.to_dict(saved))
            folds = None
            if self.transfer:
                shared = replace(one, out=folder.folds.path)
                folds = common_folds(shared, cohort, scans, folder.all_subjects_path)
        cannot: dict[str, str] = {}
        if self.transfer:
            first = {cell: self.pretraining(cell) for cell in cells}
            named = {f"pre-{cell.name}": options for cell, options in first.items()}
            all_scans = label_scans(next(iter(first.values())), cohort)
            stopped, _ = train_cells(named, cohort, all_scans, self.jobs, folds, self.so_far)
            trainings = {}
            for cell, pretraining in first.items():
                trainings[cell] = self.training(cell)
                for start in ("tuned", "frozen"):
                    other = at_start(cell, start)
                    if reason := stopped.get(f"pre-{cell.name}"):
                        cannot[other.name] = f"its pre-training: {reason}"
                    elif self.so_far and not Run(pretraining.out).is_sealed():
                        cannot[other.name] = "its pre-training is not finished"
                    # ``folds`` has the splits.
                    trainings[other] = replace(
                        self.training(other), init_from=pretraining.out, splits=None
                    )
        todo = {c.name: options for c, options in trainings.items() if c.name not in cannot}
        failed, tasks = train_cells(todo, cohort, scans, self.jobs, folds, self.so_far)
        design = Design(**{f.name: getattr(self, f.name) for f in fields(Design)})
        if self.only:
            if self.dynamics:
                training_dynamics.measure(design, cohort, tasks)
            print(
                f"{self.out}: {' '.join(self.only)} trained; once all cells are: uncus compare "
                f"{self.cohort} {self.out} --finish. {NOTICE}"
            )
            return 0
        with files.locked(self.out, "comparison", wait=SETTING_UP):
            runs = {cell.name: Run(options.out) for cell, options in trainings.items()}
            result = table.assess(list(trainings), runs, cannot | failed, design, tasks)
            for entry in result["cells"]:
                if task := tasks.get(entry["name"]):
                    entry["steps"] = optimizer_steps(task, 0)
            result["rule"] = rule_text(self.lr_rule, self.base_batch, self.optimization.lr)
            if self.dynamics:
                result["dynamics"] = training_dynamics.measure(design, cohort, tasks)
            table.write(self.out, result)
            page.write(self.out, result)
        print(plain_summary(result))
        print(f"{folder.page}. {NOTICE}")
        return 0

    def chosen_cells(self) -> tuple[Cell, ...]:
        """The cells to train, before their other starts (``transfer``): those of ``only``, or all.

        Raises
        ------
        ValueError: ``only`` names something else, or single networks that others start from.
        """
        cells = grid(self.norms, self.groups, self.batch_sizes)
        names = [cell.name for cell in cells]
        for name in self.networks():
            if self.transfer or not re.match("(fold|seed)-", name):
                raise ValueError(f"--only {name}: must be of {', '.join(names)}")
        return tuple(cell for cell in cells if cell.name in self.only) or cells

    def networks(self) -> tuple[str, ...]:
        """The folds and seeds of ``only``."""
        names = {cell.name for cell in grid(self.norms, self.groups, self.batch_sizes)}
        return tuple(name for name in self.only if name not in names)

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
        one_device = {"devices": "1", "nodes": 1, "strategy": "auto"}
        shared["devices"] = Devices(**asdict(self.devices) | one_device)
        shared["only"] = self.networks()
        return CellOptions(out=Comparison(self.out).cell(cell.name).path, **shared)

    def pretraining(self, cell: Cell) -> TrainingOptions:
        """The options of a cell's pre-training: other columns, and all scans."""
        return replace(
            self.training(cell),
            out=Comparison(self.out).pretrained(cell.name).path,
            target=self.transfer,
            classes=self.transfer_classes,
            regression=not self.transfer_classes,
            where="",
        )
