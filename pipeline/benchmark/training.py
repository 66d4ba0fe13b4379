"""Steps of ``uncus train`` as it runs them, timed, on batches in the device's memory."""

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pandas as pd
import torch
from lightning.pytorch.callbacks import Callback

from uncus.data.augment import Augment
from uncus.data.design.splits import Splits
from uncus.data.design.targets import Target
from uncus.data.geometry.grid import Grid
from uncus.data.prepared_cohort import PreparedCohort
from uncus.models.build import ModelConfig
from uncus.pipeline.runs import Member, Run
from uncus.pipeline.timing import Clock
from uncus.pipeline.training.checkpoints import Checkpoints
from uncus.pipeline.training.data_loading import Batch
from uncus.pipeline.training.epoch_bar import NO_BAR
from uncus.pipeline.training.learner import Learner
from uncus.pipeline.training.member import (
    fit,
    make_learner,
    make_trainer,
    precision,
    quiet_lightning,
)
from uncus.pipeline.training.optimization import Optimization, parameter_groups
from uncus.pipeline.training.steps.whole_step import WholeStep
from uncus.pipeline.training.task import Devices, Task

MEMBER = Member(0, 0, "fold-0")
STEPS = 10**6
"""In an epoch; a training is stopped before."""
SPACING = 1.0  # mm


def synthetic_task(
    model: ModelConfig, shape: Sequence[int], batch: int, device: torch.device, **options: Any
) -> Task:
    """The task of a cohort of noise: two classes, ``batch`` training scans of ``shape`` voxels.

    ``options`` are options of ``uncus train`` in `Devices` or `Optimization`; the others, and all
    of the augmentation, have their defaults.
    """
    names = [f"sub-{number}" for number in range(batch + 2)]
    parts = ["train"] * batch + ["test"] * 2
    volumes: Any = np.zeros((len(names), *shape), np.float16)
    grid = Grid((shape[0], shape[1], shape[2]), np.diag([SPACING] * 3 + [1.0]))
    table = pd.DataFrame({"participant_id": names, "session_id": ""})
    where: Any = {"accelerator": "cpu"}
    if device.type == "cuda":
        where = {"accelerator": "gpu", "devices": f"{device.index or 0},"}
    ours = {name: options[name] for name in options if name in Devices.__dataclass_fields__}
    rest = {name: options[name] for name in options if name not in ours}
    return Task(
        cohort=PreparedCohort(
            Path(), table, volumes, grid, "keep", np.zeros((len(names), 6)), "", {}
        ),
        table=table,
        labels=np.arange(len(names)) % 2,
        covariates=np.zeros((len(names), 0), np.float32),
        covariate_names=(),
        target=Target(("diagnosis",), {"CN": ("CN",), "AD": ("AD",)}),
        splits=Splits(pd.DataFrame({"participant_id": names, "fold-0": parts})),
        model=replace(model, classes=2),
        optimization=Optimization(epochs=1, batch_size=batch, **rest),
        augment=Augment(),
        transforms=(),
        devices=Devices(**where, **ours),
        flip_average=False,
        init_from=None,
    )


def train(
    task: Task,
    clock: Clock,
    augmented: bool,
    on_start: Callable[[], object] = lambda: None,
) -> tuple[Learner, bool]:
    """Train the network of ``task`` by Lightning's Trainer until ``clock`` is done.

    Returns the learner, and whether CUDA graphs were replayed.

    Parameters
    ----------
    augmented: whether each step augments its batch first, as ``uncus train`` does by default.
    on_start: called once Lightning has set everything up, before the first step.
    """
    learner = make_learner(MEMBER, task)
    if not augmented:
        learner.augmentation = []
    before = os.environ.get(NO_BAR)
    os.environ[NO_BAR] = "1"
    try:
        with tempfile.TemporaryDirectory(prefix="uncus-bench-") as folder, quiet_lightning():
            trainer: Any = make_trainer(Run(Path(folder)), MEMBER, task)
            # What is done once in an epoch is no part of a step.
            kept = [one for one in trainer.callbacks if not isinstance(one, Checkpoints)]
            ticks = Ticks(clock, on_start)
            trainer.callbacks = [*kept, ticks]
            fit(trainer, learner, DeviceBatches(task), None, None)
            trainer.logger.finalize("success")
    finally:
        del os.environ[NO_BAR]
        if before is not None:
            os.environ[NO_BAR] = before
    assert clock.done
    return learner, ticks.graphs


def run_bare(task: Task, clock: Clock, device: torch.device) -> tuple[Learner, bool]:
    """The steps of `train` without Lightning's Trainer around them; returns the same."""
    learner = make_learner(MEMBER, task).train().to(device)
    groups = parameter_groups(learner.model, task.optimization)
    optimizer = torch.optim.AdamW(groups, lr=task.optimization.lr, fused=True)
    gpu = device.type == "cuda"
    step = WholeStep(
        learner.model, learner.loss, optimizer, task.optimization, gpu and task.devices.graphs
    )
    batch = synthetic_batch(task)
    half = precision(task.optimization.precision, task.devices.accelerator) == "bf16-mixed"
    while not clock.done:
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=half):
            step(batch["volume"], batch["covariates"], batch["label"])
        clock.tick()
    return learner, bool(step.graphs)


class Ticks(Callback):
    """Ticks a clock after each step, and ends the training when it is done."""

    def __init__(self, clock: Clock, on_start: Callable[[], object]) -> None:
        self.clock, self.on_start, self.graphs = clock, on_start, False

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.on_start()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any, **__: Any
    ) -> None:
        self.clock.tick()
        if self.clock.done:
            trainer.should_stop = True
            step: Any = pl_module.whole
            self.graphs = bool(step and step.graphs)


class DeviceBatches:
    """The same batch for each step of an epoch, in the device's memory; reading is timed apart."""

    def __init__(self, task: Task) -> None:
        self.task = task

    def __len__(self) -> int:
        return STEPS

    def __iter__(self) -> Iterator[Batch]:
        batch = synthetic_batch(self.task)
        for _ in range(STEPS):
            yield dict(batch)


def synthetic_batch(task: Task) -> Batch:
    """A batch of noise [N, 1, X, Y, Z] for ``task``, on its device."""
    devices = task.devices
    device = "cpu" if devices.accelerator == "cpu" else f"cuda:{devices.devices.rstrip(',')}"
    scans = torch.arange(task.optimization.batch_size)
    shape = (len(scans), 1, *task.cohort.grid.shape)
    return {
        "volume": torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(device),
        "label": (scans % 2).to(device),
        "covariates": torch.zeros(len(scans), 0, device=device),
        "scan": scans,
    }
