"""The score that every saliency method explains, and its gradient with respect to the voxels."""

import contextlib
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from uncus.models.base import Classifier

VOXELS_AT_ONCE = 2**21
"""Most voxels in one batch of volumes: some gigabytes of a ResNet's feature maps."""


@dataclass(frozen=True)
class Score:
    """The score explained: outputs ``[N, K]`` -> score ``[N]``.

    For classes it is the log-odds ``z_c - log sum_{k != c} exp z_k`` of class c, the difference of
    the logits where there are two. A logit alone would not do, as softmax ignores what all logits
    share. For a regression, or a single output, it is the output itself.
    """

    class_index: int
    regression: bool = False

    def __call__(self, outputs: Tensor) -> Tensor:
        chosen = outputs[:, self.class_index]
        if self.regression or outputs.shape[1] == 1:
            return chosen
        others = [k for k in range(outputs.shape[1]) if k != self.class_index]
        return chosen - outputs[:, others].logsumexp(dim=1)

    def gradient(self, outputs: Tensor) -> Tensor:
        """``dS / dz`` for outputs z ``[N, K]``, same shape: 1 for the class, and minus the softmax
        over the other classes for those."""
        chosen = torch.arange(outputs.shape[1], device=outputs.device) == self.class_index
        if self.regression or outputs.shape[1] == 1:
            return chosen.to(outputs).expand_as(outputs)
        shares = outputs.masked_fill(chosen, -math.inf).softmax(dim=1)
        return torch.where(chosen, torch.ones_like(shares), -shares)


@contextmanager
def frozen(model: Classifier) -> Iterator[None]:
    """Evaluation mode without parameter gradients inside the context; restored after it."""
    modes = {module: module.training for module in model.modules()}
    needs = {parameter: parameter.requires_grad for parameter in model.parameters()}
    model.eval().requires_grad_(False)
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
        for parameter, need in needs.items():
            parameter.requires_grad_(need)


def batch_size(volume: Tensor) -> int:
    """Copies of the volume in one batch; their number does not change a map.

    On a CPU one for each thread, at least two: more exceed its cache, and one alone is slow.
    """
    most = max(2, torch.get_num_threads()) if volume.device.type == "cpu" else 16
    return max(1, min(most, VOXELS_AT_ONCE // volume.numel()))


def stem(model: Classifier, volume: Tensor) -> nn.Conv3d | None:
    """The convolution that reads ``volume [1, 1, X, Y, Z]``; None unless nothing else does."""
    seen: list[tuple[nn.Conv3d, Tensor]] = []
    volume = volume.detach().requires_grad_()

    def keep(layer: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        if isinstance(layer, nn.Conv3d) and inputs[0] is volume:
            seen.append((layer, output))

    hooks = [layer.register_forward_hook(keep) for layer in model.modules()]
    try:
        nodes: list[Any] = [model(volume).grad_fn]
    finally:
        for hook in hooks:
            hook.remove()
    found, readers = set(nodes), []
    while nodes:
        node = nodes.pop()
        for after, _ in node.next_functions:
            if getattr(after, "variable", None) is volume:
                readers.append(node)
            elif after and after not in found:
                found.add(after)
                nodes.append(after)
    return next((layer for layer, output in seen if readers == [output.grad_fn]), None)


def score_gradient(
    model: Classifier, volumes: Tensor, score: Score, at: nn.Module | None = None
) -> Tensor:
    """``dS / dx`` of each of ``volumes [N, 1, X, Y, Z]``, same shape; with ``at``, a layer of the
    network, the gradient with respect to its output."""
    volumes, seen = volumes.detach().requires_grad_(), []
    with contextlib.ExitStack() as hooks:
        if at:
            hooks.enter_context(at.register_forward_hook(lambda *call: seen.append(call[-1])))
        total = score(model(volumes)).sum()
    (gradient,) = torch.autograd.grad(total, seen[0] if at else volumes)
    return gradient
