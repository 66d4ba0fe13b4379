"""Setting up a run from its options: scans, labels and folds; and completing it."""

from collections.abc import Collection
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from uncus.data import files
from uncus.data.design import covariates
from uncus.data.design.row_filter import select, undecided
from uncus.data.design.site_folds import leave_one_out
from uncus.data.design.splits import Splits, check_leakage, holdout_subjects, make_splits
from uncus.data.design.targets import Target, labelled
from uncus.data.errors import BadInput
from uncus.data.prepared_cohort import PreparedCohort
from uncus.data.tables import find_column, limit_warnings, read_table, text_warnings, write_table
from uncus.data.transforms.custom import custom_transforms, recorded
from uncus.pipeline import config, environment
from uncus.pipeline.run_files import log
from uncus.pipeline.runs import Member, Run, choose, members
from uncus.pipeline.training import model_card, pretraining
from uncus.pipeline.training.bf16_check import check_bf16
from uncus.pipeline.training.member import check_member, precision
from uncus.pipeline.training.options import TrainingOptions
from uncus.pipeline.training.task import MIN_VALIDATION, Task

FREE = frozenset({"cohort", "devices", "jobs", "given", "recipe"})
"""Options that may change when a run is resumed: the cohort's folder and the devices."""


SETTING_UP = 60.0
"""Seconds to wait for another process that sets the same run up, or completes it."""


class LabelledScans(NamedTuple):
    """N labelled scans; the index of ``table`` is their position in the cohort."""

    table: pd.DataFrame
    labels: np.ndarray[Any, Any]
    target: Target


def set_up(
    options: TrainingOptions,
    cohort: PreparedCohort,
    scans: LabelledScans,
    folds: Splits | None = None,
) -> Task:
    """Plan, check and start or resume the run at ``options.out``; raises ValueError as they do."""
    task = plan(options, cohort, scans, folds)
    check(options, task)
    start(options, cohort)
    save_plan(Run(options.out), task)
    return task


def plan(
    options: TrainingOptions,
    cohort: PreparedCohort,
    scans: LabelledScans,
    folds: Splits | None = None,
) -> Task:
    """What the run at ``options.out`` is to train on ``scans``, and on ``folds`` if given.

    Nothing is written.

    Raises
    ------
    ValueError: the options or the data are unsuitable (BadInput for a file or folder).
    """
    continued(options, cohort)
    splits = assign_folds(options, cohort, scans, folds)
    choose(members(splits.folds, options.seed, options.seeds), options.only)
    return Task(
        cohort=cohort,
        table=scans.table,
        labels=scans.labels,
        covariates=covariates.columns(scans.table, options.covariates),
        covariate_names=options.covariates,
        target=scans.target,
        splits=splits,
        model=replace(
            options.model,
            classes=len(scans.target.names),
            covariates=len(options.covariates),
            covariate_degree=2 if options.age_norms else 1,
        ),
        optimization=options.optimization,
        augment=options.augment,
        transforms=options.transforms,
        devices=options.devices,
        flip_average=options.flip_average,
        init_from=pretraining.source(options.init_from) if options.init_from else None,
        age_norms=options.age_norms,
    )


def check(options: TrainingOptions, task: Task) -> None:
    """Check all that can be known before training; nothing is written.

    Raises
    ------
    ValueError: of the devices, or of what a fold would be trained on.
    """
    accelerator = options.devices.accelerator
    on_gpu = accelerator != "cpu" and torch.cuda.is_available()
    check_bf16(precision(options.optimization.precision, accelerator), on_gpu)
    for warning in (*state_warnings(task), *tie_warnings(task)):
        print(f"warning: {warning}")
    counts = [
        check_member(Run(options.out), Member(fold, options.seed, f"fold-{fold}"), task)
        for fold in range(task.splits.folds)
    ]
    check_graphs(options, on_gpu, max(counts))
    how = options.optimization
    chooses = how.epochs and options.validation and (how.keep == "best" or how.patience)
    if chooses and not all(map(task.may_choose_epoch, range(task.splits.folds))):
        print(
            f"fewer than {MIN_VALIDATION} validation subjects in a fold: all epochs are trained, "
            "and the last one is kept"
        )


def check_graphs(options: TrainingOptions, on_gpu: bool, devices: int) -> None:
    """Say why a GPU trains without CUDA graphs, if it does so by default.

    Raises
    ------
    ValueError: they were asked for, and cannot be used.
    """
    need = "" if devices == 1 else f"one device, not {devices}"
    if options.optimization.adversarial:
        need = "ordinary steps, without --adversarial"
    if not on_gpu:
        need = "a CUDA device"
    if not options.devices.graphs or not need:
        return
    if "graphs" in options.given:
        raise ValueError(f"--graphs needs {need}; leave it out")
    if on_gpu:
        print(f"training without CUDA graphs, which need {need}")


def state_warnings(task: Task) -> list[str]:
    """A warning for each of the user's transforms that keeps a state of its own.

    Raises
    ------
    ValueError: a transform cannot be loaded or applied (BadInput for its file).
    """
    volume = torch.from_numpy(task.cohort.volumes[task.table.index[0]].astype(np.float32))[None]
    before, after = custom_transforms(task.transforms, task.cohort.grid.affine, seed=0)
    return [
        f"--transforms {one.reference.text} keeps a random state of its own: interrupted and "
        "resumed, the training gives other weights"
        for one in (*before, *after)
        if one.keeps_state(volume)
    ]


def tie_warnings(task: Task) -> list[str]:
    """A warning for each covariate that goes with the class in the cohort."""
    return [tie.warning for tie in model_card.covariate_ties(task).values() if tie.warning]


def save_plan(run: Run, task: Task) -> None:
    """Write the scans and the folds of a run."""
    write_table(run.scans_path, task.table)
    task.splits.save(run.splits_path)


def start(options: TrainingOptions, cohort: PreparedCohort) -> None:
    """Write the run's options and environment, or that it is continued; see :func:`continued`."""
    run = Run(options.out)
    if continued(options, cohort):
        before = run.environment
        call = environment.this_call()
        earlier = before.get("resumed")
        calls = [*(earlier if isinstance(earlier, list) else []), call]
        files.write_json(run.environment_path, {**before, "resumed": calls})
    else:
        call = environment.this_call()
        facts = call | environment.describe()
        facts["cohort_fingerprint"] = cohort.fingerprint
        facts["transforms"] = recorded(options.transforms)
        files.write_json(run.environment_path, facts)
        files.write_json(run.config_path, saved(options))
    by = f"uncus {call['code']}, recipe {options.recipe}"
    log.append(run.log_path, f"{call['command']}  ({by})")


def continued(options: TrainingOptions, cohort: PreparedCohort) -> bool:
    """Whether the run has a trained epoch: it then is to be resumed, with the same options.

    Raises
    ------
    BadInput: it is not to be resumed, or was started with other options.
    """
    run = Run(options.out)
    values, path = saved(options), run.config_path
    if path.exists() and run.is_begun():
        if run.is_adapted:
            raise BadInput(run.path, "is an adapted run", "continue it with uncus adapt")
        if not options.continues:
            raise BadInput(run.path, "contains a run", "add --resume, or choose a new folder")
        # Options that are newer than the run take their defaults.
        before = saved(config.from_dict(TrainingOptions, run.config, path))
        more_seeds = options.adds_seeds and 1 < before["seeds"] < options.seeds
        free = FREE | {"seeds"} if more_seeds else FREE
        differing = [name for name in values if before[name] != values[name] and name not in free]
        if run.environment.get("transforms", []) != recorded(options.transforms):
            differing.append("transforms (the content of their files)")
        if run.environment.get("cohort_fingerprint") != cohort.fingerprint:
            differing.append("cohort (its content)")
        if differing:
            raise BadInput(
                path,
                f"the run was started with other options: {', '.join(differing)}",
                "resume with the same options, or choose a new folder",
            )
        return True
    return False


def saved(options: TrainingOptions) -> dict[str, Any]:
    """The options as in ``config.json``."""
    values = config.to_dict(replace(options, resume=False, load=None))
    return {name: values[name] for name in values if name not in ("out", "only", "finish")}


def label_scans(options: TrainingOptions, cohort: PreparedCohort) -> LabelledScans:
    """The scans to use, with their labels."""
    target = Target.parse(options.target, options.classes, options.regression)
    for warning in undecided(cohort.table, options.where):
        print(f"warning: --where leaves out scans: {warning}")
    table = select(cohort.table, options.where)
    target = target.resolve(table)
    table, labels, warnings = labelled(table, target)
    # The cells of classes are compared as they are.
    numbers = table if target.regression else table.drop(columns=list(target.columns))
    strata = [name for name in (find_column(table, ["age"]), *options.stratify) if name]
    texts = [warning for name in strata for warning in text_warnings(name, table[name])]
    for warning in (*warnings, *limit_warnings(dict(numbers.items())), *texts):
        print(f"warning: {warning}")
    return LabelledScans(table, labels, target)


def assign_folds(
    options: TrainingOptions,
    cohort: PreparedCohort,
    scans: LabelledScans,
    given: Splits | None = None,
) -> Splits:
    """The folds ``given``, of this run, those of the run that it starts from, or new ones.

    Raises
    ------
    BadInput: a subject has no fold, or would be in a fold's training and test data.
    """
    run = Run(options.out)
    path = run.splits_path
    earlier = pretraining.source(options.init_from) if options.init_from else None
    shared = options.splits or (earlier.splits_path if isinstance(earlier, Run) else None)
    subjects = set(scans.table["participant_id"])
    # Without a trained epoch the folds are those of a start with perhaps other options.
    own = path.exists() and (run.is_begun() or not run.config_path.exists())
    source = path if own else shared
    known = given or (Splits.load(source) if source else None)
    again = known and subjects & set(known.frame["participant_id"])
    held: frozenset[str] = frozenset()
    if options.holdout and (not again or isinstance(options.folds, str)):
        held = holdout_subjects(options.holdout, cohort.table)
    tests = tested_sites(options, scans, held)
    if known and again:
        splits = known.restricted(subjects)
        tested = [splits.subjects(fold, "test") for fold in range(splits.folds)]
        if tests and tested != tests:
            raise BadInput(shared or path, f"folds are not by {options.folds}", "leave it out")
    else:
        splits = make_splits(
            scans.table,
            scans.labels,
            folds=len(tests) or int(options.folds),
            seed=options.seed,
            validation=options.validation,
            holdout=held,
            stratify=options.stratify,
            tests=tests,
        )
    missing = sorted(subjects - set(splits.frame["participant_id"]))
    if missing:
        raise BadInput(
            shared or path,
            f"{missing[0]} and {len(missing) - 1} more subjects have no fold",
            "add them to the splits, or exclude them with --where",
        )
    check_leakage(splits, scans.table)
    if isinstance(earlier, Run):
        pretraining.check(earlier, splits, scans.table)
    return splits


def tested_sites(
    options: TrainingOptions, scans: LabelledScans, held: Collection[str]
) -> list[frozenset[str]]:
    """The subjects that each fold tests, of one site each; empty for a number of folds.

    Raises
    ------
    BadInput: no such column, or a site that cannot be tested.
    """
    if not isinstance(options.folds, str):
        return []
    free = ~scans.table["participant_id"].isin(set(held)).to_numpy()
    names = scans.target.names if scans.target.is_classification else ()
    sites = leave_one_out(scans.table[free], options.folds, scans.labels[free], names)
    return list(sites.values())


def begin(
    options: TrainingOptions, cohort: PreparedCohort, task: Task
) -> tuple[tuple[Member, ...], list[Member]]:
    """Start or continue a run; its members, and those that this process is to train.

    Raises
    ------
    ValueError: there is no such member, or one is not trained yet and the run to be finished.
    """
    run = Run(options.out)
    todo = members(task.splits.folds, options.seed, options.seeds)
    chosen = choose(todo, options.only)
    with files.locked(run.path, "run", wait=SETTING_UP):
        start(options, cohort)
        save_plan(run, task)
    left = [member for member in chosen if not run.weights(member).exists()]
    if options.finish and left:
        raise BadInput(
            run.path,
            f"{left[0].name} is not trained" + f", and {len(left) - 1} more" * (len(left) > 1),
            f"wait for the job that does, or train it with --only {left[0].name}",
        )
    return todo, left


def finish(run: Run, task: Task, members: tuple[Member, ...]) -> None:
    """Complete a run with all of its networks trained: predictions, and the sealed model."""
    with files.locked(run.path, "run", wait=SETTING_UP):
        predictions = [read_table(run.member_predictions(member)) for member in members]
        write_table(run.predictions_path, pd.concat(predictions, ignore_index=True))
        model_card.write(run, task, members)
