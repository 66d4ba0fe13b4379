"""From options to the task of a run: its scans, labels and folds; and what completes the run."""

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from uncus.data import files
from uncus.data.cohorts.scans import read_table, write_table
from uncus.data.design import covariates
from uncus.data.design.splits import Splits, check_leakage, holdout_subjects, make_splits
from uncus.data.design.targets import Target, labelled, select
from uncus.data.errors import BadInput
from uncus.data.prepared_cohort import PreparedCohort
from uncus.pipeline import config, environment
from uncus.pipeline.runs import Member, Run
from uncus.pipeline.training import model_card, pretraining
from uncus.pipeline.training.bf16_check import check_bf16
from uncus.pipeline.training.member import precision
from uncus.pipeline.training.options import TrainingOptions
from uncus.pipeline.training.task import Task

FREE = frozenset({"cohort", "devices", "jobs"})
"""Options that a resumed run may change: the folder of the cohort, and what computes."""


class LabelledScans(NamedTuple):
    """The scans of a run; the index of ``table`` is their position in the cohort."""

    table: pd.DataFrame
    labels: np.ndarray[Any, Any]
    target: Target


def set_up(options: TrainingOptions, cohort: PreparedCohort, scans: LabelledScans) -> Task:
    """Start or resume the run at ``options.out`` on ``scans``; returns what its networks share.

    Raises
    ------
    ValueError: options or data that do not allow it (BadInput where a file or folder is at fault).
    """
    start(options, cohort)
    write_table(Run(options.out).scans_path, scans.table)
    splits = assign_folds(options, cohort, scans)
    return Task(
        cohort=cohort,
        table=scans.table,
        labels=scans.labels,
        covariates=covariates.columns(scans.table, options.covariates),
        covariate_names=options.covariates,
        target=scans.target,
        splits=splits,
        model=replace(
            options.model, classes=len(scans.target.names), covariates=len(options.covariates)
        ),
        optimization=options.optimization,
        augment=options.augment,
        devices=options.devices,
        flip_average=options.flip_average,
        init_from=Run(options.init_from) if options.init_from else None,
    )


def start(options: TrainingOptions, cohort: PreparedCohort) -> None:
    """Write the run's options and environment; where they exist, check that they are the same.

    Raises
    ------
    ValueError: bf16 convolutions are wrong on this machine.
    BadInput: the run exists and is not to be resumed, or was started with other options.
    """
    run, accelerator = Run(options.out), options.devices.accelerator
    on_gpu = accelerator != "cpu" and torch.cuda.is_available()
    check_bf16(precision(options.optimization.precision, accelerator), on_gpu)
    values = saved(options)
    path = run.config_path
    if path.exists():
        if not options.resume:
            raise BadInput(run.path, "contains a run", "add --resume, or name a new folder")
        # Read as options, so that one that is newer than the run has its default.
        before = saved(config.from_dict(TrainingOptions, run.config, path))
        differing = [name for name in values if before[name] != values[name] and name not in FREE]
        if run.environment["cohort_fingerprint"] != cohort.fingerprint:
            differing.append("cohort (its content)")
        if differing:
            raise BadInput(
                path,
                f"the run was started with other options: {', '.join(differing)}",
                "resume with the same options, or name a new folder",
            )
        return
    facts = {**environment.describe(), "cohort_fingerprint": cohort.fingerprint}
    files.write_json(run.environment_path, facts)
    files.write_json(path, values)


def saved(options: TrainingOptions) -> dict[str, Any]:
    """The options as ``config.json`` has them."""
    values = config.to_dict(replace(options, resume=False, load=None))
    del values["out"]
    return values


def label_scans(options: TrainingOptions, cohort: PreparedCohort) -> LabelledScans:
    """The scans to use, with their labels."""
    target = Target.parse(options.target, options.classes, options.regression)
    table = select(cohort.table, options.where) if options.where else cohort.table
    target = target.resolve(table)
    table, labels, warnings = labelled(table, target)
    for warning in warnings:
        print(f"warning: {warning}")
    return LabelledScans(table, labels, target)


def assign_folds(options: TrainingOptions, cohort: PreparedCohort, scans: LabelledScans) -> Splits:
    """The folds: those of this run, of the run it starts from, or new ones; saved with the run.

    Raises
    ------
    BadInput: subjects without a fold, or that would be tested on after having been trained on.
    """
    path = Run(options.out).splits_path
    shared = options.splits or (options.init_from and Run(options.init_from).splits_path)
    subjects = set(scans.table["participant_id"])
    source = path if path.exists() else shared
    known = Splits.load(source) if source else None
    if known and subjects & set(known.frame["participant_id"]):
        splits = known.restricted(subjects)
    else:
        splits = make_splits(
            scans.table,
            scans.labels,
            folds=options.folds,
            seed=options.seed,
            validation=options.validation,
            holdout=holdout_subjects(options.holdout, cohort.table) if options.holdout else (),
            stratify=options.stratify,
        )
    missing = sorted(subjects - set(splits.frame["participant_id"]))
    if missing:
        raise BadInput(
            shared or path,
            f"{missing[0]} and {len(missing) - 1} more subjects have no fold",
            "add them, or leave them out with --where",
        )
    check_leakage(splits, scans.table)
    if options.init_from:
        pretraining.check(Run(options.init_from), splits, scans.table)
    splits.save(path)
    return splits


def finish(run: Run, task: Task, members: tuple[Member, ...]) -> None:
    """Complete a run with all of its networks trained: predictions, and the sealed model."""
    predictions = [read_table(run.member_predictions(member)) for member in members]
    write_table(run.predictions_path, pd.concat(predictions, ignore_index=True))
    model_card.write(run, task.cohort, task, members)
