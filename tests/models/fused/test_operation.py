"""The fused operation against float64, and as a registered operation of torch."""

import math
import os
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.backends.common import aot_autograd
from torch._functorch.aot_autograd import make_boxed_func
from torch.nn import functional as F

from tests.models.fused.checks import (
    LAYOUTS,
    SHAPES,
    TOLERANCE,
    check_against_float64,
    gradients,
    results,
    tensors,
)
from uncus.models.fused import FusedGroupNorm, fused_group_norm
from uncus.models.fused.layer import ACTIVATIONS
from uncus.models.fused.operation import HAS_TRITON, INTERPRETED, SEEN, group_norm_act


@pytest.mark.parametrize("number", range(10))
def test_agrees_with_float64(number: int, way: str) -> None:
    """Run here in torch, and by `test_kernels` with the kernels interpreted."""
    shape, groups = SHAPES[number % len(SHAPES)]
    options = list(product(LAYOUTS, ACTIVATIONS, (False, True)))
    layout, activation, residual = options[(5 * number + 3 * (number // 5)) % len(options)]
    dtype = (torch.float32, torch.bfloat16, torch.float16)[number % 3]
    check_against_float64(shape, groups, layout, activation, residual, dtype, number)


@pytest.mark.parametrize("number", range(6))
def test_every_random_shape_agrees_with_float64(number: int, way: str) -> None:
    make = torch.Generator().manual_seed(number)

    def drawn(top: int) -> int:
        return 1 + int(torch.randint(top, (), generator=make))

    groups = drawn(5)
    shape = (drawn(3), groups * drawn(4), drawn(13), drawn(11), 1 + drawn(9))
    options = list(product(LAYOUTS, ACTIVATIONS, (False, True), TOLERANCE))
    layout, activation, residual, dtype = options[drawn(len(options)) - 1]
    check_against_float64(shape, groups, layout, activation, residual, dtype, number)


@pytest.mark.skipif(INTERPRETED, reason="too many for the interpreter")
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("residual", [False, True], ids=["plain", "residual"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_option_agrees_with_float64(layout, activation, residual, dtype, way) -> None:
    for seed, (shape, groups) in enumerate(SHAPES):
        check_against_float64(shape, groups, layout, activation, residual, dtype, seed)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_values_far_from_zero_keep_their_variance(layout: str, way: str) -> None:
    # Sums of squares in float32 would lose it: the mean is 1000 standard deviations.
    inputs, dy = tensors((1, 4, 9, 9, 9), torch.float32, layout, False, mean=3000.0)
    y = results(inputs, dy, 2, "none")[0]
    x, weight, bias = (tensor.detach().double() for tensor in inputs)
    torch.testing.assert_close(y.double(), F.group_norm(x, 2, weight, bias), atol=2e-3, rtol=0)


def test_nan_stays_nan_within_its_group(way: str) -> None:
    (x, weight, bias), _ = tensors((1, 4, 3, 3, 3), torch.float32, "contiguous", False)
    x = x.detach()
    x[0, 0, 1, 1, 1] = math.nan
    y = fused_group_norm(x, weight, bias, 2, activation="relu")
    assert y[:, :2].isnan().all()
    assert y[:, 2:].isfinite().all()


def test_tensors_saved_for_backward(registered: None) -> None:
    """ReLU and SiLU need only x; after an addition, ReLU needs y and SiLU the residual."""
    saved: list[int] = []

    def keep(tensor: Tensor) -> Tensor:
        saved.append(tensor.data_ptr())
        return tensor

    for activation, residual in product(("relu", "silu"), (False, True)):
        inputs, _ = tensors((1, 4, 3, 5, 4), torch.float32, "contiguous", residual)
        x, weight, bias, *rest = inputs
        saved.clear()
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            y = fused_group_norm(
                x, weight, bias, 2, activation=activation, residual=rest[0] if rest else None
            )
        volumes = {x.data_ptr()}
        if activation == "silu":
            volumes |= {tensor.data_ptr() for tensor in rest}
        elif residual:
            volumes.add(y.data_ptr())
        small = {weight.data_ptr(), bias.data_ptr()}
        assert volumes == set(saved) - small - {saved[-1]}, (activation, residual)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_registered_operation_passes_opcheck(activation: str, layout: str) -> None:
    inputs, _ = tensors((2, 4, 3, 2, 3), torch.float32, layout, True)
    torch.library.opcheck(group_norm_act, (*inputs, 2, 1e-5, activation))


class Block(nn.Module):
    """A convolution and a fused norm with the convolution's output as the residual."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(1, 4, 3, padding=1)
        self.norm = FusedGroupNorm(4, 2, "relu", residual=True)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv(x)
        return self.norm(h, h)


def test_compiles_exports_and_wraps(registered: None) -> None:
    torch.manual_seed(0)
    model, x = Block(), torch.randn(1, 1, 4, 5, 6)
    wanted = gradients(model, x)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(gradients(compiled, x), wanted)
    graphs: list[torch.fx.GraphModule] = []

    def keep(graph: torch.fx.GraphModule, inputs: Any) -> Any:
        graphs.append(graph)
        return make_boxed_func(graph.forward)

    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend=aot_autograd(fw_compiler=keep))
    torch.testing.assert_close(gradients(compiled, x), wanted)
    assert len(graphs) == 2
    whole = [any("uncus" in str(node.target) for node in graph.graph.nodes) for graph in graphs]
    assert whole == [not SEEN, not SEEN]  # forward and backward
    program = torch.export.export(model, (x,))
    assert torch.ops.uncus.group_norm_act.default in {node.target for node in program.graph.nodes}
    torch.testing.assert_close(program.module()(x), model(x))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert model(x).dtype is torch.bfloat16
    torch.distributed.init_process_group(
        "gloo", store=torch.distributed.HashStore(), rank=0, world_size=1
    )
    try:
        parallel = nn.parallel.DistributedDataParallel(model)
        parallel(x).square().mean().backward()
        torch.testing.assert_close([p.grad for p in model.parameters()], wanted[1:])
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_with_a_gpu_torch_sees_through_the_operation() -> None:
    """A process that finds a GPU while it registers the operation."""
    code = (
        "import sys, torch, pytest; known = torch.cuda.is_available\n"
        "torch.cuda.is_available = lambda: True\n"
        "from uncus.models.fused.operation import SEEN\n"
        "torch.cuda.is_available = known\n"
        "sys.exit(pytest.main(['-q', '-p', 'no:cacheprovider', *sys.argv[1:]]) or not SEEN)"
    )
    whole, kernels = "test_compiles_exports_and_wraps", "test_torch_compile_sees_the_kernels"
    here = Path(__file__)
    tests = [f"{here}::{whole}"]
    tests += [f"{here.with_name('test_compiled.py')}::{kernels}"] * HAS_TRITON
    done = subprocess.run([sys.executable, "-c", code, *tests], capture_output=True, text=True)
    assert done.returncode == 0 and "skipped" not in done.stdout, done.stdout[-3000:]


def test_the_start_does_not_import_the_compiler() -> None:
    code = "import sys, uncus.models.fused; sys.exit('torch._inductor' in sys.modules)"
    environment = {**os.environ, "TRITON_INTERPRET": "0", "CUDA_VISIBLE_DEVICES": ""}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


def test_gradients_in_double_precision(way: str) -> None:
    make = torch.Generator().manual_seed(0)
    shapes = ((2, 4, 2, 3, 2), (4,), (4,), (2, 4, 2, 3, 2))
    inputs = [
        torch.randn(shape, generator=make, dtype=torch.float64, requires_grad=True)
        for shape in shapes
    ]

    def silu(x: Tensor, weight: Tensor, bias: Tensor, residual: Tensor) -> Tensor:
        return fused_group_norm(x, weight, bias, 2, activation="silu", residual=residual)

    assert torch.autograd.gradcheck(silu, inputs)


def test_works_without_triton() -> None:
    code = (
        "import sys; sys.modules['triton'] = None\n"
        "import torch\n"
        "from uncus.models.fused import FusedGroupNorm\n"
        "from uncus.models.fused.operation import HAS_TRITON\n"
        "assert not HAS_TRITON\n"
        "FusedGroupNorm(4, 2, 'relu')(torch.randn(1, 4, 2, 2, 2)).sum().backward()\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[3], check=True)
