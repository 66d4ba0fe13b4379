"""Training a member of a run: the network of one fold and seed."""

import logging
import signal
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from typing import Any, Literal

import lightning as L
import numpy as np
import pandas as pd
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger
from torch._dynamo.exc import BackendCompilerFailed

from uncus.data.errors import BadInput
from uncus.data.tables import write_table
from uncus.data.transforms.augmentation import Augmentation
from uncus.data.transforms.custom import custom_transforms
from uncus.models.activation_checkpointing import checkpoint_blocks
from uncus.models.base import Classifier
from uncus.models.build import build_model
from uncus.models.inference import predict
from uncus.models.weights import load_weights, save_weights
from uncus.pipeline import environment
from uncus.pipeline.runs import Member, Run
from uncus.pipeline.training import pretraining
from uncus.pipeline.training.checkpoints import Checkpoints, check_checkpoint, writing
from uncus.pipeline.training.data_loading import EpochSampler, balanced, loader
from uncus.pipeline.training.epoch_bar import EpochBar
from uncus.pipeline.training.head_refit import refit, refit_normed
from uncus.pipeline.training.learner import Learner
from uncus.pipeline.training.optimization import Optimization
from uncus.pipeline.training.processes import this_group
from uncus.pipeline.training.shared_batch import SharedLearner
from uncus.pipeline.training.steps.layout import gains_from_channels_last
from uncus.pipeline.training.task import Devices, Task


def train_member(run: Run, member: Member, task: Task) -> None:
    """Train a member, from its last checkpoint if any; write its weights and predictions."""
    optimization = task.optimization
    L.seed_everything(member_seed(member), verbose=False)
    train, validation = (task.dataset(member.fold, part) for part in ("train", "validation"))
    settings: Any = torch.utils.deterministic
    settings.fill_uninitialized_memory = False  # it would write each tensor twice
    group = this_group()
    sampler = EpochSampler(
        len(train),
        member_seed(member),
        weights=balanced(train.labels) if optimization.balance == "sampling" else None,
        rank=group.rank,
        processes=group.count,
    )
    learner = make_learner(member, task, sampler)
    with quiet_lightning():
        trainer = make_trainer(run, member, task)
    last = run.checkpoint(member)
    if last.exists():
        check_checkpoint(last)
    workers = {"num_workers": task.devices.workers}
    if optimization.epochs:
        logger: Any = trainer.logger  # on the first process; no-ops elsewhere
        logger.log_hyperparams(hyperparameters(member, task))
        with quiet_lightning():
            fit(
                trainer,
                learner,
                loader(train, optimization.batch_size, sampler=sampler, **workers),
                loader(validation, optimization.batch_size, **workers) if len(validation) else None,
                str(last) if last.exists() else None,
            )
        for name in ("score", "loss"):
            if name in trainer.callback_metrics:  # what TensorBoard compares runs by
                logger.log_metrics({"hp_metric": float(trainer.callback_metrics[name])})
                break
    if trainer.is_global_zero:
        model: Any = learner.model.cpu()
        model.to(memory_format=torch.contiguous_format)  # as predictions have it
        may_choose = task.may_choose_epoch(member.fold)
        best = optimization.keep == "best" and may_choose and optimization.epochs
        if best:
            load_weights(model, run.best_weights(member))
        if optimization.refit_head:
            # Validation scans that did not choose the epoch are training scans like the others.
            parts = ("train",) if best else ("train", "validation")
            scans = task.dataset(member.fold, *parts)
            how: Any = {"flip": task.flip_average, "balance": optimization.balance != "none"}
            c = optimization.refit_head
            if task.age_norms:
                norms = pretraining.age_norms(task, member)
                refit_normed(model, scans, task.target, c, norms, **how)
            else:
                refit(model, scans, task.target, c, **how)
        write_table(run.member_predictions(member), test_predictions(model, member, task))
        with writing(run.weights(member)):
            run.model_folder.mkdir(exist_ok=True)
            save_weights(model, run.weights(member))


def check_member(run: Run, member: Member, task: Task) -> int:
    """Check what can be known before a member is trained; nothing is written.

    Returns
    -------
    the number of devices that it is to be trained on.

    Raises
    ------
    ValueError: there are no such devices, or its network, labels or covariates are unsuitable.
    """
    optimization = task.optimization
    try:
        with quiet_lightning():
            trainer = make_trainer(run, member, task)
    except MisconfigurationException as error:
        devices = task.devices
        no_gpu = environment.why_no_gpu() if devices.accelerator == "gpu" else ""
        raise ValueError(
            f"--accelerator {devices.accelerator} --devices {devices.devices}: "
            f"{no_gpu or str(error).strip().splitlines()[0]}"
        ) from error
    make_learner(member, task)
    if optimization.refit_head and task.target.is_classification:
        chooses = optimization.keep == "best" and task.may_choose_epoch(member.fold)
        parts = ("train",) if chooses and optimization.epochs else ("train", "validation")
        absent = set(range(len(task.target.names))) - {*task.dataset(member.fold, *parts).labels}
        if absent:
            raise ValueError(
                f"--refit-head: fold {member.fold} has no training scan of "
                f"{task.target.names[min(absent)]}; use fewer folds, or leave the option out"
            )
    return trainer.world_size


def fit(
    trainer: L.Trainer, learner: Learner, train: Any, validation: Any, last: str | None
) -> None:
    """Run Lightning's fit; errors name what to change, and interrupts are a KeyboardInterrupt.

    Raises
    ------
    MemoryError: the GPU's memory is too small.
    BadInput: ``last`` is a training state of something else.
    ValueError: torch.compile has no compiler.
    """
    interrupts = signal.getsignal(signal.SIGINT)
    try:
        trainer.fit(learner, train, validation, ckpt_path=last, weights_only=True)
    except SystemExit as error:  # Lightning's answer to Ctrl-C; it also ignores the next ones
        if trainer.interrupted:
            signal.signal(signal.SIGINT, interrupts)
            raise KeyboardInterrupt from error
        raise
    except torch.OutOfMemoryError as error:
        size = learner.optimization.batch_size
        raise MemoryError(
            f"out of GPU memory at batch size {size}; lower --batch-size (and raise --accumulate) "
            "or --width, add --memory low or --no-graphs, or prepare the cohort with a larger "
            "--spacing"
        ) from error
    except BackendCompilerFailed as error:
        line = str(error.inner_exception).strip().splitlines()[0]
        raise ValueError(f"--compile: {line}; leave it out, or install a C++ compiler") from error
    except Exception as error:  # whatever Lightning raises for a state that is not this network's
        callbacks: Any = trainer.callbacks  # type: ignore[attr-defined]
        restored = any(getattr(callback, "restored", False) for callback in callbacks)
        if last is None or restored or this_group().count > 1:
            raise
        cause = f"is not a training state of this network ({type(error).__name__})"
        remedy = "delete it to train this network from the start"
        raise BadInput(last, cause, remedy) from error


def make_learner(member: Member, task: Task, sampler: EpochSampler | None = None) -> Learner:
    """The network with its initial weights, and its training steps, perhaps with others'."""
    model = build_model(task.model, seed=member_seed(member))
    if task.init_from:
        for line in pretraining.start(model, task.init_from, member, task.target):
            if sampler and sampler.rank == 0:
                print(line)
    if task.optimization.memory == "low":
        checkpoint_blocks(model)
    half = precision(task.optimization.precision, task.devices.accelerator)
    on_gpu = task.devices.accelerator != "cpu" and torch.cuda.is_available()
    if task.devices.channels_last and gains_from_channels_last(model, half, on_gpu):
        model.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    if task.devices.compile:
        model.compile(dynamic=False)
    train = task.dataset(member.fold, "train")
    if model.covariates:
        try:
            model.covariates.standardize(torch.from_numpy(train.covariates))
        except ValueError as error:
            raise BadInput(
                f"--covariates {' '.join(task.covariate_names)}",
                f"{error} that fold {member.fold} is trained on",
                "leave the column out, or use fewer folds",
            ) from None
    weights = None
    if task.optimization.balance == "weights" and task.target.is_classification:
        per_class = [balanced(train.labels)[train.labels == c] for c in np.unique(train.labels)]
        weights = torch.tensor([w[0] for w in per_class], dtype=torch.float32)
        weights = weights / weights.mean()
    names = task.table[["participant_id", "session_id"]].agg(" ".join, axis=1)

    def name_scans(rows: Sequence[int]) -> str:
        return ", ".join(names.loc[list(rows)].str.strip())

    several = sampler and sampler.processes > 1
    kind: Any = partial(SharedLearner, sampler) if several else Learner  # type: ignore[arg-type]
    grid, seed = task.cohort.grid, member_seed(member)
    before, after = custom_transforms(task.transforms, grid.affine, seed)
    ours = Augmentation.of(task.augment, grid.spacing, seed)
    learner: Learner = kind(
        model=model,
        optimization=task.optimization,
        augmentation=[*before, ours, *after],
        seed=seed,
        class_weights=weights,
        scale=task.standardization(member.fold)[1] if task.target.regression else None,
        name_scans=name_scans,
        # A graph would have to record the attack, too.
        graphs=task.devices.graphs and not several and not task.optimization.adversarial,
    )
    return learner


class Termination(Callback):
    """Leaves SIGTERM to this process: Lightning's handler waits, for other processes too."""

    def __init__(self) -> None:
        self.handler = signal.getsignal(signal.SIGTERM)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self.handler)


def make_trainer(run: Run, member: Member, task: Task) -> L.Trainer:
    """Lightning's Trainer for one member."""
    patience = task.optimization.patience if task.may_choose_epoch(member.fold) else 0
    return plain_trainer(
        task.optimization,
        task.devices,
        logger=TensorBoardLogger(run.tensorboard(member), name="", version=""),
        callbacks=[Checkpoints(run, member, patience), Termination(), EpochBar(member.name)],
    )


def plain_trainer(
    optimization: Optimization, devices: Devices, callbacks: Sequence[Callback], logger: Any = False
) -> L.Trainer:
    """Lightning's Trainer, which logs and saves what its ``logger`` and ``callbacks`` do."""
    several = this_group().count > 1
    return L.Trainer(
        # Otherwise Lightning looks for variables of SLURM and others, which may be of another step.
        plugins=TorchElasticEnvironment() if several else LightningEnvironment(),
        accelerator=devices.accelerator,
        devices=int(devices.devices) if devices.devices.lstrip("-").isdigit() else devices.devices,
        num_nodes=devices.nodes,
        strategy="ddp" if several else "auto",
        precision=precision(optimization.precision, devices.accelerator),
        max_epochs=optimization.epochs,
        accumulate_grad_batches=optimization.accumulate,
        gradient_clip_val=optimization.clip or None,
        deterministic="warn",
        benchmark=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=50,
        logger=logger,
        callbacks=list(callbacks),
    )


def hyperparameters(member: Member, task: Task) -> dict[str, Any]:
    """The options of a member, for TensorBoard."""
    augment = {f"augment.{name}": value for name, value in asdict(task.augment).items()}
    values = asdict(task.model) | asdict(task.optimization) | augment
    values |= {"fold": member.fold, "seed": member.seed, "target": ", ".join(task.target.columns)}
    return {n: v if isinstance(v, int | float | str | bool) else str(v) for n, v in values.items()}


def precision(
    wanted: Literal["auto", "32", "bf16"], accelerator: str
) -> Literal["32-true", "bf16-mixed"]:
    """Lightning's precision; auto is bf16 on GPUs that support it (on a CPU it is slower)."""
    there = accelerator != "cpu" and torch.cuda.is_available()
    gpu = there and torch.cuda.is_bf16_supported(including_emulation=False)
    return "bf16-mixed" if wanted == "bf16" or (wanted == "auto" and gpu) else "32-true"


def member_seed(member: Member) -> int:
    """A different seed for each fold and seed."""
    return int(np.random.SeedSequence((member.seed, member.fold)).generate_state(1)[0])


@torch.inference_mode()
def test_predictions(model: Classifier, member: Member, task: Task) -> pd.DataFrame:
    """Predictions of the member's test and holdout scans, in the columns of predictions.tsv."""
    model.eval()
    tables = []
    for part in ("test", "holdout"):
        rows = task.rows(member.fold, part)
        if not len(rows):
            continue
        outputs = []
        for row, position in zip(rows, task.table.index[rows], strict=True):
            volume = torch.from_numpy(np.asarray(task.cohort.volumes[position], dtype=np.float32))
            covariates = torch.from_numpy(task.covariates[row][None])
            output, _ = predict(model, volume[None, None], task.flip_average, covariates)
            outputs.append(output)
        table = task.table.iloc[rows][["participant_id", "session_id"]].copy()
        table = table.assign(fold=member.fold, seed=member.seed, part=part)
        tables.append(table.assign(**output_columns(torch.cat(outputs), rows, member, task)))
    return pd.concat(tables, ignore_index=True)


def output_columns(
    output: torch.Tensor, rows: np.ndarray[Any, Any], member: Member, task: Task
) -> dict[str, Any]:
    """The true labels and the predictions: class probabilities, or values in their units."""
    names = task.target.names
    if task.target.is_classification:
        probabilities = output.softmax(1).numpy()
        true = [names[label] if label >= 0 else "" for label in task.labels[rows]]
        return {"true": true, **{f"p_{name}": probabilities[:, k] for k, name in enumerate(names)}}
    mean, std = task.standardization(member.fold)
    values = output.numpy() * std + mean
    columns: dict[str, Any] = {}
    for k, name in enumerate(names):
        columns[f"true_{name}"] = task.labels[rows, k]
        columns[f"pred_{name}"] = values[:, k]
    return columns


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Silence advice that does not apply, such as more workers: the cohort is memory-mapped."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning")
            yield
    finally:
        logger.setLevel(level)
