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
SPANS = {
    "tile": (8, 14),
    "warp_elements": (7, 11),
    "programs": (0, 6),
    "group": (0, 17),
    "channels": (4, 8),
}


@pytest.mark.skipif(INTERPRETED, reason="starts the interpreter itself")
@needs_triton
def test_the_kernels_agree_with_float64_in_tritons_interpreter() -> None:
    folder, root = Path(__file__).parent, Path(__file__).parents[3]
    chosen = (
        "agrees_with_float64 or far_from_zero or nan or saved_for_backward or settings or tiles"
    )
    options = ("-o", "addopts=--import-mode=importlib", "-p", "no:cacheprovider", "-x")
    process = subprocess.run(
        [sys.executable, "-m", "pytest", str(folder), *options, "-k", chosen],
        env={**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
        cwd=root,
        capture_output=True,
        text=True,
        timeout=550,
    )
    assert process.returncode == 0, process.stdout[-3000:]
    assert "46 passed" in process.stdout, process.stdout[-500:]


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
    with kernels.using(kernels.Settings(64, 32, 16, 2, group=0), last):
        assert kernels.settings(torch.device("cpu"), last).tile == 64
        # 210 voxels: the vectors' edges are in two tiles and two chunks
        check_against_float64((1, 4, 5, 7, 6), 2, layout, "relu", True, torch.float32)
    assert kernels.settings(torch.device("cpu"), last) == kernels.Settings()


@pytest.mark.skipif(not INTERPRETED, reason="runs in the interpreter")
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("activation", ["relu", "silu"])
def test_groups_of_several_tiles_compute_the_same(
    layout: str, activation: str, monkeypatch
) -> None:
    from uncus.models.fused import kernels

    monkeypatch.setattr(kernels, "GROUP_BYTES", {"forward": 1024, "backward": 512})
    monkeypatch.setattr(kernels, "forward_launches", kernels.forward_launches.__wrapped__)
    monkeypatch.setattr(kernels, "backward_launches", kernels.backward_launches.__wrapped__)
    for tile in (512, 256, 128):
        last = layout == "channels_last"
        found = kernels.group_plan(10, 125, 2, last, kernels.Settings(), tile)
        assert found is not None and not found[1]["SINGLE"]
    check_against_float64((2, 10, 5, 5, 5), 2, layout, activation, True, torch.bfloat16)
    check_against_float64((1, 10, 5, 5, 5), 2, layout, activation, False, torch.float32, mean=300)


@pytest.mark.skipif(not INTERPRETED, reason="runs in the interpreter")
def test_the_settings_are_tuned_by_running_the_kernels(monkeypatch) -> None:
    from uncus.models.fused import kernels
    from uncus.pipeline.benchmark import tune

    cpu = torch.device("cpu")
    monkeypatch.setattr(kernels, "TUNED", {})
    monkeypatch.setattr(tune, "BETTER", 1e9)  # any difference is one
    start, other = (kernels.Settings(tile=tile)._asdict() for tile in (2048, 8))
    case = {"layout": "contiguous", "shapes": [[1, 8, 2, 3, 4]], "point": start}
    rows = [(case, tune.measure(case, cpu, 2))]
    case = {**case, "against": other}
    rows.append((case, tune.measure(case, cpu, 2)))
    assert rows[0][1]["us"][0] > 0 and rows[1][1]["against_us"][0] > 0
    part = {"device": "H1", **tune.gather(rows)}
    assert tune.table(part)[1][:2] == ["contiguous", "1x8x2x3x4"]
    tune.adopt(part, cpu)
    assert kernels.settings(cpu, False)._asdict() == other
    line = tune.remarks(part)[-1].strip().rstrip(",")
    assert eval(f"{{{line}}}", {"Settings": kernels.Settings}) == {
        ("H1", False): kernels.settings(cpu, False)
    }
