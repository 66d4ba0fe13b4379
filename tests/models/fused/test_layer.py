"""The fused operation: the twin here, the Triton kernels in Triton's interpreter and compiler."""

import math
import os
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from uncus.models.build import BACKBONES, ModelConfig, build_model
from uncus.models.fused import layer, operation
from uncus.models.fused.layer import ACTIVATIONS, FusedGroupNorm, fused_group_norm
from uncus.models.fused.operation import HAS_TRITON, INTERPRETED, group_norm_act
from uncus.models.norms.norm_act import norm_act

LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last_3d}
# Largest relative error in norm: the results, and dz in between, are rounded to the type.
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 1e-2, torch.float16: 1.5e-3}
# Powers of 2 that the kernels' settings are drawn from.
SPANS = {"tile": (8, 14), "warp_elements": (7, 11), "programs": (0, 6), "channels": (4, 8)}
needs_triton = pytest.mark.skipif(not HAS_TRITON, reason="triton is not installed")


@pytest.fixture(params=["kernels"] if INTERPRETED else ["plain", "twin"])
def way(request, monkeypatch) -> str:
    """Which of the three implementations runs."""
    if request.param == "twin":
        monkeypatch.setattr(layer, "uses_kernels", lambda x: True)
    return request.param


@pytest.fixture
def registered(monkeypatch) -> None:
    """The registered operation, as on a GPU, also where torch's layers would run."""
    monkeypatch.setattr(layer, "uses_kernels", lambda x: True)


def exact(x, weight, bias, groups, activation, residual):
    """What the operation should give, in float64."""
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
    wanted = [y.detach(), *torch.autograd.grad(y, wide, dy.double())]
    names = ("y", "dx", "dweight", "dbias", "dresidual")
    for name, value, truth in zip(names, got, wanted, strict=False):
        error = float((value.double() - truth).norm() / truth.norm())
        assert error < TOLERANCE[dtype], f"{name} is off by {error:.1e}"
    if not INTERPRETED:  # which is slow, and does one thing after the other anyway
        again = results(inputs, dy, groups, activation)
        assert all(torch.equal(a, b) for a, b in zip(got, again, strict=True)), "not the same bits"


# Small, since the interpreter takes about a second for each: odd sizes, C/G from 1 to 6, N > 1,
# several tiles and chunks, a single row of voxels.
SHAPES = [
    ((1, 8, 5, 7, 3), 2),
    ((2, 6, 3, 4, 5), 1),
    ((3, 3, 2, 3, 2), 3),
    ((1, 4, 19, 17, 15), 2),
    ((1, 10, 1, 1, 9), 5),
]


@pytest.mark.parametrize("number", range(10))
def test_agrees_with_float64(number: int, way: str) -> None:
    """Run once with the twin, and once more, by the next test, with the kernels interpreted."""
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


@pytest.mark.skipif(INTERPRETED, reason="starts the interpreter itself")
@needs_triton
def test_the_kernels_agree_with_float64_in_tritons_interpreter() -> None:
    here = Path(__file__)
    chosen = "agrees_with_float64 or far_from_zero or nan or saved_for_backward or settings"
    pytest_here = (sys.executable, "-m", "pytest", str(here), "-o", "addopts=", "-x")
    process = subprocess.run(
        [*pytest_here, "-k", chosen],
        env={**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
        cwd=here.parents[1],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert process.returncode == 0, process.stdout[-3000:]
    assert "23 passed" in process.stdout, process.stdout[-500:]


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


def test_what_is_saved_for_backward(registered: None) -> None:
    """ReLU and SiLU need nothing but x; ReLU after an addition y; SiLU there the residual."""
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


@needs_triton
def test_chunks_cover_every_voxel_once() -> None:
    from uncus.models.fused.kernels import Settings, plan

    make = torch.Generator().manual_seed(0)
    for _ in range(300):
        n, c, side = (int(torch.randint(1, top, (), generator=make)) for top in (5, 600, 160))
        s = side**3 if side < 100 else side
        powers = {k: torch.randint(*span, (), generator=make) for k, span in SPANS.items()}
        chosen = Settings(**{name: 2 ** int(power) for name, power in powers.items()})
        for last in (False, True):
            cut = plan(n, c, s, 1, last, chosen, 132)
            assert (cut.splits - 1) * cut.chunk < s <= cut.splits * cut.chunk
            assert cut.chunk % cut.block_s == 0
            assert cut.programs == n * -(-c // cut.block_c) * cut.splits


@pytest.mark.skipif(not INTERPRETED, reason="runs in the interpreter")
@pytest.mark.parametrize("layout", LAYOUTS)
def test_other_settings_compute_the_same(layout: str) -> None:
    from uncus.models.fused import kernels

    last = layout == "channels_last"
    with kernels.using(kernels.Settings(64, 32, 3, 2), last):
        assert kernels.settings(torch.device("cpu"), last).tile == 64
        check_against_float64((2, 4, 5, 7, 6), 2, layout, "relu", True, torch.float32)
    assert kernels.settings(torch.device("cpu"), last) == kernels.USUAL[last]


@pytest.mark.skipif(not INTERPRETED, reason="runs in the interpreter")
def test_the_settings_are_tuned_by_running_the_kernels(monkeypatch) -> None:
    from uncus.models.fused import kernels
    from uncus.pipeline.benchmark import tune

    cpu = torch.device("cpu")
    monkeypatch.setattr(tune, "GRID", {"tile": (8, 2048)})
    monkeypatch.setattr(kernels, "TUNED", {})
    case = {"layout": "contiguous", "shapes": [[1, 8, 2, 3, 4]]}
    row = tune.measure(case, cpu, 2)
    assert row["tried"] == 2 and row["before"] == kernels.USUAL[False]._asdict()
    assert row["best"]["tile"] in (8, 2048) and 0 < row["best_us"][0] <= row["before_us"][0]
    part = {"device": "H1", **tune.gather([(case, row)])}
    assert tune.table(part)[1][:2] == ["contiguous", "1x8x2x3x4"]
    tune.adopt(part, cpu)
    assert kernels.settings(cpu, False)._asdict() == row["best"]
    line = tune.remarks(part)[-1].strip().rstrip(",")
    assert eval(f"{{{line}}}", {"Settings": kernels.Settings}) == {
        ("H1", False): kernels.settings(cpu, False)
    }


@pytest.mark.skipif(INTERPRETED, reason="needs the compiler")
@needs_triton
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_kernels_compile_for_hopper_with_wide_loads(layout: str) -> None:
    """The interpreter takes what the compiler refuses; no GPU is needed to compile for one."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource, compile

    from uncus.models.fused import kernels

    last = layout == "channels_last"
    tile = {"LAST": last, "BLOCK_C": 32 if last else 1, "BLOCK_S": 64 if last else 2048}
    merge = {"MEMBERS": 4, "SPLITS": 32}
    cases = [
        (kernels._moments, tile),
        (kernels._apply, {**tile, **merge, "ACTIVATION": 1, "ADD": True}),
        (kernels._backward_reduce, {**tile, "ACTIVATION": 1, "GATE": 2, "WRITE": True}),
        (kernels._backward_apply, {**tile, **merge, "ACTIVATION": 2, "GATE": 1}),
    ]
    if last:
        cases += [(kernels._merge_moments, merge), (kernels._merge_sums, merge)]
    volumes = {"x", "y", "dy", "dx", "residual", "other", "dresidual"}
    small = {"gamma", "beta", "dgamma", "dbeta", "moments", "statistics", "sums", "group_sums"}
    options = {"num_warps": 4, "enable_fp_fusion": True}
    for kernel, constants in cases:
        names = kernel.arg_names
        types = {
            **dict.fromkeys(names, "i32"),
            **dict.fromkeys(volumes, "*bf16"),
            **dict.fromkeys(small, "*fp32"),
            **dict.fromkeys(constants, "constexpr"),
            "eps": "fp32",
        }
        signature = {name: types[name] for name in names}
        aligned = volumes | small | {"C", "S", "chunk"}
        source = ASTSource(
            fn=kernel,
            signature=signature,
            constexprs={(names.index(name),): value for name, value in constants.items()},
            attrs={
                (i,): [["tt.divisibility", 16]] for i, name in enumerate(names) if name in aligned
            },
        )
        made = compile(source, target=GPUTarget("cuda", 90, 32), options=options)
        if volumes & set(names):  # 16 bytes a thread, the widest there is
            assert "v4.b32" in made.asm["ptx"], kernel.__name__


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_registered_operation_is_sound(activation: str, layout: str) -> None:
    inputs, _ = tensors((2, 4, 3, 2, 3), torch.float32, layout, True)
    torch.library.opcheck(group_norm_act, (*inputs, 2, 1e-5, activation))


class Block(nn.Module):
    """Convolution, fused norm with its own output as the residual."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(1, 4, 3, padding=1)
        self.norm = FusedGroupNorm(4, 2, "relu", residual=True)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv(x)
        return self.norm(h, h)


def gradients(model: nn.Module, x: Tensor) -> list[Tensor]:
    loss = model(x).square().mean()
    return [loss.detach(), *torch.autograd.grad(loss, list(model.parameters()))]


def test_compiles_exports_and_wraps(registered: None) -> None:
    torch.manual_seed(0)
    model, x = Block(), torch.randn(1, 1, 4, 5, 6)
    wanted = gradients(model, x)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(gradients(compiled, x), wanted)
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


def test_takes_group_norms_weights_and_trains_like_it() -> None:
    torch.manual_seed(0)
    plain, ours = nn.GroupNorm(2, 6), FusedGroupNorm(6, 2, "relu")
    nn.init.normal_(plain.weight)
    ours.load_state_dict(plain.state_dict())
    x = torch.randn(2, 6, 3, 3, 3)
    torch.testing.assert_close(ours(x), F.relu(plain(x)))


def test_other_strides_and_empty_batches(way: str) -> None:
    torch.manual_seed(0)
    norm = FusedGroupNorm(4, 2, "relu")
    x = torch.randn(3, 4, 6, 5, 8)
    part = x[:, :, ::2, :, 1:]
    torch.testing.assert_close(norm(part), norm(part.contiguous()))
    empty = torch.zeros(0, 4, 3, 3, 3, requires_grad=True)
    norm(empty).sum().backward()
    assert empty.grad is not None
    assert empty.grad.shape == empty.shape


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: FusedGroupNorm(6, 4), "do not divide 6"),
        (lambda x: FusedGroupNorm(4, 2, "gelu"), "unknown activation 'gelu'"),
        (lambda x: FusedGroupNorm(4, 2)(x, x), "made with residual=False"),
        (lambda x: FusedGroupNorm(4, 2, residual=True)(x), "made with residual=True"),
        (lambda x: FusedGroupNorm(4, 2, residual=True)(x, x[..., :1]), "must be alike"),
        (lambda x: FusedGroupNorm(8, 2)(x), "4 channels cannot"),
        (lambda x: FusedGroupNorm(4, 2)(x.int()), "floating point"),
        (lambda x: FusedGroupNorm(4, 4)(x[..., :1, :1, :1]), "no variance"),
    ],
)
def test_refuses(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(torch.ones(1, 4, 2, 2, 2))


# How many norms of our networks take the activation behind them along; the others' comes after an
# addition that is not ours, a pooling, or a nested chain.
ACTIVATED = {
    "tiny": 4,
    "resnet10": 9,
    "resnet18": 17,
    "resnet34": 33,
    "resnet50": 49,
    "sfcn": 1,
    "densenet121": 120,
    "efficientnet-b0": 2,
    "seresnet50": 33,
}


@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_network_uses_it_for_each_norm(backbone: str, monkeypatch) -> None:
    model = build_model(ModelConfig(backbone, width=8, groups=2), seed=0).eval()
    norms = [layer for layer in model.modules() if isinstance(layer, nn.GroupNorm)]
    for norm in norms:
        nn.init.normal_(norm.weight)  # some start at 0, which would hide what is behind them
    x = torch.randn(1, 1, 33, 36, 34, generator=torch.Generator().manual_seed(0))
    wanted = gradients(model, x)
    calls: list[str] = []
    taken = operation._forward
    monkeypatch.setattr(
        operation, "_forward", lambda *all_of: calls.append(all_of[6]) or taken(*all_of)
    )
    monkeypatch.setattr(layer, "uses_kernels", lambda x: True)
    torch.testing.assert_close(gradients(model, x), wanted, rtol=1e-3, atol=1e-5)
    assert len(calls) == len(norms)
    activated = len([one for one in calls if one != "none"])
    assert activated == ACTIVATED.get(backbone, activated)


def test_a_hooked_norm_is_called_as_a_module(registered: None) -> None:
    norm, seen = nn.GroupNorm(2, 4), []
    x = torch.randn(1, 4, 2, 3, 2)
    wanted = norm_act(norm, x)
    norm.register_forward_hook(lambda module, inputs, output: seen.append(output))
    torch.testing.assert_close(norm_act(norm, x), wanted)
    assert len(seen) == 1


def test_can_be_turned_off(monkeypatch) -> None:
    monkeypatch.setattr(layer, "uses_kernels", lambda x: True)
    x = torch.zeros(1)
    assert layer.is_fused(x)
    with layer.switched(on=False):
        assert not layer.is_fused(x)
    assert layer.is_fused(x)


def test_works_without_triton() -> None:
    code = (
        "import sys; sys.modules['triton'] = None\n"
        "import torch\n"
        "from uncus.models.fused.layer import FusedGroupNorm\n"
        "from uncus.models.fused.operation import HAS_TRITON\n"
        "assert not HAS_TRITON\n"
        "FusedGroupNorm(4, 2, 'relu')(torch.randn(1, 4, 2, 2, 2)).sum().backward()\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[3], check=True)
