"""GroupNorm + ReLU, forward and backward: ours against torch eager, compiled and autocast."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.fused import FusedGroupNorm
from pipeline.timing import Timing, clear, copy_bandwidth, graphed, measure

GROUPS = 8
SHAPES = ((1, 32, 96, 96, 96), (1, 64, 48, 48, 48), (2, 128, 24, 24, 24))
QUICK = ((1, 16, 12, 12, 12), (2, 32, 6, 6, 6))
LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last_3d}
ROTATED = 2**28  # bytes of input that are rotated, several times a GPU's L2 cache
# Passes over the tensor that no implementation avoids where it does not fit in the cache:
# forward reads x twice and writes y, backward reads x and dy twice and writes dx.
PASSES = 8


class Eager(nn.Module):
    """What a network has without us: GroupNorm, then ReLU."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, channels)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(x))


class Autocast(Eager):
    """The same in a MONAI network under autocast: float32, then cast for the next convolution."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, dtype=torch.bfloat16):
            return F.relu(self.norm(x)).to(x.dtype)


def run(device: torch.device, rounds: int, quick: bool) -> dict[str, Any]:
    """Measure every shape and layout; the part ``norm`` of the report."""
    gpu = device.type == "cuda"
    bandwidth = copy_bandwidth(device, 2.0 if gpu else 0.02, rounds if gpu else 5)
    rows = [
        _row(shape, layout, device, rounds, bandwidth)
        for shape in (QUICK if quick else SHAPES)
        for layout in LAYOUTS
    ]
    return {
        "copy_bandwidth_gb_s": bandwidth / 1e9,
        "groups": GROUPS,
        "dtype": "bfloat16",
        "passes": PASSES,
        "rows": rows,
    }


def _contestants(shape: tuple[int, ...], device: torch.device) -> Iterator[tuple[str, Any]]:
    """Name and module. All take and give bf16; the parameters are as each wants them."""
    channels = shape[1]
    yield "fused", FusedGroupNorm(channels, GROUPS, "relu").to(device)
    eager = Eager(channels, GROUPS).to(device, torch.bfloat16)
    yield "eager", eager
    if device.type == "cuda":
        yield "compiled", torch.compile(eager, dynamic=False)
    yield "autocast", Autocast(channels, GROUPS).to(device)


def _row(
    shape: tuple[int, ...], layout: str, device: torch.device, rounds: int, bandwidth: float
) -> dict[str, Any]:
    clear(device)
    torch.manual_seed(0)
    torch._dynamo.reset()  # each shape gets its own specialized code
    one = torch.Size(shape).numel() * 2
    count = min(max(ROTATED // (2 * one), 2), 24) if device.type == "cuda" else 2

    def tensors() -> list[Tensor]:
        return [
            torch.randn(shape, device=device, dtype=torch.bfloat16).to(
                memory_format=LAYOUTS[layout]
            )
            for _ in range(count)
        ]

    inputs = [x.requires_grad_() for x in tensors()]
    gradients = tensors()

    def work(module: nn.Module) -> Callable[[], None]:
        parameters = list(module.parameters())

        def step() -> None:
            for x, dy in zip(inputs, gradients, strict=True):
                torch.autograd.grad(module(x), [x, *parameters], dy)

        return step

    modules = dict(_contestants(shape, device))
    works = {name: work(module) for name, module in modules.items()}
    stream = measure(works, device, rounds, count)
    graph: dict[str, Timing] = {}
    if device.type == "cuda":
        replays = {name: graphed(step) for name, step in works.items()}
        graph = measure(replays, device, rounds, count)
    best = graph or stream
    seconds = best["fused"].median * 1e-3
    return {
        "shape": list(shape),
        "layout": layout,
        "input_sets": count,
        "stream_ms": {name: timing.as_dict() for name, timing in stream.items()},
        "graph_ms": {name: timing.as_dict() for name, timing in graph.items()},
        "times_faster_than": {
            name: best[name].median / best["fused"].median for name in best if name != "fused"
        },
        "times_faster_than_stream": {
            name: stream[name].median / stream["fused"].median for name in stream if name != "fused"
        },
        "gb_s": PASSES * one / seconds / 1e9,
        "of_copy_bandwidth": PASSES * one / seconds / bandwidth,
        "error": _errors(modules, inputs[0], gradients[0]),
        "same_bits_again": _repeats(modules["fused"], inputs[0], gradients[0]),
    }


def _results(module: nn.Module, x: Tensor, dy: Tensor) -> list[Tensor]:
    y = module(x)
    return [y.detach(), *torch.autograd.grad(y, [x, *module.parameters()], dy)]


def _errors(modules: dict[str, nn.Module], x: Tensor, dy: Tensor) -> dict[str, float]:
    """Largest relative error (in norm) of y, dx, dgamma and dbeta against float64."""
    exact = Eager(x.shape[1], GROUPS).to(x.device, torch.float64)
    wanted = _results(exact, x.detach().double().requires_grad_(), dy.double())
    return {
        name: max(
            float((got.double() - want).norm() / want.norm())
            for got, want in zip(_results(module, x, dy), wanted, strict=True)
        )
        for name, module in modules.items()
    }


def _repeats(module: nn.Module, x: Tensor, dy: Tensor) -> bool:
    first, second = (_results(module, x, dy) for _ in range(2))
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def table(part: dict[str, Any]) -> list[list[str]]:
    """Header and rows for a person; times in microseconds, [quartiles]."""
    names = list(dict.fromkeys(name for row in part["rows"] for name in row["stream_ms"]))
    out = [
        ["shape", "layout", *(f"{n} µs" for n in names), "x eager", "x compiled", "of copy"],
    ]
    for row in part["rows"]:
        times = row["graph_ms"] or row["stream_ms"]
        ratios = row["times_faster_than"]
        out.append(
            [
                "x".join(map(str, row["shape"])),
                row["layout"],
                *(_microseconds(times[name]) for name in names),
                f"{ratios['eager']:.2f}",
                f"{ratios['compiled']:.2f}" if "compiled" in ratios else "-",
                f"{row['of_copy_bandwidth']:.0%}",
            ]
        )
    return out


def _microseconds(timing: dict[str, float]) -> str:
    return f"{timing['median'] * 1e3:.0f} [{timing['low'] * 1e3:.0f}-{timing['high'] * 1e3:.0f}]"
