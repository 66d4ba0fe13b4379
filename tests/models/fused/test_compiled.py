"""The kernels as compiled for an H100: compiling requires no GPU, and says what a program takes."""

import functools
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor

from tests.models.fused.checks import LAYOUTS, needs_triton
from uncus.models.fused.operation import INTERPRETED, SEEN

pytestmark = [
    needs_triton,
    pytest.mark.skipif(INTERPRETED, reason="needs the compiler"),
]
without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="stands in for the GPU")
if TYPE_CHECKING:
    from tests.models.fused import hopper
# Large; of 91 x 109 x 91 voxels, an odd number; small in several tiles; in one tile.
CASES = {
    "large": ((1, 64, 64, 64, 64), 8),
    "odd": ((1, 32, 91, 109, 91), 8),
    "small": ((1, 128, 16, 16, 16), 8),
    "tiny": ((2, 512, 4, 4, 4), 8),
}


def case_of(name: str, layout: str) -> Any:
    """Forward of a residual block's last norm."""
    from uncus.models.fused import kernels

    shape, groups = CASES[name]
    return kernels.Case(
        shape, torch.bfloat16, torch.float32, torch.float32, groups, 1e-5, "relu", True, "affine",
        layout == "channels_last", torch.device("cuda"), kernels.Settings(programs=8),
    )  # fmt: skip


@pytest.fixture
def h100(monkeypatch) -> None:
    """Its properties, and no kernels from other tests."""
    from tests.models.fused import hopper
    from uncus.models.fused import kernels

    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: hopper.PROPERTIES)
    monkeypatch.setattr(kernels, "device_of", kernels.device_of.__wrapped__)
    for each in ("forward_launches", "backward_launches"):
        monkeypatch.setattr(kernels, each, functools.cache(getattr(kernels, each).__wrapped__))


@pytest.fixture
def driver(h100: None, monkeypatch) -> "hopper.Driver":
    """Triton's driver of an H100 that notes the launches."""
    from triton.runtime import driver as active

    from tests.models.fused import hopper

    made = hopper.Driver()
    monkeypatch.setattr(active, "_active", made)
    return made


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", CASES)
def test_the_kernels_load_16_bytes_and_spill_nothing(name: str, layout: str, h100: None) -> None:
    from tests.models.fused import hopper
    from uncus.models.fused import kernels
    from uncus.models.fused.launch import fitting

    case = case_of(name, layout)
    backward = kernels.backward_launches(case._replace(gate="output"))
    launches = [one for one in (*kernels.forward_launches(case), *backward) if one]
    large = {"apply_kernel", "moments_kernel", "backward_apply_kernel", "backward_reduce_kernel"}
    passes = large if name in ("large", "odd") else {"forward_kernel", "backward_kernel"}
    tested = set()
    for launch in launches:
        kernel, code = launch.kernel.__name__, hopper.compiled(launch)
        assert code.spilled == 0, kernel
        held = fitting(code.registers, code.shared, launch.warps, hopper.PROPERTIES)
        assert held * launch.warps * 32 * code.registers <= 65536, kernel
        if kernel not in passes:
            continue
        tested.add(kernel)
        assert held >= (3 if kernel in large else 1), kernel
        asynchronous = code.count(r"cp\.async\.cg\.shared\.global [^;]*0x10")
        assert asynchronous + code.count(r"ld\.global[^ ]*\.v4\.b32") > 0, kernel
        if kernel in ("moments_kernel", "backward_reduce_kernel") or name == "small":
            assert asynchronous > 0, kernel
        if "apply" in kernel:
            assert code.count("evict_first") > 0, kernel
        if kernel != "moments_kernel":
            assert code.count(r"st\.global[^ ]*\.v4\.b32") > 0, kernel
        single = code.count(r"ld\.global[^ ]*\.b16")  # of the voxels before and after the vectors
        assert (single > 0) is (name == "odd" and layout == "contiguous"), kernel
    assert tested == passes


@pytest.mark.parametrize(
    ("registers", "shared", "warps", "programs"),
    [
        (64, 0, 4, 8),
        (65, 0, 4, 7),
        (113, 0, 4, 4),
        (32, 0, 4, 16),
        (64, 49_152, 4, 4),
        (64, 0, 32, 1),
        (255, 0, 1, 8),
    ],
)
def test_the_programs_that_fit_at_once(registers, shared, warps, programs) -> None:
    from tests.models.fused import hopper
    from uncus.models.fused.launch import fitting

    assert fitting(registers, shared, warps, hopper.PROPERTIES) == programs


@without_gpu
@pytest.mark.parametrize("layout", LAYOUTS)
def test_as_many_programs_run_as_the_registers_allow(layout: str, driver: Any) -> None:
    from tests.models.fused import hopper
    from uncus.models.fused import kernels
    from uncus.models.fused.launch import fitting

    case = case_of("large", layout)._replace(gate="output", chosen=kernels.Settings())
    made = kernels.backward_launches(case)
    assert made.reduce is not None and made.reduce.grid == made.apply.grid
    held = min(
        fitting(code.registers, code.shared, launch.warps, hopper.PROPERTIES)
        for launch in (made.apply, made.reduce)
        for code in [hopper.compiled(launch)]
    )
    assert held == {"contiguous": 8, "channels_last": 4}[layout]
    n, c, s = case.sizes
    cut = kernels.plan(n, c, s, 8, case.last, kernels.Settings(programs=held), 132)
    assert made.apply.grid[0] == cut.programs
    assert {"backward_apply_kernel", "backward_reduce_kernel"} == set(driver.loaded)
    assert not driver.launches


@without_gpu
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(1, 8, 4, 4, 4), (1, 8, 64, 64, 64)])
def test_a_kept_kernel_is_launched_like_by_tritons_jit(shape, layout: str, driver: Any) -> None:
    from uncus.models.fused import kernels

    x = torch.randn(shape).bfloat16().to(memory_format=LAYOUTS[layout])
    weight, bias = torch.ones(8), torch.zeros(8)
    last = layout == "channels_last"

    def launches(x: Tensor) -> list[Any]:
        driver.launches.clear()
        y, statistics = kernels.forward(x, weight, bias, None, 2, 1e-5, "relu", last)
        kernels.backward(y, x, weight, bias, None, "affine", statistics, "relu", last, False)
        return [
            [*call[:3], *("tensor" if isinstance(a, Tensor) else a for a in call[3])]
            for call in driver.launches
        ]

    with kernels.using(kernels.Settings(programs=8), last):
        by_jit = launches(x)
        assert len(by_jit) == (2 if shape[-1] == 4 else 6 if last else 4)
        loaded = len(driver.loaded)
        assert launches(x) == by_jit
        assert len(driver.loaded) == loaded
        # Two bytes further, wide loads are impossible: other code.
        moved = torch.empty(x.numel() + 1, dtype=x.dtype)[1:].as_strided(x.shape, x.stride())
        functions = [call[2] for call in by_jit]
        assert launches(moved.copy_(x)) == by_jit
        assert len(driver.loaded) > loaded
        assert [call[2] for call in launches(x)] == functions


@without_gpu
@pytest.mark.skipif(not SEEN, reason="run by test_operation, as if there were a GPU")
@pytest.mark.parametrize(
    ("shape", "kernels_of_each_direction"),
    [((1, 8, 4, 4, 4), 1), ((1, 8, 32, 48, 64), 2)],
)
def test_torch_compile_sees_the_kernels(
    shape, kernels_of_each_direction: int, driver: Any, monkeypatch
) -> None:
    """A traced graph launches them, and copies no tensor but those that they write."""
    from torch._functorch.aot_autograd import aot_export_joint_simple
    from torch._higher_order_ops.triton_kernel_wrap import kernel_side_table
    from torch._subclasses.fake_tensor import FakeTensorMode

    from uncus.models.fused import fused_group_norm, layer, operation

    for module in (layer, operation):
        monkeypatch.setattr(module, "uses_kernels", lambda x: True)
    with FakeTensorMode():
        x, residual = (torch.empty(shape, dtype=torch.bfloat16) for _ in range(2))
        inputs = [x, torch.empty(8), torch.empty(8), residual]
        inputs = [tensor.requires_grad_() for tensor in inputs]

        def norm(x: Tensor, weight: Tensor, bias: Tensor, residual: Tensor) -> tuple[Tensor]:
            return (fused_group_norm(x, weight, bias, 2, 1e-5, "relu", residual),)

        graph = aot_export_joint_simple(norm, inputs, trace_joint=True)
    nodes = [node for node in graph.graph.nodes if "triton_kernel" in str(node.target)]
    assert len(nodes) == 2 * kernels_of_each_direction
    assert not any("uncus" in str(node.target) for node in graph.graph.nodes)
    written = set().union(*(node.kwargs["tensors_to_clone"] for node in nodes))
    partial = {"moments", "sums"} if kernels_of_each_direction > 1 else set()
    assert written == {"y", "statistics", "dx", "dresidual", "dgamma", "dbeta"} | partial
    tuned = [kernel_side_table.get_kernel(node.kwargs["kernel_idx"]).configs for node in nodes]
    warps = 1 if kernels_of_each_direction == 1 else 4
    assert [config.num_warps for (config,) in tuned] == [warps] * len(nodes)
