"""How weights are optimized: the options, and AdamW's parameter groups."""

from dataclasses import dataclass
from typing import Any, Literal

from uncus.models.base import Classifier
from uncus.models.swap import find_norms


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
