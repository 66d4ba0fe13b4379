"""How weights are optimized: the options, and AdamW's parameter groups."""

from dataclasses import dataclass
from typing import Any, Literal

import torch

from uncus.models.base import Classifier
from uncus.models.swap import find_norms


@dataclass(frozen=True)
class Optimization:
    """How the weights are optimized: AdamW with warm-up and cosine decay."""

    epochs: int = 50
    """Passes over the training scans; 0, with --refit-head, fits the head only."""
    batch_size: int = 2
    """Volumes per step and device."""
    accumulate: int = 1
    """Steps whose gradients are accumulated before the weights are updated."""
    lr: float = 1e-3
    """Peak learning rate, reached after the warm-up and followed by a cosine decay to zero."""
    trunk_lr: float = 1.0
    """Learning rate of the trunk (all before the head) relative to the head's; 0 freezes it."""
    weight_decay: float = 0.01
    """Weight decay of AdamW; not applied to norms and biases."""
    freeze_norms: bool = False
    """Keep the weights, biases and running statistics of the norms as they are at the start, as is
    usual for batch norm when fine-tuning at a tiny batch; for --init-from."""
    warmup: float = 0.1
    """Share of all steps over which the learning rate increases."""
    clip: float = 1.0
    """Largest norm of the gradient; 0 does not clip."""
    label_smoothing: float = 0.0
    """Share of each label that is spread evenly over all classes."""
    balance: Literal["none", "weights", "sampling"] = "none"
    """Unequal class sizes: ignored, balanced by weights in the loss, or by sampling."""
    patience: int = 0
    """Stop after this many epochs without a better validation score; 0 trains all epochs, and so
    do fewer than 30 validation subjects."""
    keep: Literal["best", "last"] = "best"
    """Weights to keep: of the best validation score (AUC or MAE), or of the last epoch; of the last
    one in any case with fewer than 30 validation subjects, whose score is mostly chance."""
    refit_head: float = 0.0
    """After the epochs, refit the head exactly on the frozen trunk by logistic (or ridge)
    regression with this inverse L2 penalty, such as 0.1 for few scans; 0 does not."""
    adversarial: float = 0.0
    """Train on adversarial volumes: each voxel of the brain is moved by up to this, in standard
    deviations of its intensities, such as 0.02, so that the loss rises (one step from a random
    start, Wong 2020). Twice the time; 0 does not."""
    precision: Literal["auto", "32", "bf16"] = "auto"
    """bf16 computes convolutions in half precision; auto does so on GPUs that support it."""
    memory: Literal["full", "low"] = "full"
    """low stores only the inputs of the network's blocks and recomputes the rest in the backward
    pass: less memory, about a third more time, the same weights."""

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
        if not 0 <= self.adversarial <= 1:
            raise ValueError(
                f"adversarial={self.adversarial}: must be 0 (off) to 1, typically 0.01 to 0.1"
            )
        if self.adversarial and not self.epochs:
            raise ValueError("--adversarial trains in epochs; --epochs 0 has none")
        if not 0 < self.lr < 10:
            raise ValueError(f"lr={self.lr}: must be above 0, typically 1e-4 to 1e-2")


def parameter_groups(model: Classifier, optimization: Optimization) -> list[dict[str, Any]]:
    """AdamW's parameter groups: trunk and head, each with and without weight decay.

    Vectors (weights and biases of norms, biases) are not decayed. Freezes the trunk where its
    learning rate is 0, and the norms with ``freeze_norms``.
    """
    if optimization.freeze_norms:
        for layer in find_norms(model).values():
            layer.requires_grad_(False)
    covariates = model.covariates.parameters() if model.covariates else ()
    head = {id(p) for p in (*model.head.parameters(), *covariates)}
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


def clip_gradients(optimizer: torch.optim.Optimizer, limit: float) -> None:
    """Scale the gradients so that their norm is ``limit`` at most; 0 leaves them as they are."""
    if limit:
        trained = [p for group in optimizer.param_groups for p in group["params"]]
        torch.nn.utils.clip_grad_norm_(trained, limit)
