"""A recorder like that of CUDA graphs, for a CPU."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


def leaves(values: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]


class Tape(TorchDispatchMode):
    """Records torch's operations with the memory they use; a replay repeats them there.

    As with a graph, Python does not run again, numbers that it computed stay as they were, nothing
    can be read from a tensor, and what was recorded counts as not computed yet.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any, list[Tensor]]] = []
        self.before: dict[int, tuple[Any, Any]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:
            raise RuntimeError("operation not permitted when stream is capturing")
        kwargs = kwargs or {}
        self.remember(leaves((args, kwargs)))  # not all operations say what they change
        result = func(*args, **kwargs)
        self.calls.append((func, args, kwargs, leaves(result)))
        return result

    def remember(self, tensors: list[Tensor]) -> None:
        for storage in (tensor.untyped_storage() for tensor in tensors):
            if storage.data_ptr() not in self.before:
                self.before[storage.data_ptr()] = (storage, storage.clone())

    def undo(self) -> None:
        for storage, values in self.before.values():
            storage.copy_(values)

    @torch.no_grad()
    def replay(self) -> None:
        for func, args, kwargs, results in self.calls:
            for old, new in zip(results, leaves(func(*args, **kwargs)), strict=True):
                if old.untyped_storage().data_ptr() != new.untyped_storage().data_ptr():
                    old.copy_(new)


def record(step: Callable[[], Tensor], *where: Any) -> tuple[Callable[[], None], Tensor]:
    """In the place of ``graphs.record``."""
    with torch.random.fork_rng(), Tape() as tape:
        result = step()
    tape.undo()
    return tape.replay, result
