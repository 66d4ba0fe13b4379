"""Checks of the fused norm against float64, on any device."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from uncus.models.fused import fused_group_norm, layer
from uncus.models.fused.operation import HAS_TRITON, INTERPRETED

LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last_3d}
# Largest relative error in norm: the results, and dz in between, are rounded to the type.
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 1e-2, torch.float16: 1.5e-3}
needs_triton = pytest.mark.skipif(not HAS_TRITON, reason="triton is not installed")
# Small, since the interpreter takes about a second for each: odd sizes, C/G from 1 to 6, N > 1,
# several tiles and chunks, a single row of voxels.
SHAPES = [
    ((1, 8, 5, 7, 3), 2),
    ((2, 6, 3, 4, 5), 1),
    ((3, 3, 2, 3, 2), 3),
    ((1, 4, 19, 17, 15), 2),
    ((1, 10, 1, 1, 9), 5),
]


def exact(x, weight, bias, groups, activation, residual):
    """The operation's expected output, for float64 input."""
    y = F.group_norm(x, groups, weight, bias)
    y = y if residual is None else y + residual
    return {"none": lambda t: t, "relu": F.relu, "silu": F.silu}[activation](y)


def tensors(shape, dtype, layout, residual, seed=0, mean=5.0) -> tuple[list[Tensor], Tensor]:
    """x, weight, bias, (residual,) that require gradients, and dy."""
    make = torch.Generator().manual_seed(seed)

    def volume(scale: float, shift: float) -> Tensor:
        values = torch.randn(shape, generator=make) * scale + shift
        return values.to(dtype).to(memory_format=LAYOUTS[layout])

    made = [volume(3.0, mean), *(torch.randn(shape[1], generator=make) for _ in range(2))]
    if residual:
        made.append(volume(1.0, 0.0))
    return [tensor.requires_grad_() for tensor in made], volume(1.0, 0.0)


def results(inputs: list[Tensor], dy: Tensor, groups: int, activation: str) -> list[Tensor]:
    """y and the gradient of every input."""
    x, weight, bias, *rest = inputs
    y = fused_group_norm(x, weight, bias, groups, 1e-5, activation, rest[0] if rest else None)
    return [y.detach(), *torch.autograd.grad(y, inputs, dy)]


def check_against_float64(
    shape, groups, layout, activation, residual, dtype, seed=0, mean=5.0, device="cpu"
):
    inputs, dy = tensors(shape, dtype, layout, residual, seed, mean)
    inputs = [tensor.detach().to(device).requires_grad_() for tensor in inputs]
    dy = dy.to(device)
    got = results(inputs, dy, groups, activation)
    assert got[0].dtype is dtype
    assert got[0].stride() == inputs[0].stride()
    if layer.is_fused(inputs[0]):
        assert got[1].stride() == inputs[0].stride()
    wide = [tensor.detach().double().requires_grad_() for tensor in inputs]
    x, weight, bias, *rest = wide
    y = exact(x, weight, bias, groups, activation, rest[0] if rest else None)
    expected = [y.detach(), *torch.autograd.grad(y, wide, dy.double())]
    names = ("y", "dx", "dweight", "dbias", "dresidual")
    for name, value, truth in zip(names, got, expected, strict=False):
        error = float((value.double() - truth).norm() / truth.norm())
        assert error < TOLERANCE[dtype], f"{name} is off by {error:.1e}"
    if not INTERPRETED:  # slow, and sequential in any case
        again = results(inputs, dy, groups, activation)
        assert all(torch.equal(a, b) for a, b in zip(got, again, strict=True)), "not bit-identical"


def gradients(model: nn.Module, x: Tensor) -> list[Tensor]:
    loss = model(x).square().mean()
    return [loss.detach(), *torch.autograd.grad(loss, list(model.parameters()))]
