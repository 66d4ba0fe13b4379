"""Options of a training, shared by ``uncus train`` and ``uncus compare``."""

import contextlib
import io
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar, get_type_hints

import tyro

from uncus.data import files
from uncus.data.augment import Augment
from uncus.models.build import ModelConfig
from uncus.pipeline import config
from uncus.pipeline.runs import Run
from uncus.pipeline.training.optimization import Optimization
from uncus.pipeline.training.task import Devices

MOST = 1000
"""Folds, seeds and jobs at most."""
Options = TypeVar("Options", bound="TrainingOptions")


@dataclass(frozen=True)
class TrainingOptions:
    """What to train on which scans, and how; saved as a run's ``config.json``."""

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
    """Columns given to the network in addition to the scan, such as age sex; a prediction then
    requires their values. Never a diagnosis, nor a test that it is based on."""
    age_norms: str = ""
    """Normal scans, such as "cdr == 0 or age < 60": a classification is then fitted to what the
    measures of --init-from, a regression, are beyond those of normal training subjects of the same
    age. With --refit-head, --epochs 0 and --covariates age."""
    where: str = ""
    """Scans to use, such as "age >= 60"."""
    folds: int | str = 5
    """Folds of a cross-validation over subjects; 1 is a single split with a fifth for testing. Or a
    column such as site: each of its values is tested by networks trained on the others."""
    validation: float = 0.15
    """Share of a fold's training subjects held out to choose the best epoch; 0 for none."""
    stratify: tuple[str, ...] = ()
    """Columns to balance over the folds, in addition to the target, sex and age."""
    holdout: str = ""
    """Subjects never trained on: a file with their ids, or an expression such as "site == 'B'"."""
    splits: Path | None = None
    """Reuse the splits.tsv of another run."""
    seeds: int = 1
    """Networks per fold; predictions are averaged over them."""
    seed: int = 0
    """The first seed; fixes splits, weights, order and augmentation."""
    init_from: Path | None = None
    """Start from the weights of another run, fold by fold, and use its splits; or from a file of
    weights (.pth, .safetensors), such as MedicalNet's, whose network the options must match."""
    flip_average: bool = False
    """Average predictions over a scan and its left-right mirror image."""
    jobs: int = 1
    """Networks to train at once on the CPU, or on each GPU. All GPUs are used, and the CPU's
    threads are shared; more than one pays off for small networks."""
    recipe: Literal["auto", "none", "small", "medium", "large"] = "auto"
    """How to train, where no option says it: small (a few hundred subjects) pre-trains on age and
    brain volumes, where every scan has them, and fits the head exactly; medium and large (from 500
    and 3,000 subjects) train from scratch. auto goes by the number of subjects, unless --epochs,
    --lr or the like are given; none takes all options as they are."""
    given: Annotated[tuple[str, ...], tyro.conf.Suppress] = ()
    """Options that the command line names: a recipe leaves them as they are."""
    only: tuple[str, ...] = ()
    """Train these folds and seeds alone, such as fold-2 seed-0: jobs on any machines train a run
    together. Then --finish completes it."""
    finish: bool = False
    """Complete a run whose networks are all trained (with --only)."""
    resume: bool = False
    """Continue an interrupted run. Its folder is enough, since it has its options: uncus train RUN
    --resume; with the cohort's folder before RUN where that was moved. So with --only, --finish."""
    load: Annotated[Path | None, tyro.conf.arg(name="config", metavar="RUN/config.json")] = None
    """Take the options of another run, but its --transforms; options given here override them."""
    model: Annotated[ModelConfig, tyro.conf.OmitArgPrefixes] = field(default_factory=ModelConfig)
    optimization: Annotated[Optimization, tyro.conf.OmitArgPrefixes] = field(
        default_factory=Optimization
    )
    augment: Augment = field(default_factory=Augment)
    transforms: Annotated[tuple[str, ...], tyro.conf.arg(metavar="[before=]FILE.py:NAME")] = ()
    """MONAI transforms of your own for training volumes: NAME in FILE.py is one, or a list, of
    dictionaries with the key "volume". They follow the augmentation; before= puts them first."""
    devices: Annotated[Devices, tyro.conf.OmitArgPrefixes] = field(default_factory=Devices)

    def __post_init__(self) -> None:
        for name in ("folds", "seeds", "jobs"):
            if isinstance(getattr(self, name), str):
                continue
            if not 1 <= getattr(self, name) <= MOST:
                raise ValueError(f"{name}={getattr(self, name)}: must be 1 to {MOST}")
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"seed={self.seed}: must be 0 to {2**63 - 1}")
        if not 0 <= self.validation < 0.5:
            raise ValueError(f"validation={self.validation}: must be from 0 to below 0.5")
        if self.init_from and self.splits and self.init_from.is_dir():
            raise ValueError("--init-from uses the splits of that run; leave out --splits")
        if self.model.group_plus_literal:
            raise ValueError(
                "--group-plus-literal: such a norm normalizes over the batch and has no running "
                "statistics, so the network cannot predict a single scan; leave the option out"
            )
        both = set(self.covariates) & set(self.target)
        if both or len(set(self.covariates)) < len(self.covariates):
            raise ValueError(
                f"--covariates {' '.join(self.covariates)}: name each column once, and none of "
                "the target's"
            )
        if self.age_norms and not (
            self.init_from
            and self.optimization.refit_head
            and not self.optimization.epochs
            and self.covariates == ("age",)
            and not self.regression
        ):
            raise ValueError(
                "--age-norms: needs --init-from (a regression), --refit-head, --epochs 0 and "
                "--covariates age"
            )
        if self.validation == 0 and self.optimization.patience:
            raise ValueError("early stopping (--patience) needs --validation above 0")

    @classmethod
    def defaults(cls, arguments: list[str]) -> Self:
        """The options of ``--config`` or of a run to continue, as defaults; and the names given."""
        named = (argument.partition("=")[0] for argument in arguments if argument[:2] == "--")
        given = tuple(name[2:].removeprefix("no-").replace("-", "_") for name in named)
        for i, argument in enumerate(arguments):
            name, _, value = argument.partition("=")
            if name == "--config":
                path = Path(value or (arguments[i + 1] if i + 1 < len(arguments) else ""))
                options = config.from_dict(cls, files.read_json(path), path)
                # No code is run that the command line does not name.
                return replace(options, transforms=(), given=given)
        if CONTINUING & {*given} and not {"target", "help"} & {*given}:
            here = parsed(cls, arguments)
            run = here and (here.out if here.out != Path() else here.cohort)
            if run and Run(run).config_path.is_file():
                known = cls.stored(run)
                return replace(known, given=(*known.given, *given))
        return cls(given=given)

    @classmethod
    def stored(cls, run: Path) -> Self:
        """The options of the run in the folder ``run``, but its transforms: they are code."""
        values = {"recipe": "none", **Run(run).config}  # a run may be older than recipes
        options = config.from_dict(cls, values, Run(run).config_path)
        return replace(options, out=run, transforms=())

    adds_seeds: ClassVar[bool] = False
    """Whether the run may go on with more seeds than it was started with."""

    @property
    def continues(self) -> bool:
        """Whether the run may exist."""
        return self.resume or self.finish or self.only != ()

    def check_given(self, verb: str, out: str) -> None:
        """Raise ValueError where a folder or the target is missing; ``out`` names the second."""
        for name, value in (("COHORT", self.cohort), (out, self.out)):
            if value == Path():
                raise ValueError(f"{name} is missing; uncus {verb} COHORT {out} --target COLUMN")
        if self.only and self.finish:
            raise ValueError("--only and --finish: all jobs with --only first, then --finish alone")
        if not self.target:
            raise ValueError("--target is missing; name the column to predict")


def parsed(kind: type[Options], arguments: list[str]) -> Options | None:
    """The options in the arguments of a command; None where they are not valid."""
    silent = io.StringIO()
    with contextlib.redirect_stderr(silent), contextlib.redirect_stdout(silent):
        try:
            return tyro.cli(kind, args=arguments, default=kind())
        except SystemExit:
            return None


CONTINUING = frozenset({"resume", "only", "finish", "so_far", "plan"})
SECTIONS = ("model", "optimization")
"""Groups of options that recipes edit."""
SCHEDULE = frozenset({"epochs", "lr", "trunk_lr", "freeze_norms", "keep", "patience"})
SCHEDULE |= {"refit_head", "init_from", "load", "adversarial"}
"""Options that say how to train: with one of them, no recipe is chosen that was not asked for."""


def section_names(section: str) -> frozenset[str]:
    """The options in a section: model, optimization, augment or devices."""
    return frozenset(f.name for f in fields(get_type_hints(TrainingOptions)[section]))


def explicit(options: TrainingOptions) -> frozenset[str]:
    """The options that were named on the command line, or that differ from their defaults."""
    names = set(options.given)
    default: Any = TrainingOptions()
    pairs = [(options, default), *((getattr(options, s), getattr(default, s)) for s in SECTIONS)]
    for here, usual in pairs:
        names |= {f.name for f in fields(usual) if getattr(here, f.name) != getattr(usual, f.name)}
    return frozenset(names)
