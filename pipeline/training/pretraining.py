"""Starting from the weights of another run without leakage, or from those in a file.

Fold k of a new run starts from fold k of the other run (from fold 0 if that has one fold only). No
subject and no scan in the new fold's test part may have been used in that pre-training.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from uncus.data.design.covariates import columns
from uncus.data.design.row_filter import select
from uncus.data.design.splits import Splits
from uncus.data.design.targets import Target
from uncus.data.errors import BadInput
from uncus.data.scan_dataset import ScanDataset
from uncus.data.tables import need_column
from uncus.models.base import Classifier
from uncus.models.weights import read_weights, transfer
from uncus.pipeline.runs import Member, Run
from uncus.pipeline.training.head_refit import AgeNorms
from uncus.pipeline.training.task import Task

WEIGHTS = frozenset({".safetensors", ".pth", ".pt", ".ckpt", ".tar"})


def source(path: Path) -> Run | Path:
    """Where weights come from: a run, or a file of others, such as MedicalNet's."""
    return path if path.is_file() or path.suffix in WEIGHTS else Run(path)


@dataclass(frozen=True)
class TrainingData:
    """What a fold of a run was trained and validated on: subjects and hashes of voxels."""

    subjects: frozenset[str]
    voxels: frozenset[str]


def training_data(run: Run, fold: int, later: frozenset[Path] = frozenset()) -> TrainingData:
    """What the networks of ``fold`` were trained on, including their own pre-training.

    Raises
    ------
    BadInput: a file of a run is missing or damaged, or a run starts from one of the ``later``.
    """
    if (here := run.path.resolve()) in later:
        raise BadInput(run.path, "starts from its own weights", "correct init_from in config.json")
    splits, scans = run.splits(), run.scans()
    need_column(scans, "voxel_hash", run.scans_path)
    fold = source_fold(splits, fold)
    if fold >= splits.folds:
        raise BadInput(run.splits_path, f"has no fold {fold}", "copy the whole run again")
    subjects = splits.subjects(fold, "train") | splits.subjects(fold, "validation")
    voxels = frozenset(scans.loc[scans["participant_id"].isin(subjects), "voxel_hash"])
    if earlier := str(run.config.get("init_from") or ""):
        moved = run.pretraining  # with the run
        start_of = moved if moved.config_path.exists() else source(Path(earlier))
        if isinstance(start_of, Path):
            return TrainingData(subjects, voxels)  # others' weights: their subjects are not known
        before = training_data(start_of, fold, later | {here})
        return TrainingData(subjects | before.subjects, voxels | before.voxels)
    return TrainingData(subjects, voxels)


def age_norms(task: Task, member: Member) -> AgeNorms:
    """The normal scans of the subjects that the matching member of a regression was trained on, and
    its measures.

    Raises
    ------
    BadInput: the pre-training is no regression.
    """
    run = task.init_from
    if not isinstance(run, Run) or run.target.is_classification:
        raise BadInput("--age-norms", "--init-from is not a regression", "name a run of one")
    subjects = training_data(run, member.fold).subjects
    for part in ("validation", "test", "holdout"):
        subjects -= task.splits.subjects(member.fold, part)
    cohort = task.cohort
    table = select(cohort.table[cohort.table["participant_id"].isin(subjects)], task.age_norms)
    scans = ScanDataset(
        cohort.volumes,
        table.index.tolist(),
        np.zeros(len(table)),
        columns(table, task.covariate_names),
    )
    tensors = read_weights(weights_of(run, member))
    weight, bias = (tensors[f"head.{name}"].double().numpy() for name in ("weight", "bias"))
    return AgeNorms(scans, weight, bias)


def source_fold(splits: Splits, fold: int) -> int:
    """The fold of the pre-training that ``fold`` of a new run starts from."""
    return 0 if splits.folds == 1 else fold


def check(run: Run, splits: Splits, table: pd.DataFrame) -> None:
    """Raise BadInput where a fold would be tested on data of its pre-training in ``run``."""
    before = run.splits().folds
    if before not in (1, splits.folds):
        raise BadInput(
            run.path,
            f"has {before} folds, but the new run {splits.folds}",
            "use the same number of folds, or the splits of that run",
        )
    for fold in range(splits.folds):
        known = training_data(run, fold)
        tested = splits.subjects(fold, "test") | splits.subjects(fold, "holdout")
        both = sorted(tested & known.subjects)
        rows = table[table["participant_id"].isin(tested)]
        copies = sorted(rows.loc[rows["voxel_hash"].isin(known.voxels), "participant_id"])
        if both or copies:
            raise BadInput(
                run.path,
                f"was trained on {(both or copies)[0]}, which fold {fold} of the new run tests on",
                "use the folds of that run, or pre-train with these splits",
            )


def start(model: Classifier, run: Run | Path, member: Member, target: Target) -> list[str]:
    """Load the weights of the matching member of ``run``; its head only for the same target.

    Of a file of weights, all but the head is loaded.

    Returns
    -------
    what to tell the user of it.
    """
    if isinstance(run, Path):
        report = transfer(model, read_weights(run), head=False, source=str(run))
        return [f"{member.name} starts from {report}"]
    warning = run.verify_results()
    same_task = run.target == target
    path = weights_of(run, member)
    report = transfer(model, read_weights(path), head=same_task, source=str(path))
    return [f"warning: {warning}"] * bool(warning) + [f"{member.name} starts from {report}"]


def weights_of(run: Run, member: Member) -> Path:
    """The weights of the member of ``run`` that matches; raises BadInput where there is none."""
    fold = source_fold(run.splits(), member.fold)
    sources = [source["file"] for source in run.card["members"] if source["fold"] == fold]
    if not sources:
        raise BadInput(run.card_path, f"has no network of fold {fold}", "copy the whole run again")
    return run.model_folder / str(sources[member.seed % len(sources)])
