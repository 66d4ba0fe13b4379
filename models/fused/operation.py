"""The fused norm as an operation: ``torch.ops.uncus.group_norm_act`` and its gradients.

Its kernels are in ``uncus.models.fused.kernels``; a torch implementation computes the same on any
device. Use it through ``uncus.models.fused``.
"""

import importlib.util
import os
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

HAS_TRITON = importlib.util.find_spec("triton") is not None
# Triton's interpreter runs the kernels on a CPU, slowly, for tests.
INTERPRETED = HAS_TRITON and os.environ.get("TRITON_INTERPRET") == "1"


def uses_kernels(x: Tensor) -> bool:
    """Whether the Triton kernels compute ``x``, not torch."""
    return HAS_TRITON and (x.is_cuda or INTERPRETED) and x.dtype is not torch.float64


def channels_last(x: Tensor) -> bool:
    """Whether x [N, C, ...] is stored as [N, ..., C] (and not also as [N, C, ...])."""
    return not x.is_contiguous() and x.movedim(1, -1).is_contiguous()


def dense(x: Tensor, last: bool) -> Tensor:
    """x [N, C, ...] in one of the two layouts; x itself if it already is."""
    if last:
        return x.movedim(1, -1).contiguous().movedim(-1, 1)
    return x.contiguous()


def gate_source(residual: Tensor | None, activation: str) -> str:
    """What the backward pass needs besides x to recompute the activation's input.

    Nothing ("affine") without an addition. For ReLU after an addition y, which the next convolution
    keeps anyway. For SiLU after an addition the residual, which is the block's input and kept by
    its first convolution.
    """
    if residual is None or activation == "none":
        return "affine"
    return "output" if activation == "relu" else "residual"


def _forward(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    residual: Tensor | None,
    groups: int,
    eps: float,
    activation: str,
) -> tuple[Tensor, Tensor]:
    """y like x, and mean and 1/std [2, N, groups] in float32 (float64 for float64)."""
    last = channels_last(x)
    x = dense(x, last)
    residual = None if residual is None else dense(residual, last)
    if x.numel() == 0:
        return torch.empty_like(x), x.new_empty(2, len(x), groups, dtype=torch.float32)
    if uses_kernels(x):
        from uncus.models.fused import kernels

        with torch.cuda.device_of(x):  # type: ignore[no-untyped-call]
            return kernels.forward(x, weight, bias, residual, groups, eps, activation, last)
    return _torch_forward(x, weight, bias, residual, groups, eps, activation, last)


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
    """dx, dgamma, dbeta and, with ``write``, the residual's gradient (otherwise empty)."""
    last = channels_last(x)
    x, dy = dense(x, last), dense(dy.to(x.dtype), last)
    other = None if other is None else dense(other, last)
    if x.numel() == 0:
        gradients = torch.empty_like(x), torch.zeros_like(weight), torch.zeros_like(bias)
        return *gradients, torch.empty_like(x if write else x.new_empty(0))
    if uses_kernels(x):
        from uncus.models.fused import kernels

        with torch.cuda.device_of(x):  # type: ignore[no-untyped-call]
            dx, dgamma, dbeta, dz = kernels.backward(
                dy, x, weight, bias, other, gate, statistics, activation, last, write
            )
    else:
        dx, dgamma, dbeta, dz = _torch_backward(
            dy, x, weight, bias, other, gate, statistics, activation, last
        )
    return dx, dgamma, dbeta, dz if write and dz is not None else x.new_empty(0)


def _torch_forward(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    residual: Tensor | None,
    groups: int,
    eps: float,
    activation: str,
    last: bool,
) -> tuple[Tensor, Tensor]:
    """The kernels' arithmetic on any device."""
    variance, mean = torch.var_mean(
        x.to(wide_type(x)).reshape(x.shape[0], groups, -1), dim=2, correction=0
    )
    statistics = torch.stack((mean, (variance + eps).rsqrt()))
    xhat = (x - _of_channels(mean, x)) * _of_channels(statistics[1], x)
    z = _affine(xhat, weight, bias)
    z = z if residual is None else z + residual
    if activation != "none":
        z = F.relu(z) if activation == "relu" else F.silu(z)
    return dense(z.to(x.dtype), last), statistics


def _of_channels(values: Tensor, x: Tensor) -> Tensor:
    """[N, groups] -> [N, C, 1, ...], to broadcast with ``x``."""
    per_channel = values.repeat_interleave(x.shape[1] // values.shape[1], 1)
    return per_channel.view(x.shape[:2] + (1,) * (x.ndim - 2))


def _affine(xhat: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    shape = (1, -1) + (1,) * (xhat.ndim - 2)
    return xhat * weight.to(xhat.dtype).view(shape) + bias.to(xhat.dtype).view(shape)


def _torch_backward(
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
    n, groups = statistics.shape[1:]
    dz = dy.to(statistics.dtype)
    mean, rstd = (_of_channels(values, x) for values in statistics)
    xhat = (x - mean) * rstd
    z = _affine(xhat, weight, bias)
    if other is not None:
        z = other.to(z.dtype) if gate == "output" else z + other
    if activation == "relu":
        dz = dz.masked_fill(z <= 0, 0)
    elif activation == "silu":
        dz = dz * z.sigmoid() * (1 + z * (1 - z.sigmoid()))
    dxhat = _affine(dz, weight, torch.zeros_like(bias))

    def average(value: Tensor) -> Tensor:
        return _of_channels(value.reshape(n, groups, -1).mean(2), x)

    dx = rstd * (dxhat - average(dxhat) - xhat * average(dxhat * xhat))
    axes = [axis for axis in range(x.ndim) if axis != 1]
    return (
        dense(dx.to(x.dtype), last),
        (dz * xhat).sum(axes).to(weight.dtype),
        dz.sum(axes).to(bias.dtype),
        dense(dz.to(x.dtype), last),
    )


def wide_type(x: Tensor) -> torch.dtype:
    """The dtype of computations on x: float32, or float64 for float64."""
    return torch.float64 if x.dtype is torch.float64 else torch.float32


# Of a `triton_op`, torch.compile sees the kernels and allocations; an export keeps it whole. It
# imports the compiler, over a second that a machine without a GPU need not spend.
SEEN = INTERPRETED or torch.cuda.is_available()
_register: Any = torch.library.triton_op if SEEN else torch.library.custom_op
group_norm_act = _register("uncus::group_norm_act", _forward, mutates_args=())
"""The operation: y like x, and the statistics [2, N, groups] for its backward pass."""
group_norm_act_backward = _register("uncus::group_norm_act_backward", _backward, mutates_args=())


def _fake_forward(x: Tensor, *inputs: Any) -> tuple[Tensor, Tensor]:
    groups = inputs[3]
    return torch.empty_like(_like(x)), x.new_empty(2, x.shape[0], groups, dtype=wide_type(x))


def _fake_backward(
    dy: Tensor, x: Tensor, weight: Tensor, bias: Tensor, *inputs: Any
) -> tuple[Tensor, ...]:
    dx, write = torch.empty_like(_like(x)), inputs[-1]
    dz = torch.empty_like(dx) if write else x.new_empty(0)
    return dx, torch.empty_like(weight), torch.empty_like(bias), dz


def _like(x: Tensor) -> Tensor:
    return dense(x, channels_last(x))


def _keep(ctx: Any, inputs: tuple[Any, ...], y: Tensor, statistics: Tensor) -> None:
    """Save the inputs of the backward pass."""
    x, weight, bias, residual, _, _, activation = inputs
    ctx.activation = activation
    ctx.gate = gate_source(residual, activation)
    ctx.has_residual = residual is not None
    other = {"affine": None, "residual": residual, "output": y}[ctx.gate]
    ctx.save_for_backward(x, weight, bias, other, statistics)


def _gradients(ctx: Any, dy: Tensor, backward: Any) -> tuple[Tensor | None, ...]:
    x, weight, bias, other, statistics = ctx.saved_tensors
    # Without an activation the gradient of the residual is dy itself.
    write = ctx.has_residual and ctx.activation != "none"
    dx, dgamma, dbeta, dz = backward(
        dy, x, weight, bias, other, statistics, ctx.activation, ctx.gate, write
    )
    dresidual = None if not ctx.has_residual else dz if write else dy
    return dx, dgamma, dbeta, dresidual, None, None, None


def _registered_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    y, statistics = output
    ctx.mark_non_differentiable(statistics)
    _keep(ctx, inputs, y, statistics)


def _registered_gradients(ctx: Any, dy: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    return _gradients(ctx, dy, group_norm_act_backward)


group_norm_act.register_fake(_fake_forward)
group_norm_act_backward.register_fake(_fake_backward)
group_norm_act.register_autograd(_registered_gradients, setup_context=_registered_setup)


class Direct(torch.autograd.Function):
    """y of the same operation without the dispatcher.

    A registered operation costs about 0.1 ms of Python in each direction, more than the kernels of
    a small layer, and eager training does not need the registration. For the same reason there is
    no ``setup_context``, for which torch would bind the signature in every call.
    """

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        y, statistics = _forward(*inputs)
        _keep(ctx, inputs, y, statistics)
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        return _gradients(ctx, dy, _backward)
