"""Recipes: how to train well on a cohort of a given size, for those who do not say how.

A few hundred scans are too few to train a network on a diagnosis. What works for them
(docs/results/oasis1.md) is to pre-train on what is known of every scan, such as age and brain
volumes, and then to fit the linear head exactly on the frozen trunk.
"""

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, Literal, TypeVar

import numpy as np
import pandas as pd

from uncus.data.design.row_filter import select
from uncus.data.design.site_folds import leave_one_out
from uncus.data.design.targets import Target, class_indices, labelled
from uncus.data.errors import BadInput
from uncus.data.prepared_cohort import TABLE
from uncus.data.tables import clean, find_column, read_number, read_table
from uncus.pipeline.runs import Run
from uncus.pipeline.training.options import (
    SCHEDULE,
    SECTIONS,
    TrainingOptions,
    explicit,
    section_names,
)

Options = TypeVar("Options", bound=TrainingOptions)
Values = dict[str, Any]

LIMITS: Mapping[Literal["small", "medium", "large"], float] = {
    "small": 500,
    "medium": 3000,
    "large": np.inf,
}
"""Recipe -> the number of subjects from which on the next one is chosen."""
PRETRAINING = ("age", "nwbv", "etiv", "tiv", "icv", "hippocampus", "wholebrain", "ventricles")
"""Columns to pre-train on, in upper or lower case, where every labelled scan has a number."""

NETWORK: Values = {"backbone": "resnet10", "stem_kernel": 5}
COMMON: Values = {**NETWORK, "weight_decay": 0.05, "validation": 0.0, "keep": "last"}
COMMON |= {"flip_average": True, "seeds": 2}
FIRST: Values = {**COMMON, "epochs": 36, "lr": 2e-3, "dropout": 0.0}
HEAD: Values = {**COMMON, "refit_head": 0.1}
SCRATCH: Values = {**COMMON, "epochs": 25, "lr": 7e-4}
MEDIUM: Values = {"weight_decay": 0.05, "flip_average": True}
LARGE: Values = {**MEDIUM, "width": 32, "epochs": 30, "batch_size": 4}


def steps(options: Options) -> list[Options]:
    """The trainings that the options stand for, in order; ``[options]`` where nothing is to choose.

    What was given explicitly stays. A recipe that was not asked for is chosen by the number of
    labelled subjects, unless the options say how to train: for how long, how fast, from what.

    Raises
    ------
    BadInput: unsuitable labels, or the recipe small for a network on several devices.
    """
    name, path = options.recipe, options.cohort / TABLE
    several = (options.devices.devices, options.devices.nodes) != ("1", 1)
    if name == "auto" and (several or SCHEDULE & explicit(options) or not path.is_file()):
        return [replace(options, recipe="none")]
    if name == "none":
        return [options]
    table = read_table(path)
    used = labelled_scans(options, table)
    if name == "auto":
        subjects = used["participant_id"].nunique()
        name = next(recipe for recipe, limit in LIMITS.items() if subjects < limit)
    chosen = replace(options, recipe=name)
    if name != "small":
        return [edit(chosen, MEDIUM if name == "medium" else LARGE)]
    first = Run(options.out).pretraining
    if options.init_from and options.init_from.resolve() == first.path.resolve():
        # A run that is resumed by its own options.
        begun = first.config_path.exists() and not first.is_sealed()
        return [interrupted(options, first), options] if begun else [options]
    if several:
        raise BadInput(
            "--recipe small", "trains each network on one device", "leave out --devices and --nodes"
        )
    columns = pretraining_columns(table, used, options.target)
    if not (columns or options.init_from):
        return [edit(chosen, SCRATCH)]
    final = edit(
        chosen,
        HEAD,
        init_from=options.init_from or first.path,
        splits=None,
        epochs=0,
        adversarial=0.0,
    )
    if options.init_from:
        return [final]
    task: Values = {"target": columns, "classes": (), "regression": True, "covariates": ()}
    task |= {
        "where": tested_sites(options, table, used),
        "stratify": (*options.stratify, *options.target),
    }
    task |= {"recipe": "none", "only": (), "resume": options.continues}
    return [edit(options, FIRST, out=first.path, **task), final]


def tested_sites(options: TrainingOptions, table: pd.DataFrame, used: pd.DataFrame) -> str:
    """The scans to pre-train on: all, or with folds by site those of the sites of the training.

    Then both have the same folds.

    Raises
    ------
    BadInput: a site that cannot be tested.
    """
    if not isinstance(options.folds, str):
        return ""
    target = Target.parse(options.target, options.classes, options.regression).resolve(used)
    labels = class_indices(used, target) if target.is_classification else None
    sites = leave_one_out(used, options.folds, labels, target.names)
    column = find_column(table, [options.folds.lower()]) or options.folds
    return f"{column} in [{', '.join(map(repr, sites))}]"


def interrupted(options: Options, pretraining: Run) -> Options:
    """The pre-training that was begun, on the cohort and the devices of ``options``."""
    return replace(
        type(options).stored(pretraining.path),
        cohort=options.cohort,
        devices=options.devices,
        jobs=options.jobs,
        resume=True,
        transforms=options.transforms,
    )


def labelled_scans(options: TrainingOptions, table: pd.DataFrame) -> pd.DataFrame:
    """The scans of a cohort that the options train on."""
    target = Target.parse(options.target, options.classes, options.regression)
    return labelled(select(table, options.where), target)[0]


def pretraining_columns(
    table: pd.DataFrame, used: pd.DataFrame, target: tuple[str, ...]
) -> tuple[str, ...]:
    """The columns to pre-train on: those of ``PRETRAINING`` with a number for each scan ``used``.

    Other scans of ``table`` may have none, but no text.
    """
    there = {str(name).lower(): str(name) for name in table if name not in target}
    found = []
    for name in PRETRAINING:
        if name not in there:
            continue
        values = [read_number(cell) for cell in map(clean, used[there[name]])]
        others = all(
            read_number(cell) is not None for cell in map(clean, table[there[name]]) if cell
        )
        if others and None not in values and len(set(values)) > 1:
            found.append(there[name])
    return tuple(found)


def edit(options: Options, values: Values, **forced: Any) -> Options:
    """The options with ``values`` where nothing was given explicitly, and with ``forced``.

    A backbone that was given keeps its own options.
    """
    given = explicit(options)
    if "backbone" in given:
        given |= NETWORK.keys()
    values = {name: value for name, value in values.items() if name not in given} | forced
    own = {field.name for field in fields(options)}
    for section in SECTIONS:
        inside = section_names(section) & (values.keys() - own)
        values[section] = replace(
            getattr(options, section), **{name: values.pop(name) for name in inside}
        )
    return replace(options, **values)


def describe(chosen: Sequence[TrainingOptions], asked: bool) -> str:
    """What a recipe does, as a line for the log."""
    first, last = chosen[0], chosen[-1]
    how = f"{first.model.backbone}, {first.optimization.epochs} epochs, {first.seeds} seeds"
    if len(chosen) > 1:
        how += f", pre-trained on {', '.join(first.target)} of every scan"
    if last.optimization.refit_head:
        how += ", then a head that is fitted exactly"
    elif last.recipe == "small":
        how += ", without pre-training: neither age nor brain volumes are known of every scan"
    reason = "as asked" if asked else "by the size of the cohort"
    return f"recipe {last.recipe}, {reason}: {how}. --recipe none trains as the options say"
