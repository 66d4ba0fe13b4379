"""A network's training passes as CUDA graphs: recorded once, then replayed as a whole.

At one or two volumes a step a GPU can be through with a layer before Python has asked for the next.
A graph has no Python between its kernels and computes what the plain passes compute.
"""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from uncus.models.activation_checkpointing import restore
from uncus.models.base import Classifier


class GraphedNetwork:
    """``model(volume, covariates)`` in training, by CUDA graphs from the first batch on.

    The first batch's shape is recorded; a batch of another shape (an epoch's last) goes through the
    model itself. Recording runs the model some times: running statistics and random numbers are
    put back as they were.

    Parameters
    ----------
    model: the network, on its GPU.
    accumulates: whether gradients of several batches are added up. Those that a graph gives lie in
        memory that the next replay overwrites, so they are then added to tensors of their own, and
        ``optimizer.zero_grad`` must be called with ``set_to_none=False``.
    """

    def __init__(self, model: Classifier, accumulates: bool) -> None:
        self.model, self.accumulates = model, accumulates
        self.shape: torch.Size | None = None
        self.replay: Callable[..., Tensor] | None = None

    def __call__(self, volume: Tensor, covariates: Tensor) -> Tensor:
        """Output [N, K] for ``volume`` [N, 1, X, Y, Z] and ``covariates`` [N, P]."""
        if self.replay is None:
            self.shape, self.replay = volume.shape, self.record(volume, covariates)
        if self.accumulates:
            self.own_gradients()
        if volume.shape != self.shape:
            return self.model(volume, covariates)
        return self.replay(volume, covariates)

    def record(self, volume: Tensor, covariates: Tensor) -> Callable[..., Tensor]:
        """The graphs of both passes for batches of this shape, in the type that autocast is in."""
        buffers = dict(self.model.named_buffers())
        before = {name: value.clone() for name, value in buffers.items()}
        samples = (volume.detach().clone(), covariates.detach().clone())
        device = volume.device
        with torch.random.fork_rng([device] if device.type == "cuda" else []), uncached(device):
            replay: Any = torch.cuda.make_graphed_callables(
                Passes(self.model), samples, allow_unused_input=True
            )
        restore(buffers, before)
        graphs: Callable[..., Tensor] = replay
        return graphs

    def own_gradients(self) -> None:
        """Give each parameter a gradient to add to: autograd would keep the graph's own memory."""
        for parameter in self.model.parameters():
            if parameter.requires_grad and parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)


class Passes(nn.Module):
    """A module around ``model``, whose own ``forward`` stays as it is when this is recorded."""

    def __init__(self, model: Classifier) -> None:
        super().__init__()
        self.model = model

    def forward(self, volume: Tensor, covariates: Tensor) -> Tensor:
        """The model's output [N, K]."""
        return self.model(volume, covariates)


def uncached(device: torch.device) -> Any:
    """The autocast that is on, without its cache of cast weights: a graph casts them each time."""
    kind = device.type
    if not torch.is_autocast_enabled(kind):
        return nullcontext()
    return torch.autocast(kind, dtype=torch.get_autocast_dtype(kind), cache_enabled=False)


def check_graphs(on_gpu: bool, devices: int, low_memory: bool) -> None:
    """Refuse what graphs cannot be recorded for.

    Raises
    ------
    ValueError: no GPU, several devices, or activations that are computed again (which saves the
        state of the random numbers, and a recording may not ask for that).
    """
    if not on_gpu:
        raise ValueError("--graphs: CUDA graphs need a CUDA device; leave it out")
    if devices != 1:
        raise ValueError(f"--graphs: {devices} devices; graphs train on one, leave it out")
    if low_memory:
        raise ValueError("--graphs and --memory low exclude each other; leave one of them out")
