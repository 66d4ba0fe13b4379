"""What the networks of a run share: scans, labels, folds, options and devices."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch

from uncus.data.augment import Augment
from uncus.data.design.splits import Splits
from uncus.data.design.targets import Target
from uncus.data.prepared_cohort import PreparedCohort
from uncus.models.build import ModelConfig, build_model
from uncus.pipeline.runs import Run
from uncus.pipeline.training.data_loading import ScanDataset
from uncus.pipeline.training.optimization import Optimization


@dataclass(frozen=True)
class Devices:
    """Where the training runs; the values are those of Lightning's Trainer."""

    accelerator: str = "auto"
    """auto, cpu, gpu."""
    devices: str = "1"
    """How many devices on each machine, or auto for all of them."""
    nodes: int = 1
    """How many machines; under SLURM, start one task a device with srun."""
    strategy: str = "auto"
    """How several devices share the work: ddp, fsdp ..."""
    workers: int = 0
    """Processes that read volumes; 0 reads in the training process, best for small cohorts."""
    compile: bool = False
    """Compile the network by torch.compile: a minute to begin with, then faster steps on a GPU.
    Dropout draws otherwise then, and the last digits differ."""
    channels_last: bool = False
    """Lay the network out with channels last, as tensor cores read it; uncus bench step tells
    whether it pays. The last digits differ."""
    graphs: bool = False
    """Replay the network's passes as CUDA graphs, for volumes so small that a GPU waits for Python.
    On one GPU; with --compile, by torch.compile's own graphs. uncus bench step tells whether it
    pays."""


@dataclass(frozen=True)
class Task:
    """What the members of a run share.

    ``table`` holds the scans used; its index is their position in the cohort's volumes, and
    ``labels`` [N] or [N, K] and ``covariates`` [N, P] have a row for each of its rows.
    """

    cohort: PreparedCohort
    table: pd.DataFrame
    labels: np.ndarray[Any, Any]
    covariates: np.ndarray[Any, Any]
    covariate_names: tuple[str, ...]
    target: Target
    splits: Splits
    model: ModelConfig
    optimization: Optimization
    augment: Augment
    devices: Devices
    flip_average: bool
    init_from: Run | None

    def __getstate__(self) -> dict[str, Any]:
        # Another process maps the cohort's file itself rather than being sent its content.
        return {**self.__dict__, "cohort": self.cohort.path}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, cohort=PreparedCohort.open(state["cohort"]))

    def rows(self, fold: int, *parts: str) -> np.ndarray[Any, Any]:
        """Positions in ``table`` of the scans whose subject is in one of ``parts``."""
        subjects = set[str]().union(*(self.splits.subjects(fold, part) for part in parts))
        return np.flatnonzero(self.table["participant_id"].isin(subjects))

    def standardization(self, fold: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """Mean and standard deviation [K] of a regression's columns, training subjects only."""
        values = self.labels[self.rows(fold, "train")]
        spread = np.nanstd(values, axis=0)
        if not np.all(spread > 0):
            flat = [n for n, s in zip(self.target.names, spread, strict=True) if not s > 0]
            raise ValueError(
                f"--target {', '.join(flat)}: constant or missing in the training subjects of fold "
                f"{fold}; leave the column out, or use fewer folds"
            )
        return np.nanmean(values, axis=0), spread

    def dataset(self, fold: int, *parts: str) -> ScanDataset:
        """The scans of ``parts`` with labels as a network learns them."""
        rows = self.rows(fold, *parts)
        labels = self.labels[rows]
        if self.target.regression:
            mean, spread = self.standardization(fold)
            labels = ((labels - mean) / spread).astype(np.float32)
        positions = self.table.index[rows].tolist()
        return ScanDataset(self.cohort.volumes, positions, labels, self.covariates[rows])


def why_not(task: Task) -> str:
    """Why the network of ``task`` cannot be trained at its batch size; "" where it can.

    Makes it and takes a training step's forward pass for each size that a batch will have, the
    last and smaller one of an epoch included.
    """
    size = task.optimization.batch_size
    sizes = set()
    for fold in range(task.splits.folds):
        scans = len(task.rows(fold, "train"))
        sizes |= {min(size, scans), scans % size or size}
    try:
        model = build_model(task.model, seed=0).train()
        for number in sorted(sizes):
            rows = task.table.index[task.rows(0, "train")].tolist()[:number]
            volumes = torch.from_numpy(task.cohort.volumes[rows].astype("float32")).unsqueeze(1)
            with torch.no_grad():
                model(volumes)
    except ValueError as error:
        return " ".join(str(error).split())
    return ""


def steps(task: Task, fold: int) -> int:
    """Optimizer steps of a network's whole training."""
    each = math.ceil(len(task.rows(fold, "train")) / task.optimization.batch_size)
    return task.optimization.epochs * math.ceil(each / task.optimization.accumulate)
