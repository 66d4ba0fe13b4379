"""The Triton kernels, in Triton's interpreter and compiler."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.models.fused.checks import (
    LAYOUTS,
    check_against_float64,
    needs_triton,
)
from uncus.models.fused.operation import INTERPRETED

# Powers of 2 that the kernels' settings are drawn from.
SPANS = {"tile": (8, 14), "warp_elements": (7, 11), "programs": (0, 6), "channels": (4, 8)}


@pytest.mark.skipif(INTERPRETED, reason="starts the interpreter itself")
@needs_triton
def test_the_kernels_agree_with_float64_in_tritons_interpreter() -> None:
    folder, root = Path(__file__).parent, Path(__file__).parents[3]
    chosen = "agrees_with_float64 or far_from_zero or nan or saved_for_backward or settings"
    options = ("-o", "addopts=--import-mode=importlib", "-p", "no:cacheprovider", "-x")
    process = subprocess.run(
        [sys.executable, "-m", "pytest", str(folder), *options, "-k", chosen],
        env={**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
        cwd=root,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert process.returncode == 0, process.stdout[-3000:]
    assert "23 passed" in process.stdout, process.stdout[-500:]


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
    assert kernels.settings(torch.device("cpu"), last) == kernels.DEFAULTS[last]


@pytest.mark.skipif(not INTERPRETED, reason="runs in the interpreter")
def test_the_settings_are_tuned_by_running_the_kernels(monkeypatch) -> None:
    from uncus.models.fused import kernels
    from uncus.pipeline.benchmark import tune

    cpu = torch.device("cpu")
    monkeypatch.setattr(tune, "GRID", {"tile": (8, 2048)})
    monkeypatch.setattr(kernels, "TUNED", {})
    case = {"layout": "contiguous", "shapes": [[1, 8, 2, 3, 4]]}
    row = tune.measure(case, cpu, 2)
    assert row["tried"] == 2 and row["before"] == kernels.DEFAULTS[False]._asdict()
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
    """The interpreter accepts code that the compiler rejects; compiling requires no GPU."""
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
        if volumes & set(names):  # 16 bytes per thread, the widest load
            assert "v4.b32" in made.asm["ptx"], kernel.__name__
