"""``uncus compare --dynamics``: how smooth training is with each norm.

The measurements of Santurkar 2018 (arXiv 1805.11604), which the authors of GN+ (Gunawan 2022, arXiv
2207.01972) applied to group norm. At a step from x_t along d (the optimizer's step per unit of
learning rate), for five learning rates eta:

- loss: the range of ``L(x_t + eta d)`` on the same batch,
- gradient change: the range of ``|g(x_t + eta d) - g(x_t)|``,
- effective beta-smoothness: the maximum of ``|g(x_t + eta d) - g(x_t)| / |eta d|``,

and the test loss after training with noise ``N(0.001, s)``, drawn per sample and group, or with
dropout, after each norm. The same network without norms shows in which period of the training a
norm makes it smoother, the GN+ authors' last question.
"""

import itertools
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from uncus.data import files
from uncus.data.prepared_cohort import PreparedCohort
from uncus.models.swap import find_norms
from uncus.pipeline import config
from uncus.pipeline.comparison.cells import Design, grid
from uncus.pipeline.progress_bars import track
from uncus.pipeline.runs import Comparison, Member, members
from uncus.pipeline.training.data_loading import Batch, EpochSampler, loader
from uncus.pipeline.training.learner import Learner
from uncus.pipeline.training.member import make_learner, member_seed
from uncus.pipeline.training.optimization import parameter_groups
from uncus.pipeline.training.task import Task

RATES = (0.25, 0.5, 1.0, 2.0, 4.0)
"""The five learning rates, as multiples of the cell's."""
NOISE = (0.0, 0.5, 1.001)
"""Standard deviations of the noise; the largest is that of the GN+ authors."""
NOISE_MEAN = 0.001
DROPOUT = (0.0, 0.25, 0.5)
PROBES = 20
"""Number of steps of a training at which the five learning rates are tried."""
WITHOUT = "without norms"
MOST_SEEDS = 3
TINY = 1e-30


def measure(design: Design, cohort: PreparedCohort, tasks: Mapping[str, Task]) -> dict[str, Any]:
    """Measure every norm at the batch sizes of ``design`` for it, in fold 0.

    Each training's result is saved, so that an interrupted measurement continues. All train on as
    many volumes: ``dynamics_steps`` steps at the base batch.

    Returns
    -------
    ``sizes`` is batch size -> line -> ``steps``, ``bands`` (lists over the measured steps, means
    over seeds), ``noise`` and ``dropout`` (strength -> test loss, mean over seeds), and ``periods``
    (smoothness in the first, middle and last third, relative to that without norms). The line
    ``WITHOUT`` is the network without norms.
    """
    nearest = min(design.batch_sizes, key=lambda size: (abs(size - design.base_batch), size))
    variants = [("noise", s) for s in NOISE] + [("dropout", p) for p in DROPOUT if p]
    seeds = [m for m in members(1, design.seed, design.seeds) if m.fold == 0][:MOST_SEEDS]
    todo = []
    for batch in design.dynamics_batches or (nearest,):
        cells = [c for c in grid(design.norms, design.groups, (batch,)) if c.name in tasks]
        todo += list(itertools.product(seeds, cells, variants))
        todo += list(itertools.product(seeds, cells[:1], [(WITHOUT, 1.0)]))
    sizes: dict[str, Any] = {}
    for member, cell, (kind, level) in track(todo, "dynamics"):
        task = tasks[cell.name]
        steps = max(PROBES, round(design.dynamics_steps * design.base_batch / cell.batch))
        made = {
            "steps": steps,
            "model": config.to_dict(task.model),
            "optimization": config.to_dict(task.optimization),
            "cohort": cohort.fingerprint,
        }
        name = f"{cell.name}-{kind}-{level:g}-seed-{member.seed}"
        path = Comparison(design.out).dynamics(name)
        result = files.read_json(path) if path.exists() else {}
        if result.get("made") != made:
            if design.so_far:
                continue
            result = {"made": made, **train(task, member, steps, kind, level)}
            files.write_json(path, result)
        line = WITHOUT if kind == WITHOUT else cell.line
        lines = sizes.setdefault(str(cell.batch), {})
        entry = lines.setdefault(line, {"steps": steps, "bands": [], "noise": {}, "dropout": {}})
        if level == 0 or kind == WITHOUT:
            entry["bands"].append(result["bands"])
        if level == 0:
            entry["dropout"].setdefault("0", []).append(result["test_loss"])
        if kind != WITHOUT:
            entry[kind].setdefault(f"{level:g}", []).append(result["test_loss"])
    for lines in sizes.values():
        for entry in lines.values():
            bands = entry["bands"]
            names = [n for n in bands[0] if all(len(b[n]) == len(bands[0][n]) for b in bands)]
            entry["bands"] = {n: np.mean([b[n] for b in bands], axis=0).tolist() for n in names}
            for kind in ("noise", "dropout"):
                entry[kind] = {k: mean(values) for k, values in entry[kind].items()}
        for entry in lines.values():
            entry["periods"] = periods(entry, lines.get(WITHOUT))
    return {"rates": RATES, "sizes": sizes}


def periods(entry: Mapping[str, Any], without: Mapping[str, Any] | None) -> list[float]:
    """Effective smoothness in each third of the training, divided by that without norms.

    Below 1, training is smoother with the norm. Empty where one of the two diverged.
    """
    mine, other = (e["bands"].get("beta", []) if e else [] for e in (entry, without))
    if len(mine) != len(other) or len(mine) < 3:
        return []
    ratio = np.log(np.maximum(mine, TINY)) - np.log(np.maximum(other, TINY))
    return [float(np.exp(np.median(part))) for part in np.array_split(ratio, 3)]


def mean(values: list[float | None]) -> float | None:
    """The mean; None if a training diverged."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if len(known) == len(values) else None


def train(task: Task, member: Member, steps: int, kind: str, level: float) -> dict[str, Any]:
    """Train ``steps`` steps at a constant learning rate; measure bands if nothing is added."""
    probed = level == 0 or kind == WITHOUT
    torch.manual_seed(member_seed(member))
    learner = make_learner(member, task)
    model = learner.model.train()
    optimizer = torch.optim.AdamW(parameter_groups(model, task.optimization))
    generator = torch.Generator().manual_seed(member.seed)
    bands: dict[str, list[float]] = {
        name: [] for name in ("step", "loss", "low", "high", "change_low", "change_high", "beta")
    }
    every = max(1, steps // PROBES)
    with disturbed(model, kind, level, generator):
        for step, batch in enumerate(batches(task, member, learner, steps)):
            loss, gradient = loss_and_gradient(learner, batch)
            if not np.isfinite(loss):
                return {"bands": bands, "test_loss": None}
            if task.optimization.clip:
                nn.utils.clip_grad_norm_(model.parameters(), task.optimization.clip)
            before = [p.detach().clone() for p in model.parameters()]
            optimizer.step()
            if probed and step % every == 0:
                after = [p.detach().clone() for p in model.parameters()]
                for name, value in probe(learner, batch, before, after, gradient).items():
                    bands[name].append(value)
                bands["step"].append(step)
                bands["loss"].append(loss)
                restore(model, after)
    return {"bands": bands, "test_loss": test_loss(learner, task, member)}


def batches(task: Task, member: Member, learner: Learner, steps: int) -> Iterator[Batch]:
    """``steps`` augmented batches of the fold's training scans."""
    scans = task.dataset(member.fold, "train")
    sampler = EpochSampler(len(scans), member_seed(member))
    read = loader(scans, task.optimization.batch_size, sampler=sampler)
    for epoch in range(math.ceil(steps / len(read))):
        sampler.set_epoch(epoch)
        for batch in itertools.islice(read, steps - epoch * len(read)):
            yield learner.augmented(batch, epoch)


def loss_and_gradient(learner: Learner, batch: Batch) -> tuple[float, Tensor]:
    """Loss and gradient (flattened to one vector) of a batch at the current weights."""
    learner.model.zero_grad()
    loss = learner.loss(learner.outputs(batch), batch["label"])
    torch.autograd.backward(loss)
    parts = [
        torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten().clone()
        for p in learner.model.parameters()
    ]
    return float(loss.detach()), torch.cat(parts)


def probe(
    learner: Learner, batch: Batch, before: list[Tensor], after: list[Tensor], gradient: Tensor
) -> dict[str, float]:
    """Loss and gradient at the five learning rates along the step from ``before`` to ``after``."""
    model = learner.model
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    length = float(torch.sqrt(sum_squares(before, after)))
    losses, changes, betas = [], [], []
    for rate in RATES:
        restore(model, [b + rate * (a - b) for b, a in zip(before, after, strict=True)])
        loss, moved = loss_and_gradient(learner, batch)
        change = float((moved - gradient).norm())
        losses.append(loss)
        changes.append(change)
        betas.append(change / (rate * length) if length else 0.0)
    with torch.no_grad():
        for name, buffer in model.named_buffers():  # restore the running statistics
            buffer.copy_(buffers[name])
    return {
        "low": min(losses),
        "high": max(losses),
        "change_low": min(changes),
        "change_high": max(changes),
        "beta": max(betas),
    }


def sum_squares(before: list[Tensor], after: list[Tensor]) -> Tensor:
    """The squared distance between two sets of weights."""
    parts = [(a - b).square().sum() for b, a in zip(before, after, strict=True)]
    return torch.stack(parts).sum()


def restore(model: nn.Module, values: list[Tensor]) -> None:
    """Set the model's weights to ``values``."""
    with torch.no_grad():
        for parameter, value in zip(model.parameters(), values, strict=True):
            parameter.copy_(value)


@contextmanager
def disturbed(
    model: nn.Module, kind: str, level: float, generator: torch.Generator
) -> Iterator[None]:
    """Add noise or dropout after every norm, or pass by it, within the ``with`` block."""

    def after(layer: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        if kind == WITHOUT:
            unnormed: Tensor = inputs[0]
            return unnormed
        if kind == "dropout":
            return F.dropout(output, level)
        channels = output.shape[1]
        # batch_group counts groups over the whole batch, perhaps more than channels
        groups = math.gcd(getattr(layer, "num_groups", None) or channels, channels)
        shape = (output.shape[0], groups, 1)
        noise = NOISE_MEAN + level * torch.randn(shape, generator=generator)
        spread = noise.to(output).expand(-1, -1, channels // groups)
        return output + spread.reshape(*output.shape[:2], *[1] * (output.ndim - 2))

    hooks = [n.register_forward_hook(after) for n in find_norms(model).values()] if level else []
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@torch.inference_mode()
def test_loss(learner: Learner, task: Task, member: Member) -> float | None:
    """The loss on the fold's test subjects."""
    learner.model.eval()
    scans = task.dataset(member.fold, "test")
    outputs, labels = [], []
    for batch in loader(scans, 1):
        outputs.append(learner.outputs(batch))
        labels.append(batch["label"])
    loss = float(learner.loss(torch.cat(outputs), torch.cat(labels)))
    return loss if np.isfinite(loss) else None
