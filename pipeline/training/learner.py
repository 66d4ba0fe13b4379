"""One training step, the optimizer and its schedule."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import lightning as L
import numpy as np
import torch
import torch.nn.functional as F
from lightning.pytorch.strategies import FSDPStrategy
from torch import Tensor
from torchmetrics.functional.classification import multiclass_auroc

from uncus.data import augment
from uncus.data.augment import Augment
from uncus.models.base import Classifier
from uncus.models.swap import find_norms
from uncus.pipeline.training.cuda_graphs import GraphedNetwork
from uncus.pipeline.training.data_loading import Batch


@dataclass(frozen=True)
class Optimization:
    """How the weights are found."""

    epochs: int = 50
    """Passes over the training scans; 0, with --refit-head, fits a head to the first trunk."""
    batch_size: int = 2
    """Volumes a step and device."""
    accumulate: int = 1
    """Steps whose gradients are added before the weights change."""
    lr: float = 1e-3
    """Highest learning rate: reached after the warm-up, then a cosine to zero."""
    trunk_lr: float = 1.0
    """The trunk's learning rate as a share of the head's; 0 trains the head alone."""
    weight_decay: float = 0.01
    """AdamW's decay; norms and biases have none."""
    freeze_norms: bool = False
    """Leave the norms as they start: gammas, betas and running statistics, as one does with batch
    norm when fine-tuning at a tiny batch; for --init-from."""
    warmup: float = 0.1
    """Share of all steps over which the learning rate rises."""
    clip: float = 1.0
    """Largest norm of the gradient; 0 does not clip."""
    label_smoothing: float = 0.0
    """Share of each label given to all classes alike."""
    balance: Literal["none", "weights", "sampling"] = "none"
    """Classes of unequal size: as they are, weighted in the loss, or drawn equally often."""
    patience: int = 0
    """Stop after so many epochs without a better validation score; 0 trains to the end."""
    keep: Literal["best", "last"] = "best"
    """Weights to keep: of the best validation score (AUC or MAE), or of the last epoch."""
    refit_head: float = 0.0
    """After the epochs, fit the head anew to the frozen trunk, exactly and in one go: logistic (or
    ridge) regression whose L2 penalty is one over this number, 0.1 for few scans; 0 does not."""
    precision: Literal["auto", "32", "bf16"] = "auto"
    """bf16 computes convolutions in half precision; auto takes it on GPUs that have it."""
    memory: Literal["full", "low"] = "full"
    """low keeps only the inputs of the network's blocks and computes the rest again for the
    gradient: less memory, about a third more time, the same weights."""

    def __post_init__(self) -> None:
        least = {"epochs": 0 if self.refit_head else 1, "batch_size": 1, "accumulate": 1}
        for name, limit in least.items():
            if getattr(self, name) < limit:
                raise ValueError(f"{name}={getattr(self, name)}: must be at least {limit}")
        for name in ("trunk_lr", "warmup", "label_smoothing"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)}: must be between 0 and 1")
        for name in ("weight_decay", "clip", "patience", "refit_head"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name}={getattr(self, name)}: must not be negative")
        if not 0 < self.lr < 10:
            raise ValueError(f"lr={self.lr}: must be above 0, typically 1e-4 to 1e-2")


class Learner(L.LightningModule):
    """Trains one network.

    Parameters
    ----------
    model: the network.
    optimization: how.
    augmentation: how training volumes are varied; None leaves them.
    spacing: of the volumes' voxels, mm.
    seed: fixes augmentation and dropout, together with epoch and scan.
    class_weights: [K] for the loss; None for a regression or equal weights.
    scale: [K] a regression's standard deviations, so that MAE is in the target's units.
    name_scans: positions in the cohort -> text that names them, for error messages.
    graphs: whether full training batches are replayed as CUDA graphs.
    """

    class_weights: Tensor | None

    def __init__(
        self,
        model: Classifier,
        optimization: Optimization,
        augmentation: Augment | None,
        spacing: Sequence[float],
        seed: int,
        class_weights: Tensor | None,
        scale: np.ndarray | None,
        name_scans: Callable[[Sequence[int]], str],
        graphs: bool = False,
    ) -> None:
        super().__init__()
        self.model, self.optimization, self.augmentation = model, optimization, augmentation
        self.spacing, self.seed, self.scale = spacing, seed, scale
        self.name_scans = name_scans
        self.graphed = GraphedNetwork(model, optimization.accumulate > 1) if graphs else None
        # A buffer, so that it is where the network is: a copy in each step would wait for the GPU.
        self.register_buffer("class_weights", class_weights, persistent=False)
        self.validated: list[tuple[Tensor, Tensor]] = []
        self.unchecked: list[tuple[Tensor, int, Tensor]] = []

    def transfer_batch_to_device(
        self, batch: Batch, device: torch.device, dataloader_idx: int
    ) -> Batch:
        moved: Batch = super().transfer_batch_to_device(batch, device, dataloader_idx)
        return {**moved, "scan": batch["scan"]}  # read on the CPU: no waiting for the device

    def on_train_epoch_start(self) -> None:
        if self.optimization.freeze_norms:
            for layer in find_norms(self.model).values():
                layer.eval()

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        # Dropout draws from the global generator: set here, it does not depend on what ran before,
        # so a resumed run draws the same.
        key = (self.seed, self.current_epoch, batch_idx, self.global_rank)
        torch.manual_seed(int(np.random.SeedSequence(key).generate_state(1)[0]))

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        if self.augmentation is None or not self.trainer.training:
            return batch
        draws = [
            augment.draw(self.augmentation, self.seed, self.current_epoch, scan)
            for scan in batch["scan"].tolist()
        ]
        return {**batch, "volume": augment.apply(batch["volume"], draws, self.spacing)}

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        network = self.graphed or self.model
        loss = self.loss(network(batch["volume"], batch["covariates"]), batch["label"])
        self.check_losses()
        self.unchecked.append((loss.detach(), batch_idx, batch["scan"]))
        self.log("loss", loss.detach(), on_step=False, on_epoch=True, batch_size=len(batch["scan"]))
        return loss

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        if self.trainer.is_last_batch:
            self.check_losses()

    def check_losses(self) -> None:
        """Stop where a loss is not finite.

        A step's loss is looked at after the next one's work has been queued, and the epoch's last
        at its end, before anything is kept: to look at once would leave a GPU idle.
        """
        for loss, step, scans in self.unchecked:
            if not torch.isfinite(loss):
                raise ValueError(
                    f"the loss is {loss.item()} at epoch {self.current_epoch}, step {step}, scans "
                    f"{self.name_scans(scans.tolist())}; lower --lr, or look at these scans"
                )
        self.unchecked.clear()

    def answer(self, batch: Batch) -> Tensor:
        """The network's output [N, K] for a batch."""
        return self.model(batch["volume"], batch["covariates"])

    def loss(self, output: Tensor, label: Tensor) -> Tensor:
        """Cross-entropy, or the mean squared error over the values that are there."""
        output = output.float()
        if self.scale is None:
            return F.cross_entropy(
                output,
                label,
                weight=self.class_weights,
                label_smoothing=self.optimization.label_smoothing,
            )
        there = torch.isfinite(label)
        error = torch.where(there, output - torch.nan_to_num(label), torch.zeros_like(output))
        return error.square().sum() / there.sum().clamp(min=1)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        output = self.answer(batch).float()
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
        """What early stopping looks at, higher is better: AUC (one-vs-rest), or minus the MAE
        averaged over columns in standard deviations. Minus the loss where a class is absent."""
        if self.scale is None:
            if int(label.bincount().count_nonzero()) < output.shape[1]:
                return -self.loss(output, label)
            return multiclass_auroc(output.softmax(1), label, num_classes=output.shape[1])
        there = torch.isfinite(label)
        return -(output - label)[there].abs().mean()

    def is_sharded(self) -> bool:
        """Whether each process holds a part of the weights only."""
        return isinstance(self.trainer.strategy, FSDPStrategy)

    def configure_gradient_clipping(
        self, optimizer: Any, gradient_clip_val: Any = None, gradient_clip_algorithm: Any = None
    ) -> None:
        if self.is_sharded():
            super().configure_gradient_clipping(
                optimizer, gradient_clip_val, gradient_clip_algorithm
            )
        elif gradient_clip_val:
            # Lightning refuses to clip for a fused optimizer in mixed precision, since float16's
            # gradients are scaled; those of bf16 are not.
            learnt = [p for group in optimizer.param_groups for p in group["params"]]
            torch.nn.utils.clip_grad_norm_(learnt, gradient_clip_val)

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: Any) -> None:
        # Gradients that are added up over graphs stay tensors of their own: see GraphedNetwork.
        optimizer.zero_grad(set_to_none=self.graphed is None or not self.graphed.accumulates)

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(
            parameter_groups(self.model, self.optimization), fused=not self.is_sharded()
        )
        steps = max(1, int(self.trainer.estimated_stepping_batches))
        warmup = max(1, round(self.optimization.warmup * steps))

        def share(step: int) -> float:
            if step < warmup:
                return (step + 1) / warmup
            return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, share)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }


def parameter_groups(model: Classifier, optimization: Optimization) -> list[dict[str, Any]]:
    """AdamW's groups: trunk and head, each with and without weight decay.

    Vectors (gammas, betas, biases) are not decayed; a trunk with learning rate 0 is frozen, and so
    are norms that are asked to be.
    """
    if optimization.freeze_norms:
        for layer in find_norms(model).values():
            layer.requires_grad_(False)
    beside = model.covariates.parameters() if model.covariates else ()
    head = {id(p) for p in (*model.head.parameters(), *beside)}
    groups = []
    for is_head in (False, True):
        rate = optimization.lr * (1.0 if is_head else optimization.trunk_lr)
        for decayed in (False, True):
            chosen = [
                p
                for p in model.parameters()
                if (id(p) in head) == is_head and (p.ndim > 1) == decayed and p.requires_grad
            ]
            if rate == 0:
                for parameter in chosen:
                    parameter.requires_grad_(False)
            elif chosen:
                decay = optimization.weight_decay if decayed else 0.0
                groups.append({"params": chosen, "lr": rate, "weight_decay": decay})
    return groups
