"""GroupNorm, residual addition and activation in one operation, fast at batch 1.

    y = activation(gamma_c * (x - mean_g) / sqrt(var_g + eps) + beta_c + residual)

(Wu & He 2018, arXiv 1803.08494.) Separate layers read and write the volume at every step and keep
what each needs for the gradient; here x is read twice and y written once, in the input's dtype with
float32 statistics, and the backward pass recomputes the activation's gate from x.

On a CUDA device with Triton this is the registered operation ``torch.ops.uncus.group_norm_act``
with the kernels of ``uncus.models.fused.kernels``; it supports autograd, autocast (the input's
dtype is kept), ``torch.compile``, which sees the kernels, export and DDP. On other devices `plain`
gives the same numbers by torch's own layers, and the operation has a torch implementation, so that
a network exported on a GPU runs there.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from uncus.models.fused.operation import (
    Direct,
    channels_last,
    dense,
    group_norm_act,
    uses_kernels,
    wide_type,
)

ACTIVATIONS = ("none", "relu", "silu")

_switch = {"on": os.environ.get("UNCUS_FUSED", "1") != "0"}


@contextmanager
def switched(on: bool) -> Iterator[None]:
    """Turn the operation on or off in the context; ``UNCUS_FUSED=0`` turns it off by default."""
    before, _switch["on"] = _switch["on"], on
    try:
        yield
    finally:
        _switch["on"] = before


def is_fused(x: Tensor) -> bool:
    """Whether ``x`` goes through the registered operation.

    Where it has no kernels, torch's layers are as fast and can be exported to any runtime.
    """
    return _switch["on"] and uses_kernels(x) and not torch.onnx.is_in_onnx_export()


def plain(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    groups: int,
    eps: float = 1e-5,
    activation: str = "none",
    residual: Tensor | None = None,
) -> Tensor:
    """`fused_group_norm` by torch's own layers, in float32 until the last rounding.

    Computed in the contiguous layout, since torch 2.13's channels-last path on CPUs subtracts sums
    of squares and so loses the variance of values far from zero.
    """
    wide = wide_type(x)
    # If the norm is the last step, torch's CPU layer converts to float32 by itself.
    exact = residual is None and activation != "silu" and weight.dtype is bias.dtype is wide
    values = x if exact and x.device.type == "cpu" else x.to(wide)
    y = F.group_norm(values.contiguous(), groups, weight.to(wide), bias.to(wide), eps)
    y = activated(y if residual is None else y + residual, activation).to(x.dtype)
    return dense(y, True) if channels_last(x) else y


def fused_group_norm(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    groups: int,
    eps: float = 1e-5,
    activation: str = "none",
    residual: Tensor | None = None,
) -> Tensor:
    """GroupNorm of x [N, C, *spatial], plus ``residual`` (as x), then ``activation``.

    y has the dtype and memory layout (contiguous or channels last) of x. ``weight`` and ``bias``
    [C] may have another dtype.

    Raises
    ------
    ValueError: shapes that do not match, an unknown activation, or groups of a single value, which
        normalization would turn to zero.
    """
    _check(x, weight, groups, activation, residual)
    if not is_fused(x):
        return plain(x, weight, bias, groups, eps, activation, residual)
    if residual is not None and residual.dtype is not x.dtype:
        residual = residual.to(x.dtype)
    inputs = (x, weight, bias, residual, groups, eps, activation)
    if torch.compiler.is_compiling() or type(x) not in (Tensor, nn.Parameter):
        return cast(Tensor, group_norm_act(*inputs)[0])
    y: Tensor = Direct.apply(*inputs)  # type: ignore[no-untyped-call]
    return y


def activated(y: Tensor, activation: str) -> Tensor:
    """``y`` after "none", "relu" or "silu"."""
    if activation == "none":
        return y
    return F.relu(y) if activation == "relu" else F.silu(y)


def _check(
    x: Tensor, weight: Tensor, groups: int, activation: str, residual: Tensor | None
) -> None:
    if activation not in ACTIVATIONS:
        raise ValueError(f"unknown activation {activation!r}; use one of {', '.join(ACTIVATIONS)}")
    if x.ndim < 3 or not x.is_floating_point():
        raise ValueError(
            f"x is {tuple(x.shape)} {x.dtype}; must be floating point [N, C, *spatial]"
        )
    channels = x.shape[1]
    if groups < 1 or channels % groups or weight.shape != (channels,):
        raise ValueError(
            f"{channels} channels cannot be normalized in {groups} groups with "
            f"{tuple(weight.shape)} weights; the groups must divide the channels"
        )
    if residual is not None and residual.shape != x.shape:
        raise ValueError(
            f"the residual is {tuple(residual.shape)}, x is {tuple(x.shape)}; they must be equal"
        )
    if channels == groups and x.shape[2:].numel() == 1:
        raise ValueError(
            f"x is {tuple(x.shape)} in {groups} groups: one value per group has no variance; "
            "use fewer groups or a larger volume"
        )


class FusedGroupNorm(nn.Module):
    """GroupNorm over [N, C, *spatial], optional residual addition and activation in one operation.

    Its parameters have the names and meaning of those of ``nn.GroupNorm``: a state_dict fits both.

    Parameters
    ----------
    channels, groups: C and the number of groups, a divisor of C.
    activation: "none", "relu" or "silu".
    residual: whether ``forward`` takes a second tensor to add before the activation.
    """

    def __init__(
        self,
        channels: int,
        groups: int,
        activation: str = "none",
        residual: bool = False,
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        if groups < 1 or channels % groups:
            raise ValueError(f"{groups} groups do not divide {channels} channels")
        if activation not in ACTIVATIONS:
            raise ValueError(
                f"unknown activation {activation!r}; use one of {', '.join(ACTIVATIONS)}"
            )
        self.num_channels, self.num_groups, self.eps = channels, groups, eps
        self.activation, self.residual = activation, residual
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """y [N, C, *spatial] of x and, if the layer adds one, a ``residual`` of the same shape."""
        if self.residual != (residual is not None):
            raise ValueError(
                f"this layer was made with residual={self.residual}; "
                f"it got {'none' if residual is None else 'one'}"
            )
        return fused_group_norm(
            x, self.weight, self.bias, self.num_groups, self.eps, self.activation, residual
        )

    def extra_repr(self) -> str:
        return (
            f"{self.num_channels}, groups={self.num_groups}, activation={self.activation!r}, "
            f"residual={self.residual}, eps={self.eps}"
        )
