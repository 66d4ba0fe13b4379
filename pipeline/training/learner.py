"""One training step, the optimizer and its schedule."""

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import lightning as L
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics.functional.classification import multiclass_auroc

from uncus.data.transforms.augmentation import Augmentation
from uncus.data.transforms.custom import CustomTransform
from uncus.models.adversarial import fast_fgsm
from uncus.models.base import Classifier
from uncus.models.swap import find_norms
from uncus.pipeline.training.data_loading import Batch
from uncus.pipeline.training.optimization import (
    Optimization,
    clip_gradients,
    parameter_groups,
)
from uncus.pipeline.training.steps.graphs import SideStream, can_record
from uncus.pipeline.training.steps.loss_check import LossCheck, all_finite
from uncus.pipeline.training.steps.whole_step import WholeStep


class Learner(L.LightningModule):
    """Trains one network.

    Parameters
    ----------
    model: the network.
    optimization: how its weights are optimized.
    augmentation: random changes to training volumes, applied one after the other.
    seed: fixes dropout, together with epoch and scan.
    class_weights: [K] for the loss; None for a regression or equal weights.
    scale: [K] standard deviations of a regression's columns; None for a classification.
    name_scans: positions in the cohort -> their names, for error messages.
    graphs: whether training steps are replayed as CUDA graphs.
    """

    class_weights: Tensor | None

    def __init__(
        self,
        model: Classifier,
        optimization: Optimization,
        augmentation: Sequence[Augmentation | CustomTransform],
        seed: int,
        class_weights: Tensor | None,
        scale: np.ndarray | None,
        name_scans: Callable[[Sequence[int]], str],
        graphs: bool = False,
    ) -> None:
        super().__init__()
        self.model, self.optimization, self.augmentation = model, optimization, augmentation
        self.seed, self.scale = seed, scale
        self.losses = LossCheck(name_scans)
        self.graphs = graphs
        self.whole: WholeStep | None = None
        self.updating = False
        self.beside = SideStream(torch.device("cpu"))
        # A buffer is on the network's device: copying it in each step would wait for the GPU.
        self.register_buffer("class_weights", class_weights, persistent=False)
        self.validated: list[tuple[Tensor, Tensor]] = []

    def transfer_batch_to_device(
        self, batch: Batch, device: torch.device, dataloader_idx: int
    ) -> Batch:
        with self.ahead():
            moved: Batch = super().transfer_batch_to_device(batch, device, dataloader_idx)
        return {**moved, "scan": batch["scan"]}  # read on the CPU, without waiting for the device

    def ahead(self) -> AbstractContextManager[None]:
        """Work on a training batch, which a GPU does while it computes the step before."""
        training = self.trainer.training
        return self.beside.work(at_once=True) if training else nullcontext()

    def on_train_start(self) -> None:
        self.beside = SideStream(self.device)
        if self.graphs and can_record(
            self.device
        ):  # the optimizer has its state by now, also where it is restored
            optimizer = self.trainer.optimizers[0]
            self.whole = WholeStep(self.model, self.loss, optimizer, self.optimization)

    def on_train_end(self) -> None:
        self.losses.finish()
        self.whole = None  # its memory is needed for the next network

    def on_train_epoch_start(self) -> None:
        if self.optimization.freeze_norms:
            for layer in find_norms(self.model).values():
                layer.eval()

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        # Dropout uses the global generator: seeded here, a resumed run draws the same numbers.
        key = (self.seed, self.current_epoch, batch_idx, 0)
        torch.manual_seed(int(np.random.SeedSequence(key).generate_state(1)[0]))

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        if not self.trainer.training:
            return batch
        with self.ahead():
            changed = self.augmented(batch, self.current_epoch)
        self.beside.hand_over(changed.values())
        return changed

    def augmented(self, batch: Batch, epoch: int) -> Batch:
        """The batch with random changes to its volumes, determined by seed, epoch and scan."""
        for change in self.augmentation:
            change.set_epoch(epoch)
            batch = change(batch)
        return batch

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        volume, covariates, label = (batch[name] for name in ("volume", "covariates", "label"))
        if eps := self.optimization.adversarial:
            volume = fast_fgsm(
                lambda changed: self.loss(self.model(changed, covariates), label),
                volume,
                eps,
                self.random_start(volume),
            )
        if self.whole:
            loss, scans = self.whole(volume, covariates, label, self.updating), len(label)
        else:
            output = self.model(volume, covariates)
            loss, scans = self.training_loss(output, label, batch_idx)
        self.losses.add(loss, self.current_epoch, batch_idx, batch["scan"])
        several = self.trainer.world_size > 1
        self.log(
            "loss", loss.detach(), on_step=False, on_epoch=True, batch_size=scans, sync_dist=several
        )
        return loss

    def random_start(self, volume: Tensor) -> Tensor:
        """Uniform noise from -1 to 1 for each voxel, by torch's generator."""
        return torch.empty_like(volume).uniform_(-1, 1)

    def training_loss(self, output: Tensor, label: Tensor, step: int) -> tuple[Tensor, int]:
        """The loss of a batch, and the number of its scans."""
        return self.loss(output, label), len(label)

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        if not self.trainer.is_last_batch:
            return
        # Nothing is saved of a training that has diverged, if only in the epoch's last update.
        self.losses.finish()
        if not all_finite(self.model.state_dict().values()):
            raise ValueError(
                f"the weights are not finite after epoch {self.current_epoch}, step {batch_idx}; "
                "lower --lr"
            )

    def outputs(self, batch: Batch) -> Tensor:
        """The network's output [N, K] for a batch."""
        return self.model(batch["volume"], batch["covariates"])

    def loss(self, output: Tensor, label: Tensor) -> Tensor:
        """Cross-entropy, or the mean squared error over the values that are not missing."""
        output = output.float()
        if self.scale is None:
            return F.cross_entropy(
                output,
                label,
                weight=self.class_weights,
                label_smoothing=self.optimization.label_smoothing,
            )
        known = torch.isfinite(label)
        error = torch.where(known, output - torch.nan_to_num(label), torch.zeros_like(output))
        return error.square().sum() / known.sum().clamp(min=1)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        output = self.outputs(batch).float()
        self.validated.append((output, batch["label"]))

    def on_validation_epoch_end(self) -> None:
        output = torch.cat([o for o, _ in self.validated])
        label = torch.cat([y for _, y in self.validated])
        self.validated.clear()
        if self.trainer.world_size > 1:
            gathered: Any = self.all_gather([output, label])
            output, label = (t.flatten(0, 1) for t in gathered)
        self.log_dict({"val_loss": self.loss(output, label), "score": self.score(output, label)})

    def score(self, output: Tensor, label: Tensor) -> Tensor:
        """The validation score, higher is better: AUC (one-vs-rest), or minus the MAE over all
        columns, in standard deviations. Minus the loss where a class is absent."""
        if self.scale is None:
            if int(label.bincount().count_nonzero()) < output.shape[1]:
                return -self.loss(output, label)
            return multiclass_auroc(output.softmax(1), label, num_classes=output.shape[1])
        return -(output - label)[torch.isfinite(label)].abs().mean()

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        if not self.whole:
            super().backward(loss, *args, **kwargs)

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: Any,
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:
        if not self.whole:
            super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
            return
        # The closure calls training_step, which is the whole step; Lightning has nothing to add.
        assert optimizer_closure is not None
        self.updating = True
        optimizer_closure()
        self.updating = False

    def configure_gradient_clipping(
        self, optimizer: Any, gradient_clip_val: Any = None, gradient_clip_algorithm: Any = None
    ) -> None:
        # Lightning does not clip for a fused optimizer in mixed precision, since float16's
        # gradients are scaled; those of bf16 are not.
        clip_gradients(optimizer, gradient_clip_val or 0)

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: Any) -> None:
        if not self.whole:
            super().optimizer_zero_grad(epoch, batch_idx, optimizer)

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(parameter_groups(self.model, self.optimization), fused=True)
        steps = max(1, int(self.trainer.estimated_stepping_batches))
        warmup = max(1, round(self.optimization.warmup * steps))

        def factor(step: int) -> float:
            if step < warmup:
                return (step + 1) / warmup
            return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }
