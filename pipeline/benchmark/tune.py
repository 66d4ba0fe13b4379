"""How the kernels are best cut on a GPU: one setting after the other, as long as it gets faster."""

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
MOST = 10  # rounds: there are many points, and a GPU's own times hardly differ
BETTER = 0.99
"""A setting is taken where its time is below this share of the best before: not for noise."""
Point = dict[str, int]


def cases(device: torch.device, quick: bool) -> list[dict[str, Any]]:
    """The two layouts, where there are kernels."""
    if not uses_kernels(torch.empty(0, device=device)):
        return []
    shapes = [list(shape) for shape in (QUICK if quick else SHAPES)]
    return [{"layout": layout, "shapes": shapes} for layout in LAYOUTS]


def measure(case: dict[str, Any], device: torch.device, rounds: int) -> dict[str, Any]:
    """Microseconds forward and backward on each shape, as the kernels are and at the best cut."""
    from triton.errors import TritonError

    from uncus.models.fused import kernels

    last = case["layout"] == "channels_last"
    times: dict[kernels.Settings, list[float]] = {}

    def cost(point: Point) -> float:
        chosen = kernels.Settings(**point)
        with kernels.using(chosen, last):
            try:
                times[chosen] = [
                    microseconds(shape, case["layout"], device, min(rounds, MOST))
                    for shape in case["shapes"]
                ]
            except (RuntimeError, TritonError):  # more registers or memory than there are
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
    """A point of ``grid`` where no change of one setting makes ``cost`` smaller.

    It is sought one setting after the other from ``start``; each point is tried once.
    """
    known: dict[tuple[int, ...], float] = {}

    def of(point: Point) -> float:
        place = tuple(point.values())
        if place not in known:
            known[place] = cost(point)
        return known[place]

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
    """Median time of GroupNorm + ReLU, forward and backward, bf16; of the GPU alone."""
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
    """Use what was found for the rest of this process."""
    from uncus.models.fused import kernels

    for row in part["rows"]:
        place = (kernels.device_name(device), row["layout"] == "channels_last")
        kernels.TUNED[place] = kernels.Settings(**row["best"])


def table(part: dict[str, Any]) -> list[list[str]]:
    """Header and rows for a person."""
    out = [["layout", "shape", "µs before", "µs at the best", "x"]]
    for row in part["rows"]:
        for shape, before, best in zip(
            row["shapes"], row["before_us"], row["best_us"], strict=True
        ):
            size = "x".join(map(str, shape))
            times = [f"{before:.0f}", f"{best:.0f}", f"{before / best:.2f}"]
            out.append([row["layout"], size, *times])
    return out


def remarks(part: dict[str, Any]) -> list[str]:
    """What to know beside the table."""
    lines = [
        "The other parts of the same call used the best; to have it always, these lines belong",
        "into `TUNED` of `models/fused/kernels.py`:",
        "",
    ]
    for row in part["rows"]:
        settings = ", ".join(f"{name}={value}" for name, value in row["best"].items())
        last = row["layout"] == "channels_last"
        lines.append(f'    ("{part["device"]}", {last}): Settings({settings}),')
    return lines
