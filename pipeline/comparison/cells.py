"""The design of a comparison: its cells, and the rule that makes them comparable."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from uncus.models.build import ModelConfig
from uncus.models.norms import NORMS, find_norm
from uncus.pipeline.training.optimization import Optimization

WS = "+ws"
"""Suffix of a norm that is used with weight standardization (Qiao 2019, arXiv 1903.10520)."""

Rule = Literal["sqrt", "linear", "none"]
Start = Literal["scratch", "tuned", "frozen"]


@dataclass(frozen=True)
class Design:
    """What is compared and how it is measured; the fields are those of ``uncus compare``."""

    out: Path
    target: tuple[str, ...]
    norms: tuple[str, ...]
    batch_sizes: tuple[int, ...]
    groups: tuple[int, ...]
    base_batch: int
    seed: int
    seeds: int
    metric: str
    draws: int
    dynamics_steps: int


@dataclass(frozen=True)
class Cell:
    """One entry of the grid: an ordinary run.

    Attributes
    ----------
    norm: an entry of ``NORMS``, perhaps with ``WS`` behind it.
    groups: number of groups; None where the norm has none or only one number is compared.
    batch: volumes a step.
    start: from random weights (scratch), or from a pre-training whose norms are trained on
        (tuned) or left as they are (frozen).
    """

    norm: str
    groups: int | None
    batch: int
    start: Start = "scratch"

    @property
    def line(self) -> str:
        """What it is in a table and a plot, whatever the batch size: ``group (4 groups)``."""
        parts = []
        if self.groups is not None:
            parts.append(f"{self.groups} group{'s' * (self.groups > 1)}")
        if self.start != "scratch":
            parts.append("pre-trained" + (", frozen" if self.start == "frozen" else ""))
        return f"{self.norm} ({', '.join(parts)})" if parts else self.norm

    @property
    def name(self) -> str:
        """The name of its folder."""
        groups = "" if self.groups is None else f"-g{self.groups}"
        return f"{self.norm}{groups}-b{self.batch}" + f"-{self.start}" * (self.start != "scratch")


def check_norm(name: str) -> None:
    """Raise ValueError, naming the nearest norm, for a name that is none."""
    find_norm(name.removesuffix(WS))


def grid(
    norms: tuple[str, ...], groups: tuple[int, ...], batches: tuple[int, ...]
) -> tuple[Cell, ...]:
    """The cells, norm by norm; several ``groups`` are compared where the norm has groups."""
    cells = []
    for norm in norms:
        grouped = NORMS[norm.removesuffix(WS)].grouped and len(groups) > 1
        for number in groups if grouped else (None,):
            cells += [Cell(norm, number, batch) for batch in batches]
    return tuple(cells)


def model_of(cell: Cell, base: ModelConfig, groups: int) -> ModelConfig:
    """The network of a cell: ``base`` with its norm, and ``groups`` where nothing else tells."""
    norm = cell.norm.removesuffix(WS)
    number = cell.groups
    if number is None and base.channels_per_group is None and not NORMS[norm].groups_from_batch:
        number = groups
    standardized = base.weight_standardization or cell.norm.endswith(WS)
    own = {"norm": norm, "groups": number, "weight_standardization": standardized}
    return ModelConfig(**(asdict(base) | own))


def optimization_of(
    base: Optimization, batch: int, base_batch: int, rule: Rule, frozen: bool = False
) -> Optimization:
    """How a cell at ``batch`` is trained when ``base`` suits ``base_batch``.

    All cells see the same volumes as often (the same epochs), so a batch k times as large makes k
    times fewer steps. The learning rate makes up for that, with k = batch / base_batch:

    - ``sqrt``: ``lr * sqrt(k)``, which keeps the noise of Adam's steps over an epoch the same
      (Malladi 2022, arXiv 2205.10287, for adaptive optimizers; uncus trains with AdamW),
    - ``linear``: ``lr * k``, as the GN paper has it for SGD (0.1 N / 32; Goyal 2017),
    - ``none``: the same.

    AdamW shrinks weights by ``lr * weight_decay`` a step; the weight decay is scaled so that they
    shrink by the same share an epoch. Warm-up is a share of the steps and scales by itself.
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
    """The rule in a sentence."""
    formula = {
        "sqrt": f"lr = {lr:g} x sqrt(batch / {base_batch})",
        "linear": f"lr = {lr:g} x batch / {base_batch}",
        "none": f"lr = {lr:g} at every batch size",
    }[rule]
    return (
        f"the same number of epochs, hence of volumes seen, for every cell; {formula}; weight "
        "decay scaled so that weights shrink by the same share an epoch; the same folds, and for "
        "each seed the same first convolution weights, order of scans and augmentation"
    )


def at_start(cell: Cell, start: Start) -> Cell:
    """The same cell, started otherwise."""
    return replace(cell, start=start)
