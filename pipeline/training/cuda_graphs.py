"""Training passes as CUDA graphs: recorded once, then replayed as a whole.

At one or two volumes per step a GPU can finish a layer before Python has launched the next. A graph
launches all kernels at once and computes the same.
"""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from uncus.models.activation_checkpointing import restore
from uncus.models.base import Classifier


class GraphedNetwork:
    """``model(volume, covariates)`` in training, replayed as CUDA graphs from the first batch on.

    The graphs are recorded for the first batch's shape; a batch of another shape (an epoch's last)
    is run without. Recording runs the model a few times: running statistics and the random
    generators are then restored.

    Parameters
    ----------
    model: the network, on its GPU.
    accumulates: whether gradients of several batches are accumulated. The next replay overwrites
        the memory of a graph's gradients, so they are then added to separate tensors, and
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
            self.allocate_gradients()
        if volume.shape != self.shape:
            return self.model(volume, covariates)
        return self.replay(volume, covariates)

    def record(self, volume: Tensor, covariates: Tensor) -> Callable[..., Tensor]:
        """Record graphs of both passes for batches of this shape, under the current autocast."""
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

    def allocate_gradients(self) -> None:
        """Give each parameter a gradient to add to: autograd would keep the graph's memory."""
        for parameter in self.model.parameters():
            if parameter.requires_grad and parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)


class Passes(nn.Module):
    """A wrapper to record, since recording replaces the ``forward`` of the module it gets."""

    def __init__(self, model: Classifier) -> None:
        super().__init__()
        self.model = model

    def forward(self, volume: Tensor, covariates: Tensor) -> Tensor:
        """The model's output [N, K]."""
        return self.model(volume, covariates)


def uncached(device: torch.device) -> Any:
    """The current autocast without its cache of cast weights: a graph casts them in each replay."""
    kind = device.type
    if not torch.is_autocast_enabled(kind):
        return nullcontext()
    return torch.autocast(kind, dtype=torch.get_autocast_dtype(kind), cache_enabled=False)


def check_graphs(on_gpu: bool, devices: int) -> None:
    """Check that graphs can be recorded.

    Raises
    ------
    ValueError: no GPU, or several devices.
    """
    if not on_gpu:
        raise ValueError("--graphs needs a CUDA device; leave it out")
    if devices != 1:
        raise ValueError(f"--graphs needs one device, not {devices}; leave it out")
