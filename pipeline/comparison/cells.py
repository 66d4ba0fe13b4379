"""The design of a comparison: its cells, and the rule that makes them comparable."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from uncus.models.build import ModelConfig
from uncus.models.norms import NORMS, find_norm
from uncus.pipeline.training.optimization import Optimization

WS = "+ws"
"""Suffix of a norm with weight standardization (Qiao 2019, arXiv 1903.10520)."""

Rule = Literal["sqrt", "linear", "none"]
Start = Literal["scratch", "tuned", "frozen"]


@dataclass(frozen=True)
class Design:
    """What is compared and how it is measured; fields as in ``uncus compare``."""

    out: Path
    target: tuple[str, ...]
    norms: tuple[str, ...]
    batch_sizes: tuple[int, ...]
    groups: tuple[int, ...]
    base_batch: int
    seed: int
    seeds: int
    metric: str
    effect: float | None
    dynamics_steps: int
    dynamics_batches: tuple[int, ...]
    so_far: bool


@dataclass(frozen=True)
class Cell:
    """One norm at one batch size: a run.

    Attributes
    ----------
    norm: an entry of ``NORMS``, perhaps with the suffix ``WS``.
    groups: number of groups; None if the norm has none, or if only one number is compared.
    batch: volumes per step.
    start: random weights (scratch), or pre-trained ones with the norms trained further (tuned) or
        not (frozen).
    """

    norm: str
    groups: int | None
    batch: int
    start: Start = "scratch"

    @property
    def line(self) -> str:
        """Its line of a table or plot, common to all batch sizes: ``group (4 groups)``."""
        parts = []
        if self.groups is not None:
            parts.append(f"{self.groups} group{'s' * (self.groups > 1)}")
        if self.start != "scratch":
            parts.append("pre-trained" + (", frozen" if self.start == "frozen" else ""))
        return f"{self.norm} ({', '.join(parts)})" if parts else self.norm

    @property
    def name(self) -> str:
        """The name of its folder: ``group-g4-b2``."""
        groups = "" if self.groups is None else f"-g{self.groups}"
        return f"{self.norm}{groups}-b{self.batch}" + f"-{self.start}" * (self.start != "scratch")


def check_norm(name: str) -> None:
    """Raise ValueError, naming the nearest norm, for an unknown one."""
    find_norm(name.removesuffix(WS))


def grid(
    norms: tuple[str, ...], groups: tuple[int, ...], batches: tuple[int, ...]
) -> tuple[Cell, ...]:
    """All cells, norm by norm; several ``groups`` are compared for norms that have groups."""
    cells = []
    for norm in norms:
        grouped = NORMS[norm.removesuffix(WS)].grouped and len(groups) > 1
        for number in groups if grouped else (None,):
            cells += [Cell(norm, number, batch) for batch in batches]
    return tuple(cells)


def model_of(cell: Cell, base: ModelConfig, groups: int) -> ModelConfig:
    """The network of a cell: ``base`` with the cell's norm, by default with ``groups``."""
    norm = cell.norm.removesuffix(WS)
    number = cell.groups
    if number is None and base.channels_per_group is None and not NORMS[norm].groups_from_batch:
        number = groups
    standardized = base.weight_standardization or cell.norm.endswith(WS)
    changed = {"norm": norm, "groups": number, "weight_standardization": standardized}
    return ModelConfig(**(asdict(base) | changed))


def optimization_of(
    base: Optimization, batch: int, base_batch: int, rule: Rule, frozen: bool = False
) -> Optimization:
    """The optimization of a cell at ``batch``, scaled from ``base`` at ``base_batch``.

    All cells are trained for the same epochs, so a batch k = batch / base_batch times as large
    means k times fewer steps. The learning rate compensates:

    - ``sqrt``: ``lr * sqrt(k)``, which keeps the noise of Adam's steps over an epoch constant
      (Malladi 2022, arXiv 2205.10287, for adaptive optimizers; uncus trains with AdamW),
    - ``linear``: ``lr * k``, as in the GN paper for SGD (0.1 N / 32; Goyal 2017),
    - ``none``: the same.

    AdamW shrinks weights by ``lr * weight_decay`` per step; the weight decay is scaled so that they
    shrink by the same share per epoch. Warm-up is a share of the steps.
    """
    ratio = batch / base_batch
    factor = {"sqrt": ratio**0.5, "linear": ratio, "none": 1.0}[rule]
    shared = asdict(base) | {
        "batch_size": batch,
        "lr": base.lr * factor,
        "weight_decay": base.weight_decay * ratio / factor,
        "freeze_norms": frozen,
    }
    return Optimization(**shared)


def rule_text(rule: Rule, base_batch: int, lr: float) -> str:
    """The rule in a sentence, for the page."""
    formula = {
        "sqrt": f"lr = {lr:g} x sqrt(batch / {base_batch})",
        "linear": f"lr = {lr:g} x batch / {base_batch}",
        "none": f"lr = {lr:g} at every batch size",
    }[rule]
    return (
        f"every cell is trained for the same number of epochs, with {formula} and weight decay "
        "scaled so that weights shrink by the same share per epoch; folds are the same, and for "
        "each seed also the initial convolution weights, the order of scans and the augmentation"
    )


def at_start(cell: Cell, start: Start) -> Cell:
    """The same cell with another start."""
    return replace(cell, start=start)
