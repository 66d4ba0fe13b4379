"""Streams and CUDA graphs: the parts of a training step that only a GPU has.

At one or two volumes per step a GPU can finish a layer before Python has launched the next. A graph
launches all kernels of a step at once and computes the same.
"""

import gc
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from typing import Any

import torch
from torch import Tensor

from uncus.pipeline.training.data_loading import READING


def can_record(device: torch.device) -> bool:
    """Whether steps on ``device`` can be recorded."""
    return device.type == "cuda"


class SideStream:
    """A stream beside the current one of a GPU; on a CPU, work is done in order."""

    def __init__(self, device: torch.device) -> None:
        kind: Any = torch.cuda.Stream
        self.device = device
        self.stream: Any = kind(device) if device.type == "cuda" else None

    @contextmanager
    def work(self, at_once: bool = False) -> Iterator[None]:
        """Work here after what is queued on the current stream, which then waits for it.

        ``at_once`` starts it beside what is queued: it must use nothing of that.
        """
        if self.stream is None:
            yield
            return
        current = torch.cuda.current_stream(self.device)
        if not at_once:
            self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            yield
        current.wait_stream(self.stream)

    def hand_over(self, tensors: Iterable[Any]) -> None:
        """Keep the memory of ``tensors``, made here, until the current stream has used them."""
        if self.stream is not None:
            for tensor in tensors:
                if isinstance(tensor, Tensor) and tensor.is_cuda:
                    tensor.record_stream(torch.cuda.current_stream(self.device))

    def abandon(self, pool: Any) -> None:
        """Tell the allocator that a recording has failed; it would keep what is freed later."""
        if self.stream is not None:
            end: Any = torch._C._cuda_endAllocateToPool
            with suppress(RuntimeError):  # it knows, where the recording could be closed
                end(self.stream.device_index, pool)


def record(
    step: Callable[[], Tensor], side: SideStream, pool: Any
) -> tuple[Callable[[], None], Tensor]:
    """Record ``step`` on a GPU without running it: what replays it, and where its result is."""
    graph = torch.cuda.CUDAGraph()
    collecting = gc.isenabled()
    gc.collect()
    gc.disable()  # freeing another graph, or an event, would end the recording
    try:
        with (
            READING,
            torch.cuda.graph(graph, pool, side.stream, capture_error_mode="thread_local"),
        ):
            result = step()
    finally:
        if collecting:
            gc.enable()
    return graph.replay, result


@contextmanager
def capturable(optimizer: torch.optim.Optimizer, rates: Sequence[Tensor]) -> Iterator[None]:
    """``optimizer`` as it can be recorded: with its learning rates in the memory ``rates``."""
    before = [
        {name: group[name] for name in ("lr", "capturable")} for group in optimizer.param_groups
    ]
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group.update(lr=rate, capturable=True)
    try:
        yield
    finally:
        for group, values in zip(optimizer.param_groups, before, strict=True):
            group.update(values)


def uncached(device: torch.device) -> Any:
    """The current autocast without its cache of cast weights: a graph casts them in each replay."""
    kind = device.type
    if not torch.is_autocast_enabled(kind):
        return nullcontext()
    return torch.autocast(kind, dtype=torch.get_autocast_dtype(kind), cache_enabled=False)
