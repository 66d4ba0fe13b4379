"""Search for the fastest kernel settings on a GPU, one setting after the other."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from uncus.models.fused.layer import FusedGroupNorm, is_fused
from uncus.models.fused.operation import uses_kernels
from uncus.pipeline.benchmark.fingerprint import fingerprint
from uncus.pipeline.benchmark.norm import GROUPS, LAYOUTS, QUICK, SHAPES, passes, rotated
from uncus.pipeline.timing import Work, clear, graphed
from uncus.pipeline.timing import measure as time_all

GRID: dict[str, tuple[int, ...]] = {
    "tile": (1024, 2048, 4096, 8192),
    "warp_elements": (256, 512, 1024),
    "programs": (0, 4, 8, 16, 32),
    "group": (0, 16384, 65536),
}
CHANNELS = (32, 64, 128)
MAX_ROUNDS = 10  # there are many points, and a GPU's times vary little
BETTER = 0.97
"""A setting is adopted if its time is below this share of the best so far, to ignore noise."""
Point = dict[str, int]
Row = Callable[[dict[str, Any]], dict[str, Any] | None]
"""The result of a case, if it has been measured."""


class NotMeasuredError(Exception):
    """The search needs the time of a point that has not been measured."""


def cases(device: torch.device, quick: bool) -> list[dict[str, Any]]:
    """The settings to start from, in either layout; none without kernels."""
    if not uses_kernels(torch.empty(0, device=device)):
        return []
    from uncus.models.fused import kernels

    shapes = [list(shape) for shape in (QUICK if quick else SHAPES)]
    return [
        {
            "layout": layout,
            "shapes": shapes,
            "point": kernels.DEFAULTS[layout == "channels_last"]._asdict(),
        }
        for layout in reversed(LAYOUTS)  # the one that training uses on a GPU comes first
    ]


def further(device: torch.device, quick: bool, row: Row) -> list[dict[str, Any]]:
    """The points that the search has come to by its results so far; at its end, the comparison.

    The winner of many noisy times looks faster than it is: it is timed against the start again.
    """
    out: list[dict[str, Any]] = []
    for start in cases(device, quick):
        seen: list[dict[str, Any]] = []

        def cost(point: Point, start: Any = start, seen: Any = seen) -> float:
            case = {**start, "point": point}
            if case != start:
                seen.append(case)
            found = row(case)
            if found is None:
                raise NotMeasuredError
            return mean(found["us"])

        grid = {**GRID, "channels": CHANNELS} if start["layout"] == "channels_last" else GRID
        try:
            best = search(cost, start["point"], grid)
        except NotMeasuredError:
            best = start["point"]
        if best != start["point"]:
            seen.append({**start, "against": best})
        out += seen
    return out


def depends(case: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """What a time depends on: the kernels' code."""
    return {"code": fingerprint("models/fused")}


def measure(case: dict[str, Any], device: torch.device, rounds: int) -> dict[str, Any]:
    """Times of a point (µs) on each shape; of two points, in turn, where they are compared.

    Empty where the kernels do not run with a point's settings.
    """
    points = [case["point"]] + ([case["against"]] if "against" in case else [])
    number = min(rounds, MAX_ROUNDS) * len(points)
    try:
        times = [microseconds(s, case["layout"], points, device, number) for s in case["shapes"]]
    except Exception as error:
        if not too_large(error):
            raise
        return {"us": []}
    first, *second = (list(column) for column in zip(*times, strict=True))
    return {"us": first, **({"against_us": second[0]} if second else {})}


def too_large(error: Exception) -> bool:
    """Whether kernels cannot run since their settings need too many registers or too much memory.

    A GPU that has failed is another thing: nothing would run after it.
    """
    from triton.errors import TritonError

    failed = isinstance(error, torch.AcceleratorError)
    return isinstance(error, TritonError | RuntimeError) and not failed


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


def mean(times: Sequence[float]) -> float:
    """The geometric mean; infinite where there are no times."""
    return math.exp(sum(map(math.log, times)) / len(times)) if times else math.inf


def microseconds(
    shape: Sequence[int],
    layout: str,
    points: Sequence[Point],
    device: torch.device,
    rounds: int,
) -> list[float]:
    """Median time of GroupNorm + ReLU, forward and backward, in bf16, on the device alone.

    One for each of ``points``, which take turns.
    """
    clear(device)
    inputs, gradients = rotated(shape, layout, device)
    assert is_fused(inputs[0])
    work = passes(FusedGroupNorm(shape[1], GROUPS, "relu").to(device), inputs, gradients)
    works: dict[str, Work] = {}
    for number, point in enumerate(points):
        with settings(point, layout):
            works[str(number)] = with_settings(graphed(work, device), point, layout)
    times = time_all(works, device, rounds, len(inputs), launches=False)
    return [1e3 * timing.median for timing in times.values()]


@contextmanager
def settings(point: Point, layout: str) -> Iterator[None]:
    """Use a point's settings within the context."""
    from uncus.models.fused import kernels

    with kernels.using(kernels.Settings(**point), layout == "channels_last"):
        yield


def with_settings(work: Work, point: Point, layout: str) -> Work:
    """``work`` under a point's settings; a graph has them already."""

    def once() -> None:
        with settings(point, layout):
            work()

    return once


def gather(rows: list[tuple[dict[str, Any], dict[str, Any]]]) -> dict[str, Any]:
    """The part ``tune``: for each layout the start and the best settings, which are the start's
    until the comparison at the end confirms that others are faster."""
    out: dict[str, dict[str, Any]] = {}
    for case, row in rows:
        first = {
            "layout": case["layout"],
            "shapes": case["shapes"],
            "before": case["point"],
            "before_us": row["us"],
            "best": case["point"],
            "best_us": row["us"],
            "tried": 0,
        }
        found = out.setdefault(case["layout"], first)
        if "against" not in case:
            found["tried"] += 1
        elif row["us"]:
            found.update(before_us=row["us"], best_us=row["us"])
            if mean(row["against_us"]) < BETTER * mean(row["us"]):
                found.update(best=case["against"], best_us=row["against_us"])
    return {"code": fingerprint("models/fused"), "rows": list(out.values())}


def adopt(part: dict[str, Any], device: torch.device) -> None:
    """Use the best settings for the rest of this process, if they are of this device and code."""
    from uncus.models.fused import kernels

    name = kernels.device_name(device)
    if (name and part["device"] != name) or part["code"] != fingerprint("models/fused"):
        return
    for row in part["rows"]:
        if row["best"] != row["before"]:
            key = (name, row["layout"] == "channels_last")
            kernels.TUNED[key] = kernels.Settings(**row["best"])


def table(part: dict[str, Any]) -> list[list[str]]:
    """Header and rows."""
    out = [["layout", "shape", "µs before", "µs tuned", "x"]]
    for row in part["rows"]:
        times = zip(row["shapes"], row["before_us"], row["best_us"], strict=False)
        for shape, before, best in times:
            size = "x".join(map(str, shape))
            out.append(
                [row["layout"], size, f"{before:.0f}", f"{best:.0f}", f"{before / best:.2f}"]
            )
    return out


def remarks(part: dict[str, Any]) -> list[str]:
    """Notes on the table."""
    tried = ", ".join(f"{row['tried']} ({row['layout']})" for row in part["rows"])
    lines = [
        f"Settings tried: {tried}. The other parts use the best of them, from the same folder; to",
        "make them permanent, add these lines to `TUNED` in `models/fused/kernels.py`:",
        "",
    ]
    for row in part["rows"]:
        settings = ", ".join(f"{name}={value}" for name, value in row["best"].items())
        last = row["layout"] == "channels_last"
        lines.append(f'    ("{part["device"]}", {last}): Settings({settings}),')
    return lines
