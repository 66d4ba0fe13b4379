"""GroupNorm, residual addition and activation in one operation, fast at batch 1.

    y = activation(gamma_c * (x - mean_g) / sqrt(var_g + eps) + beta_c + residual)

(Wu & He 2018, arXiv 1803.08494.) Plain layers read and write the volume for every step and keep
what each needs; here x is read twice and y written once, in the type they come in, with float32
statistics, and the backward pass finds the activation's gate again from x instead of storing it.

On a CUDA device with Triton the kernels of ``models.kernels`` run; elsewhere a twin in plain torch
gives the same numbers. Autograd knows the operation as ``torch.ops.uncus.group_norm_act``, so
autocast (it keeps the type that it is given), ``torch.compile``, export and DDP work.
"""

import importlib.util
import os
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

ACTIVATIONS = ("none", "relu", "silu")
HAS_TRITON = importlib.util.find_spec("triton") is not None
# Triton's interpreter runs the kernels on a CPU: slowly, for tests.
INTERPRETED = HAS_TRITON and os.environ.get("TRITON_INTERPRET") == "1"


def uses_kernels(x: Tensor) -> bool:
    """Whether Triton kernels, not the twin, take ``x``."""
    return HAS_TRITON and (x.is_cuda or INTERPRETED) and x.dtype is not torch.float64


def channels_last(x: Tensor) -> bool:
    """Whether x [N, C, ...] lies in memory as [N, ..., C] (and not as [N, C, ...] too)."""
    return not x.is_contiguous() and x.movedim(1, -1).is_contiguous()


def dense(x: Tensor, last: bool) -> Tensor:
    """x [N, C, ...] in one of the two layouts; itself where it is already."""
    if last:
        return x.movedim(1, -1).contiguous().movedim(-1, 1)
    return x.contiguous()


def gate_source(x: Tensor, residual: Tensor | None, activation: str) -> str:
    """What the backward pass needs beside x to know the activation's input.

    Nothing ("affine") where it can be computed again from x. For ReLU after an addition y is
    enough, and the next convolution keeps it anyway. For SiLU after an addition the residual,
    which is the block's input and kept by its first convolution.
    """
    if activation == "none":
        return "affine"
    if activation == "relu" and (residual is not None or not uses_kernels(x)):
        return "output"
    return "affine" if residual is None else "residual"


def _forward(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    residual: Tensor | None,
    groups: int,
    eps: float,
    activation: str,
) -> tuple[Tensor, Tensor]:
    """y as x, and the mean and 1/std [2, N, groups] float32 (float64 for float64)."""
    last = channels_last(x)
    x = dense(x, last)
    residual = None if residual is None else dense(residual, last)
    if x.numel() == 0:
        return torch.empty_like(x), x.new_empty(2, len(x), groups, dtype=torch.float32)
    if uses_kernels(x):
        from models import kernels

        with torch.cuda.device_of(x):  # type: ignore[no-untyped-call]
            return kernels.forward(x, weight, bias, residual, groups, eps, activation, last)
    return _twin_forward(x, weight, bias, residual, groups, eps, activation, last)


def _backward(
    dy: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    other: Tensor | None,
    statistics: Tensor,
    activation: str,
    gate: str,
    write: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """dx, dgamma, dbeta and, with ``write``, the residual's gradient (else an empty tensor)."""
    last = channels_last(x)
    x, dy = dense(x, last), dense(dy.to(x.dtype), last)
    other = None if other is None else dense(other, last)
    if x.numel() == 0:
        gradients = torch.empty_like(x), torch.zeros_like(weight), torch.zeros_like(bias)
        return *gradients, torch.empty_like(x if write else x.new_empty(0))
    if uses_kernels(x):
        from models import kernels

        with torch.cuda.device_of(x):  # type: ignore[no-untyped-call]
            dx, dgamma, dbeta, dz = kernels.backward(
                dy, x, weight, bias, other, gate, statistics, activation, last, write
            )
    else:
        dx, dgamma, dbeta, dz = _twin_backward(
            dy, x, weight, bias, other, gate, statistics, activation, last
        )
    return dx, dgamma, dbeta, dz if write and dz is not None else x.new_empty(0)


def _twin_forward(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    residual: Tensor | None,
    groups: int,
    eps: float,
    activation: str,
    last: bool,
) -> tuple[Tensor, Tensor]:
    """The kernels' arithmetic in plain torch: everything in float32 up to the last rounding.

    Always in the contiguous layout: torch 2.13's channels-last path on CPUs subtracts sums of
    squares, which loses the variance of values far from zero.
    """
    n, c = x.shape[:2]
    wide = _wide(x)
    y, mean, rstd = torch.native_group_norm(
        x.to(wide).contiguous(), weight.to(wide), bias.to(wide), n, c, x[0, 0].numel(), groups, eps
    )
    if residual is not None:
        y += residual
    if activation == "relu":
        y.relu_()
    elif activation == "silu":
        F.silu(y, inplace=True)
    return dense(y.to(x.dtype), last), torch.stack((mean, rstd))


def _twin_backward(
    dy: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    other: Tensor | None,
    gate: str,
    statistics: Tensor,
    activation: str,
    last: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    n, c = x.shape[:2]
    wide = _wide(x)
    mean, rstd = statistics
    gamma = weight.to(wide)
    dz = dy.to(wide)
    if activation == "relu":
        if gate != "output" or other is None:
            raise ValueError(f"the gate of ReLU comes from {gate!r} here; the twin reads y")
        dz = torch.ops.aten.threshold_backward(dz, other.to(wide), 0)
    elif activation == "silu":
        members = c // statistics.shape[2]
        shape = (n, c) + (1,) * (x.ndim - 2)
        z = x - mean.repeat_interleave(members, 1).view(shape)
        z = z * (rstd.repeat_interleave(members, 1) * gamma).view(shape)
        z = z + bias.to(wide).view(1, *shape[1:])
        z = z if other is None else z + other
        dz = torch.ops.aten.silu_backward(dz, z)
    dx, dgamma, dbeta = torch.ops.aten.native_group_norm_backward(
        dz.contiguous(),
        x.to(wide).contiguous(),
        mean,
        rstd,
        gamma,
        n,
        c,
        x[0, 0].numel(),
        statistics.shape[2],
        (True, True, True),
    )
    return (
        dense(dx.to(x.dtype), last),
        dgamma.to(weight.dtype),
        dbeta.to(bias.dtype),
        dense(dz.to(x.dtype), last),
    )


def _wide(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype is torch.float64 else torch.float32


# --- the operation as autograd, the compiler and export see it


@torch.library.custom_op("uncus::group_norm_act", mutates_args=())
def group_norm_act(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    residual: Tensor | None,
    groups: int,
    eps: float,
    activation: str,
) -> tuple[Tensor, Tensor]:
    """The operation: y as x, and the statistics [2, N, groups] that its backward needs."""
    return _forward(x, weight, bias, residual, groups, eps, activation)


@torch.library.custom_op("uncus::group_norm_act_backward", mutates_args=())
def group_norm_act_backward(
    dy: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    other: Tensor | None,
    statistics: Tensor,
    activation: str,
    gate: str,
    write: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Its gradients; see `_backward`."""
    return _backward(dy, x, weight, bias, other, statistics, activation, gate, write)


@group_norm_act.register_fake
def _(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    residual: Tensor | None,
    groups: int,
    eps: float,
    activation: str,
) -> tuple[Tensor, Tensor]:
    return torch.empty_like(_like(x)), x.new_empty(2, x.shape[0], groups, dtype=_wide(x))


@group_norm_act_backward.register_fake
def _(
    dy: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    other: Tensor | None,
    statistics: Tensor,
    activation: str,
    gate: str,
    write: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    dx = torch.empty_like(_like(x))
    dz = torch.empty_like(dx) if write else x.new_empty(0)
    return dx, torch.empty_like(weight), torch.empty_like(bias), dz


def _like(x: Tensor) -> Tensor:
    return dense(x, channels_last(x))


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, weight, bias, residual, _, _, activation = inputs
    y, statistics = output
    ctx.activation = activation
    ctx.gate = gate_source(x, residual, activation)
    ctx.has_residual = residual is not None
    other = {"affine": None, "residual": residual, "output": y}[ctx.gate]
    ctx.mark_non_differentiable(statistics)
    ctx.save_for_backward(x, weight, bias, other, statistics)


def _gradients(ctx: Any, dy: Tensor, backward: Any) -> tuple[Tensor | None, ...]:
    x, weight, bias, other, statistics = ctx.saved_tensors
    # Without an activation the residual's gradient is dy itself.
    write = ctx.has_residual and ctx.activation != "none"
    dx, dgamma, dbeta, dz = backward(
        dy, x, weight, bias, other, statistics, ctx.activation, ctx.gate, write
    )
    dresidual = None if not ctx.has_residual else dz if write else dy
    return dx, dgamma, dbeta, dresidual, None, None, None


def _registered_gradients(ctx: Any, dy: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    return _gradients(ctx, dy, group_norm_act_backward)


group_norm_act.register_autograd(_registered_gradients, setup_context=_setup)


class _Direct(torch.autograd.Function):
    """The same operation without the dispatcher.

    A registered operation costs about 0.1 ms of Python in each direction, more than the kernels
    of a small layer take; in a plain training step nothing needs the registration.
    """

    @staticmethod
    def forward(*inputs: Any) -> tuple[Tensor, Tensor]:
        return _forward(*inputs)

    setup_context = staticmethod(_setup)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, dy: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        return _gradients(ctx, dy, _backward)


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

    y has the type and the layout (contiguous or channels last) of x. ``weight`` and ``bias`` [C]
    may have another type than x.

    Raises
    ------
    ValueError: shapes that do not fit, an unknown activation, or groups of a single value, which
        any normalization would turn to zero.
    """
    _check(x, weight, groups, activation, residual)
    if residual is not None and residual.dtype is not x.dtype:
        residual = residual.to(x.dtype)
    inputs = (x, weight, bias, residual, groups, eps, activation)
    if torch.compiler.is_compiling() or type(x) not in (Tensor, nn.Parameter):
        return cast(Tensor, group_norm_act(*inputs)[0])
    y: Tensor = _Direct.apply(*inputs)[0]  # type: ignore[no-untyped-call]
    return y


def _check(
    x: Tensor, weight: Tensor, groups: int, activation: str, residual: Tensor | None
) -> None:
    if activation not in ACTIVATIONS:
        raise ValueError(f"unknown activation {activation!r}; use one of {', '.join(ACTIVATIONS)}")
    if x.ndim < 3 or not x.is_floating_point():
        raise ValueError(
            f"x is {tuple(x.shape)} {x.dtype}; it must be floating point [N, C, *spatial]"
        )
    channels = x.shape[1]
    if groups < 1 or channels % groups or weight.shape != (channels,):
        raise ValueError(
            f"{channels} channels cannot be normalized in {groups} groups with "
            f"{tuple(weight.shape)} weights; the groups must divide the channels"
        )
    if residual is not None and residual.shape != x.shape:
        raise ValueError(
            f"the residual is {tuple(residual.shape)}, x is {tuple(x.shape)}; they must be alike"
        )
    if channels == groups and x.shape[2:].numel() == 1:
        raise ValueError(
            f"x is {tuple(x.shape)} in {groups} groups: one value a group has no variance; "
            "use fewer groups or a larger volume"
        )


class FusedGroupNorm(nn.Module):
    """GroupNorm over [N, C, *spatial], optional residual addition and activation in one operation.

    Its parameters have the names and the meaning of ``nn.GroupNorm``'s, so a state_dict fits both.

    Parameters
    ----------
    channels, groups: C and the number of groups, a divisor of C.
    activation: "none", "relu" or "silu".
    residual: whether ``forward`` takes a second tensor that is added before the activation.
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
        """y [N, C, *spatial] of x and, where made for it, the ``residual`` of the same shape."""
        if self.residual != (residual is not None):
            raise ValueError(
                f"this layer was made with residual={self.residual}; "
                f"it got {'none' if residual is None else 'one'}"
            )
        if torch.onnx.is_in_onnx_export():  # other runtimes know the parts, not the whole
            return unfused(x, self, residual)
        return fused_group_norm(
            x, self.weight, self.bias, self.num_groups, self.eps, self.activation, residual
        )

    def extra_repr(self) -> str:
        return (
            f"{self.num_channels}, groups={self.num_groups}, activation={self.activation!r}, "
            f"residual={self.residual}, eps={self.eps}"
        )


def unfused(x: Tensor, norm: FusedGroupNorm, residual: Tensor | None = None) -> Tensor:
    """What ``norm`` computes, by torch's own layers."""
    y = F.group_norm(x, norm.num_groups, norm.weight, norm.bias, norm.eps)
    y = y if residual is None else y + residual
    if norm.activation == "none":
        return y
    return F.relu(y) if norm.activation == "relu" else F.silu(y)
