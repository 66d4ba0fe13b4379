"""What the networks of a run share: scans, labels, folds, options and devices."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch

from uncus.data.augment import Augment
from uncus.data.design.splits import Splits
from uncus.data.design.targets import Target
from uncus.data.prepared_cohort import PreparedCohort
from uncus.data.scan_dataset import ScanDataset
from uncus.models.build import ModelConfig, build_model
from uncus.pipeline.runs import Run
from uncus.pipeline.training.optimization import Optimization

MAX_PROCESSES = 256
"""Processes of one machine at most, also if a file asks for a million."""
MIN_VALIDATION = 30
"""Fewer validation subjects say too little of an epoch to choose it by them."""


@dataclass(frozen=True)
class Devices:
    """Devices to train on, in the terms of Lightning's Trainer."""

    accelerator: str = "auto"
    """auto, cpu or gpu."""
    devices: str = "1"
    """Number of devices per machine, or auto for all of them. A step takes --batch-size volumes on
    each; the weights are those of one device with batches as large as all of these together."""
    nodes: int = 1
    """Number of machines; start one process per device with srun or torchrun."""
    strategy: Literal["auto", "ddp"] = "auto"
    """How several devices share the work: ddp, which auto is too."""
    workers: int = 0
    """Processes that load volumes; 0 loads them in the training process, best for small cohorts."""
    compile: bool = False
    """Compile the network with torch.compile: a minute at the start, then faster steps on a GPU.
    Dropout draws other random numbers, and the last digits of the weights differ."""
    channels_last: bool = True
    """Store tensors with the channels last where tensor cores gain by it: in bf16 on a GPU, with
    channels in multiples of 8. The last digits of the weights differ."""
    graphs: bool = True
    """Replay training steps as CUDA graphs, since a GPU would wait for Python at a tiny batch;
    only on one GPU. It takes a little more memory."""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"auto|[1-9]\d*|\d+,|\d+(,\d+)+,?", self.devices):
            raise ValueError(f"devices={self.devices}: must be a number above 0, or auto")
        if self.accelerator not in ("auto", "cpu", "gpu"):
            raise ValueError(f"accelerator={self.accelerator}: must be auto, cpu or gpu")
        if self.nodes < 1 or self.workers < 0:
            raise ValueError("--nodes must be at least 1, and --workers at least 0")
        for name, number in (("devices", self.devices), ("workers", str(self.workers))):
            if number.isdigit() and (len(number) > 4 or int(number) > MAX_PROCESSES):
                raise ValueError(f"--{name} {number[:20]}: must be {MAX_PROCESSES} at most")


@dataclass(frozen=True)
class Task:
    """What the members of a run share.

    Attributes
    ----------
    table: the N scans of the run; its index is their position in the cohort's volumes.
    labels: int [N] classes, -1 where missing, or float [N, K] values, NaN where missing.
    covariates: float32 [N, P], NaN where missing.
    adapted: what the model card says of a run that was adapted to a new site; empty for others.
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
    transforms: tuple[str, ...]
    devices: Devices
    flip_average: bool
    init_from: Run | Path | None
    age_norms: str = ""
    adapted: Mapping[str, Any] = field(default_factory=dict)

    def __getstate__(self) -> dict[str, Any]:
        # Another process memory-maps the cohort itself, rather than receiving its volumes.
        return {**self.__dict__, "cohort": self.cohort.path}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, cohort=PreparedCohort.open(state["cohort"]))

    def rows(self, fold: int, *parts: str) -> np.ndarray[Any, Any]:
        """Rows of ``table`` with a subject in one of the ``parts`` (train, validation ...)."""
        subjects = set[str]().union(*(self.splits.subjects(fold, part) for part in parts))
        return np.flatnonzero(self.table["participant_id"].isin(subjects))

    def standardization(self, fold: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """Mean and standard deviation [K] of a regression's columns over the training subjects.

        Raises
        ------
        ValueError: a column is constant or missing there.
        """
        values = self.labels[self.rows(fold, "train")]
        std = np.nanstd(values, axis=0)
        if not np.all(std > 0):
            constant = [n for n, s in zip(self.target.names, std, strict=True) if not s > 0]
            raise ValueError(
                f"--target {', '.join(constant)}: constant or missing in the training subjects of "
                f"fold {fold}; leave the column out, or use fewer folds"
            )
        return np.nanmean(values, axis=0), std

    def may_choose_epoch(self, fold: int) -> bool:
        """Whether a fold has enough validation subjects for their score to choose the epoch."""
        return len(self.splits.subjects(fold, "validation")) >= MIN_VALIDATION

    def dataset(self, fold: int, *parts: str) -> ScanDataset:
        """The scans of ``parts``, a regression's labels standardized."""
        rows = self.rows(fold, *parts)
        labels = self.labels[rows]
        if self.target.regression:
            mean, std = self.standardization(fold)
            labels = ((labels - mean) / std).astype(np.float32)
        positions = self.table.index[rows].tolist()
        return ScanDataset(self.cohort.volumes, positions, labels, self.covariates[rows])


def why_untrainable(task: Task) -> str:
    """Why the network of ``task`` cannot be trained at its batch size; "" where it can.

    Builds it and runs a forward pass in training mode for each batch size that occurs, also that
    of an epoch's last, smaller batch; on shapes alone, without computing.
    """
    size = task.optimization.batch_size
    sizes = set()
    for fold in range(task.splits.folds):
        scans = len(task.rows(fold, "train"))
        sizes |= {min(size, scans), scans % size or size}
    try:
        model = build_model(task.model, seed=0).train().to("meta")
        for number in sorted(sizes):
            with torch.no_grad():
                model(torch.empty(number, 1, *task.cohort.volumes.shape[1:], device="meta"))
    except ValueError as error:
        return " ".join(str(error).split())
    return ""


def optimizer_steps(task: Task, fold: int) -> int:
    """Optimizer steps of a network's training."""
    batches = math.ceil(len(task.rows(fold, "train")) / task.optimization.batch_size)
    return task.optimization.epochs * math.ceil(batches / task.optimization.accumulate)
