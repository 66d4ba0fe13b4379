"""Search for the fastest kernel settings on a GPU, one setting after the other."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from uncus.models.fused.layer import FusedGroupNorm, is_fused
from uncus.models.fused.operation import uses_kernels
from uncus.pipeline.benchmark.norm import GROUPS, LAYOUTS, QUICK, SHAPES, passes, rotated
from uncus.pipeline.timing import clear, graphed
from uncus.pipeline.timing import measure as time_all

GRID: dict[str, tuple[int, ...]] = {
    "tile": (1024, 2048, 4096, 8192),
    "programs": (4, 5, 6, 8, 16, 32),
    "warp_elements": (256, 512, 1024),
}
CHANNELS = (32, 64, 128)
MAX_ROUNDS = 10  # there are many points, and a GPU's times vary little
BETTER = 0.99
"""A setting is adopted if its time is below this share of the best so far, to ignore noise."""
Point = dict[str, int]


def cases(device: torch.device, quick: bool) -> list[dict[str, Any]]:
    """The two layouts; none without kernels."""
    if not uses_kernels(torch.empty(0, device=device)):
        return []
    shapes = [list(shape) for shape in (QUICK if quick else SHAPES)]
    return [{"layout": layout, "shapes": shapes} for layout in LAYOUTS]


def measure(case: dict[str, Any], device: torch.device, rounds: int) -> dict[str, Any]:
    """Time forward and backward (µs) on each shape with the current and the best settings."""
    from triton.errors import TritonError

    from uncus.models.fused import kernels

    last = case["layout"] == "channels_last"
    times: dict[kernels.Settings, list[float]] = {}

    def cost(point: Point) -> float:
        chosen = kernels.Settings(**point)
        with kernels.using(chosen, last):
            try:
                times[chosen] = [
                    microseconds(shape, case["layout"], device, min(rounds, MAX_ROUNDS))
                    for shape in case["shapes"]
                ]
            except (RuntimeError, TritonError):  # out of registers or memory
                return math.inf
        return math.exp(sum(map(math.log, times[chosen])) / len(times[chosen]))

    start = kernels.settings(device, last)
    grid = {**GRID, "channels": CHANNELS} if last else GRID
    best = kernels.Settings(**search(cost, start._asdict(), grid))
    return {
        "before": start._asdict(),
        "before_us": times[start],
        "best": best._asdict(),
        "best_us": times[best],
        "tried": len(times),
    }


def search(
    cost: Callable[[Point], float], start: Point, grid: Mapping[str, Sequence[int]]
) -> Point:
    """A point of ``grid`` at which no change of a single setting lowers ``cost``.

    Coordinate descent from ``start``; each point is evaluated once.
    """
    known: dict[tuple[int, ...], float] = {}

    def of(point: Point) -> float:
        values = tuple(point.values())
        if values not in known:
            known[values] = cost(point)
        return known[values]

    best, lowest = start, of(start)
    changed = True
    while changed:
        changed = False
        for name, values in grid.items():
            for value in values:
                other = {**best, name: value}
                if of(other) < BETTER * lowest:
                    best, lowest, changed = other, of(other), True
    return best


def microseconds(shape: Sequence[int], layout: str, device: torch.device, rounds: int) -> float:
    """Median time of GroupNorm + ReLU, forward and backward, in bf16, on the GPU alone."""
    clear(device)
    inputs, gradients = rotated(shape, layout, device)
    assert is_fused(inputs[0])
    work = passes(FusedGroupNorm(shape[1], GROUPS, "relu").to(device), inputs, gradients)
    replay = graphed(work) if device.type == "cuda" else work
    return 1e3 * time_all({"norm": replay}, device, rounds, len(inputs))["norm"].median


def gather(rows: list[tuple[dict[str, Any], dict[str, Any]]]) -> dict[str, Any]:
    """The part ``tune`` of the report."""
    return {"rows": [{**case, **row} for case, row in rows]}


def adopt(part: dict[str, Any], device: torch.device) -> None:
    """Use the best settings for the rest of this process."""
    from uncus.models.fused import kernels

    for row in part["rows"]:
        key = (kernels.device_name(device), row["layout"] == "channels_last")
        kernels.TUNED[key] = kernels.Settings(**row["best"])


def table(part: dict[str, Any]) -> list[list[str]]:
    """Header and rows."""
    out = [["layout", "shape", "µs before", "µs tuned", "x"]]
    for row in part["rows"]:
        for shape, before, best in zip(
            row["shapes"], row["before_us"], row["best_us"], strict=True
        ):
            size = "x".join(map(str, shape))
            times = [f"{before:.0f}", f"{best:.0f}", f"{before / best:.2f}"]
            out.append([row["layout"], size, *times])
    return out


def remarks(part: dict[str, Any]) -> list[str]:
    """Notes on the table."""
    lines = [
        "The other parts of the same call used the tuned settings; to make them permanent, add",
        "these lines to `TUNED` in `models/fused/kernels.py`:",
        "",
    ]
    for row in part["rows"]:
        settings = ", ".join(f"{name}={value}" for name, value in row["best"].items())
        last = row["layout"] == "channels_last"
        lines.append(f'    ("{part["device"]}", {last}): Settings({settings}),')
    return lines
