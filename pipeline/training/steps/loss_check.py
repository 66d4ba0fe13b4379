"""Losses and weights that are not finite end a training, without leaving the GPU idle."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Unread(NamedTuple):
    """A loss on its way to the CPU, where it is once ``copied`` has happened (None: it is)."""

    loss: Tensor
    copied: Any
    epoch: int
    step: int
    scans: Tensor


class LossCheck:
    """Finds losses that are not finite, a step late.

    A loss is copied to pinned memory behind the step that computes it. Reading it at once would
    leave the GPU idle: it is read when the next step has been queued.

    Parameters
    ----------
    name_scans: positions in the cohort -> their names, for the error.
    """

    def __init__(self, name_scans: Callable[[Sequence[int]], str]) -> None:
        self.name_scans = name_scans
        self.unread: list[Unread] = []

    def add(self, loss: Tensor, epoch: int, step: int, scans: Tensor) -> None:
        """Check the losses before, and remember ``loss`` [], that of ``scans`` [N], for later.

        Raises
        ------
        ValueError: an earlier loss is not finite.
        """
        earlier, self.unread = self.unread, []
        copied: Any = None
        values = loss.detach().to("cpu", non_blocking=True)
        if loss.is_cuda:
            event: Any = torch.cuda.Event
            copied = event(blocking=True)
            copied.record()
        self.unread.append(Unread(values, copied, epoch, step, scans))
        self.check(earlier)

    def finish(self) -> None:
        """Check all losses; before anything is saved.

        Raises
        ------
        ValueError: a loss is not finite.
        """
        last, self.unread = self.unread, []
        self.check(last)

    def check(self, losses: Iterable[Unread]) -> None:
        """Raise ValueError for the first loss that is not finite."""
        for one in losses:
            if one.copied is not None:
                one.copied.synchronize()
            value = one.loss.item()
            if not math.isfinite(value):
                raise ValueError(
                    f"the loss is {value} at epoch {one.epoch}, step {one.step}, scans "
                    f"{self.name_scans(one.scans.tolist())}; lower --lr, or check these scans"
                )


def all_finite(tensors: Iterable[Tensor]) -> bool:
    """Whether no floating-point number in ``tensors`` is NaN or infinite; reads one number."""
    flags = [torch.isfinite(t).all() for t in tensors if t.is_floating_point()]
    return bool(torch.stack(flags).all()) if flags else True
