"""Training the cells of a comparison, each as a run."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from uncus.data import files
from uncus.data.design.splits import Splits, holdout_subjects
from uncus.data.prepared_cohort import PreparedCohort
from uncus.data.tables import write_table
from uncus.pipeline.runs import Member, Run
from uncus.pipeline.training.options import TrainingOptions
from uncus.pipeline.training.parallel import Job, train_networks
from uncus.pipeline.training.run_setup import (
    SETTING_UP,
    LabelledScans,
    assign_folds,
    begin,
    check,
    finish,
    plan,
)
from uncus.pipeline.training.task import Task, why_untrainable


@dataclass(frozen=True)
class CellOptions(TrainingOptions):
    """The training of a cell, of which no choice depends on the number of its seeds."""

    adds_seeds = True


def common_folds(
    options: TrainingOptions, cohort: PreparedCohort, scans: LabelledScans, path: Path
) -> Splits:
    """The folds of training and pre-training; saved, and in all at ``path``.

    The folds of the training, with ``options``, extended by all other subjects of the cohort: these
    are training subjects of every fold, or held out.
    """
    splits, run = assign_folds(options, cohort, scans), Run(options.out)
    write_table(run.scans_path, scans.table)
    splits.save(run.splits_path)
    frame = splits.frame
    used = {*frame["participant_id"]}
    others = [p for p in dict.fromkeys(cohort.table["participant_id"]) if p not in used]
    held_out = holdout_subjects(options.holdout, cohort.table) if options.holdout else ()
    columns = [name for name in frame.columns if name != "participant_id"]
    rows = [
        {"participant_id": p, **dict.fromkeys(columns, "holdout" if p in held_out else "train")}
        for p in others
    ]
    all_subjects = pd.concat([frame, pd.DataFrame(rows, columns=frame.columns)])
    Splits(all_subjects.reset_index(drop=True)).save(path)
    return Splits.load(path)


def add_seeds(run: Run, seeds: int) -> None:
    """Let a cell go on with more seeds; not from a single one, whose networks have other names."""
    if not run.config_path.exists():
        return
    with files.locked(run.path, "run", wait=SETTING_UP):
        if 1 < run.config["seeds"] < seeds:
            run.seal_path.unlink(missing_ok=True)
            files.write_json(run.config_path, {**run.config, "seeds": seeds})


def train_cells(
    cells: Mapping[str, TrainingOptions],
    cohort: PreparedCohort,
    scans: LabelledScans,
    at_once: int,
    folds: Splits | None,
    so_far: bool = False,
) -> tuple[dict[str, str], dict[str, Task]]:
    """Train all cells on ``scans``, and on ``folds`` if given; with ``so_far``, none of them.

    Networks that are trained already are skipped; a cell goes on with more seeds than it was
    started with. All cells are trained with one seed before any is with the next, so that what is
    trained so far can be compared.

    Returns
    -------
    cell -> why it cannot be trained; and the tasks of the other cells.
    """
    jobs: list[Job] = []
    tasks: dict[str, Task] = {}
    complete: dict[str, tuple[Member, ...]] = {}
    cannot: dict[str, str] = {}
    for name, options in cells.items():
        run = Run(options.out)
        task = plan(options, cohort, scans, folds)
        reason = why_untrainable(task)
        known = options.finish or so_far
        if known and not reason and run.failure_path.exists():
            reason = run.failure_path.read_text(encoding="utf-8")
        if reason:
            cannot[name] = reason
            continue
        if so_far:
            tasks[name] = task
            continue
        if not options.finish:
            check(options, task)
        add_seeds(run, options.seeds)
        todo, left = begin(options, cohort, task)
        tasks[name], complete[name] = task, todo
        jobs += [Job(name, f"{name} {member.name}", run, member, task) for member in left]
    failed = train_networks(sorted(jobs, key=lambda job: job.member.seed), at_once)
    cannot |= failed
    for name, todo in complete.items():
        run = Run(cells[name].out)
        if name in failed:
            files.write_text(run.failure_path, failed[name])
            continue
        run.failure_path.unlink(missing_ok=True)
        if not run.is_sealed() and all(run.weights(member).exists() for member in todo):
            finish(run, tasks[name], todo)
    return cannot, {name: task for name, task in tasks.items() if name not in cannot}
