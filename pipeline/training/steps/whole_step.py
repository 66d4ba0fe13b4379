"""A training step as one function, which a GPU records once and then replays as a whole."""

import warnings
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from uncus.pipeline.training.optimization import Optimization, clip_gradients
from uncus.pipeline.training.steps import graphs
from uncus.pipeline.training.steps.graphs import SideStream, capturable, uncached

PLAIN = 3
"""Steps of each kind that are run before one is recorded: they compile kernels, choose algorithms
and allocate the optimizer's state, which cannot be recorded."""
RATE = torch.float32
"""Type of a learning rate on a GPU: the one that the fused AdamW reads."""


Inputs = tuple[Tensor, Tensor, Tensor]
"""Volumes, covariates and labels of a batch."""


class Graph(NamedTuple):
    """A recorded step, with the memory that it reads its batch from and writes its loss to."""

    inputs: Inputs
    replay: Callable[[], None]
    loss: Tensor


class WholeStep:
    """A training step: forward, loss and backward, and on an update clipping and AdamW.

    On a GPU the first steps of each kind (shapes of the batch, with an update or without) are run
    as they are; then one is recorded, and from then on replayed. A replay reads the batch and the
    learning rates from fixed memory, and the state of the random generator as it is then. Where a
    step cannot be recorded, a warning says why and all steps are run as they are.

    Parameters
    ----------
    network: [N, 1, X, Y, Z] and [N, P] -> output [N, K].
    loss: output and labels -> loss [].
    optimizer: a fused AdamW.
    optimization: how many batches to accumulate, and the largest norm of the gradient.
    record: whether to; False runs every step as it is.
    """

    def __init__(
        self,
        network: Callable[[Tensor, Tensor], Tensor],
        loss: Callable[[Tensor, Tensor], Tensor],
        optimizer: torch.optim.Optimizer,
        optimization: Optimization,
        record: bool = True,
    ) -> None:
        self.network, self.loss, self.optimizer = network, loss, optimizer
        self.optimization, self.recording = optimization, record
        groups = optimizer.param_groups
        self.trained: list[Tensor] = [p for group in groups for p in group["params"]]
        device = self.trained[0].device
        self.rates = [torch.zeros((), dtype=RATE, device=device) for _ in groups]
        self.side = SideStream(device)
        self.pool = torch.cuda.graph_pool_handle() if self.side.stream else None
        self.plain: Counter[Any] = Counter()
        self.graphs: dict[Any, Graph] = {}
        self.gradients: list[Tensor | None] = []

    def __call__(
        self, volume: Tensor, covariates: Tensor, label: Tensor, update: bool = True
    ) -> Tensor:
        """The batch's loss []; its gradients are accumulated, and with ``update`` applied."""
        batch = (volume, covariates, label)
        kind = (update, *(tensor.shape for tensor in batch))
        if self.recording and kind not in self.graphs and self.plain[kind] >= PLAIN:
            self.try_to_record(kind, batch, update)
        if not self.recording or kind not in self.graphs:
            self.plain[kind] += 1
            with self.side.work():
                return self.run(batch, update)
        graph = self.graphs[kind]
        for memory, values in zip(graph.inputs, batch, strict=True):
            memory.copy_(values, non_blocking=True)
        for rate, group in zip(self.rates, self.optimizer.param_groups, strict=True):
            rate.fill_(group["lr"])
        graph.replay()
        return graph.loss.clone()  # the next replay overwrites it

    def run(self, batch: Inputs, update: bool) -> Tensor:
        """The step itself."""
        volume, covariates, label = batch
        how = self.optimization
        for parameter, gradient in zip(self.trained, self.gradients, strict=False):
            parameter.grad = gradient
        with uncached(volume.device):
            loss = self.loss(self.network(volume, covariates), label)
        with torch.autocast(volume.device.type, enabled=False):
            (loss / how.accumulate).backward()  # type: ignore[no-untyped-call]
            if update:
                clip_gradients(self.optimizer, how.clip)
                self.optimizer.step()
                # Graphs of several batches add to the same memory.
                self.optimizer.zero_grad(set_to_none=how.accumulate == 1)
        if how.accumulate > 1:
            self.gradients = [parameter.grad for parameter in self.trained]
        return loss.detach()

    def try_to_record(self, kind: Any, batch: Inputs, update: bool) -> None:
        """Record a step of this kind, or give up recording with a warning."""
        volume, covariates, label = batch
        inputs = (volume.detach().clone(), covariates.clone(), label.clone())
        try:
            with self.side.work(), capturable(self.optimizer, self.rates):
                replay, loss = graphs.record(lambda: self.run(inputs, update), self.side, self.pool)
        except RuntimeError as error:
            self.recording = False
            self.graphs.clear()
            self.side.abandon(self.pool)
            if self.optimization.accumulate == 1:
                self.optimizer.zero_grad(set_to_none=True)  # memory of the graph
            line = (str(error).strip().splitlines() or [type(error).__name__])[0]
            warnings.warn(
                f"training goes on without CUDA graphs, since a step cannot be recorded: {line}; "
                "--no-graphs does not try to",
                stacklevel=2,
            )
        else:
            self.graphs[kind] = Graph(inputs, replay, loss)
