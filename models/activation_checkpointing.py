"""Activation checkpointing (Chen 2016, arXiv 1604.06174): less memory, about a third more time.

Training keeps only the inputs of a network's blocks and recomputes their activations for the
gradient.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from uncus.models.base import Classifier
from uncus.models.norms.norm_act import runs_in_order


def checkpoint_blocks(model: Classifier) -> int:
    """Checkpoint every block of ``model`` in training, in place.

    A block is a part of a ``Sequential`` that contains a convolution. Gradients and the norms'
    running statistics stay the same. Returns the number of blocks.

    Raises
    ------
    ValueError: the network has no such blocks.
    """
    blocks = list(find_blocks(model))
    if not blocks:
        raise ValueError(f"{type(model).__name__} has no blocks to checkpoint")
    for block in blocks:
        setattr(block, "forward", checkpointed(block))  # noqa: B010 - mypy rejects the assignment
    return len(blocks)


def find_blocks(module: nn.Module) -> Iterator[nn.Module]:
    """The outermost modules of several layers that a ``Sequential`` runs in sequence."""
    for child in module.children():
        inner = [m for m in child.modules() if m is not child]
        if not any(isinstance(m, nn.Conv3d) for m in inner):
            continue
        chain = runs_in_order(child)
        nested = any(isinstance(m, nn.Conv3d) for part in child.children() for m in part.children())
        if chain and nested:
            yield from find_blocks(child)
        elif chain or isinstance(module, nn.Sequential):
            yield child
        else:
            yield from find_blocks(child)


def checkpointed(block: nn.Module) -> Callable[..., Tensor]:
    """The block's ``forward``, checkpointed in training."""
    forward: Callable[..., Tensor] = block.forward
    # Whether it draws random numbers, until its first pass shows that it does not: their state
    # need not be kept then, and a CUDA graph cannot keep it.
    draws = True

    def either(*inputs: Any) -> Tensor:
        nonlocal draws
        if not (block.training and torch.is_grad_enabled()):
            return forward(*inputs)
        probing = draws and not torch.compiler.is_compiling()
        before = random_state(inputs[0]) if probing else None
        output: Any = checkpoint(
            forward,
            *inputs,
            use_reentrant=False,
            preserve_rng_state=draws,
            context_fn=lambda: same_statistics(block),
        )
        if before is not None:
            draws = not torch.equal(before, random_state(inputs[0]))
        result: Tensor = output
        return result

    return either


def random_state(x: Tensor) -> Tensor:
    """The state of the random generator of the device of ``x``."""
    return torch.cuda.get_rng_state(x.device) if x.is_cuda else torch.get_rng_state()


def same_statistics(
    block: nn.Module,
) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """Contexts of the first and the second computation, which use the same running statistics.

    The second neither uses those that the first has updated nor updates them again.
    """
    before: dict[str, Tensor] = {}

    @contextmanager
    def first() -> Iterator[None]:
        before.update({name: value.clone() for name, value in block.named_buffers()})
        yield

    @contextmanager
    def second() -> Iterator[None]:
        buffers = dict(block.named_buffers())
        after = {name: value.clone() for name, value in buffers.items()}
        restore(buffers, before)
        try:
            yield
        finally:
            restore(buffers, after)

    return first(), second()


@torch.no_grad()
def restore(buffers: dict[str, Tensor], values: dict[str, Tensor]) -> None:
    """Copy ``values`` into ``buffers``."""
    for name, value in buffers.items():
        value.copy_(values[name])
