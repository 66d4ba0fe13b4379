"""GroupNorm + ReLU, forward and backward: ours against torch eager, compiled and autocast."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from uncus.models.fused.layer import FusedGroupNorm
from uncus.pipeline.timing import Timing, clear, copy_bandwidth, fewer_on_cpu, graphed, reason
from uncus.pipeline.timing import measure as time_all

GROUPS = 8
SHAPES = ((1, 32, 96, 96, 96), (1, 64, 48, 48, 48), (2, 128, 24, 24, 24))
QUICK = ((1, 16, 12, 12, 12), (2, 32, 6, 6, 6))
LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last_3d}
ROTATED = 2**28  # bytes of rotating inputs, several times a GPU's L2 cache
# Passes over the tensor that no implementation avoids if it does not fit in the cache:
# forward reads x twice and writes y, backward reads x and dy twice and writes dx.
PASSES = 8


class Eager(nn.Module):
    """Torch's own: GroupNorm, then ReLU."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, channels)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(x))


class Autocast(Eager):
    """As in a MONAI network under autocast: float32, then cast for the next convolution."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, dtype=torch.bfloat16):
            return F.relu(self.norm(x)).to(x.dtype)


def cases(device: torch.device, quick: bool) -> list[dict[str, Any]]:
    """The device's copy bandwidth, then every shape in both layouts."""
    shapes = QUICK if quick else SHAPES
    return [
        {"copy_gb": 2.0 if device.type == "cuda" else 0.25},
        *({"shape": list(shape), "layout": layout} for shape in shapes for layout in LAYOUTS),
    ]


def measure(case: dict[str, Any], device: torch.device, rounds: int) -> dict[str, Any]:
    """One case: the copy bandwidth (bytes/s), or the times of all implementations on one shape."""
    if "copy_gb" in case:
        return {"bytes_a_second": copy_bandwidth(device, case["copy_gb"], max(5, rounds))}
    return _row(tuple(case["shape"]), case["layout"], device, fewer_on_cpu(rounds, device))


def gather(rows: list[tuple[dict[str, Any], dict[str, Any]]]) -> dict[str, Any]:
    """The part ``norm``: the times, and the bandwidth reached relative to copying."""
    bandwidth = next(row["bytes_a_second"] for case, row in rows if "copy_gb" in case)
    measured = [{**case, **row} for case, row in rows if "shape" in case]
    for row in measured:
        seconds = (row["graph_ms"] or row["stream_ms"])["fused"]["median"] * 1e-3
        moved = PASSES * 2 * torch.Size(row["shape"]).numel()
        row["gb_s"] = moved / seconds / 1e9
        row["floor_us"] = 1e6 * moved / bandwidth
        row["of_copy_bandwidth"] = moved / seconds / bandwidth
    return {
        "copy_bandwidth_gb_s": bandwidth / 1e9,
        "groups": GROUPS,
        "dtype": "bfloat16",
        "passes": PASSES,
        "rows": measured,
    }


def _implementations(shape: tuple[int, ...], device: torch.device) -> Iterator[tuple[str, Any]]:
    """Name and module. All take and return bf16; each has its own parameter type."""
    channels = shape[1]
    yield "fused", FusedGroupNorm(channels, GROUPS, "relu").to(device)
    eager = Eager(channels, GROUPS).to(device, torch.bfloat16)
    yield "eager", eager
    if device.type == "cuda":
        yield "compiled", torch.compile(eager, dynamic=False)
    yield "autocast", Autocast(channels, GROUPS).to(device)


def _row(shape: tuple[int, ...], layout: str, device: torch.device, rounds: int) -> dict[str, Any]:
    clear(device)
    torch._dynamo.reset()  # compile for each shape
    inputs, gradients = rotated(shape, layout, device)
    count = len(inputs)
    modules, works, left_out = {}, {}, {}
    for name, module in _implementations(shape, device):
        work = passes(module, inputs, gradients)
        try:
            work()
        except Exception as error:  # a failing compiler must not cost the others
            if name == "fused":
                raise
            left_out[name] = reason(error)
        else:
            modules[name], works[name] = module, work
    stream = time_all(works, device, rounds, count)
    graph: dict[str, Timing] = {}
    if device.type == "cuda":
        replays = {name: graphed(step) for name, step in works.items()}
        graph = time_all(replays, device, rounds, count)
    best = graph or stream
    return {
        "input_sets": count,
        "stream_ms": {name: timing.as_dict() for name, timing in stream.items()},
        "graph_ms": {name: timing.as_dict() for name, timing in graph.items()},
        "times_faster_than": {
            name: best[name].median / best["fused"].median for name in best if name != "fused"
        },
        "times_faster_than_stream": {
            name: stream[name].median / stream["fused"].median for name in stream if name != "fused"
        },
        "left_out": left_out,
        "error": _errors(modules, inputs[0], gradients[0]),
        "same_bits_again": _repeats(modules["fused"], inputs[0], gradients[0]),
    }


def rotated(
    shape: Sequence[int], layout: str, device: torch.device
) -> tuple[list[Tensor], list[Tensor]]:
    """Inputs and gradients, enough of them that none is still in a GPU's cache when reused."""
    torch.manual_seed(0)
    one = torch.Size(shape).numel() * 2
    count = min(max(ROTATED // (2 * one), 2), 24) if device.type == "cuda" else 2

    def tensors() -> list[Tensor]:
        drawn = [torch.randn(*shape, device=device, dtype=torch.bfloat16) for _ in range(count)]
        return [x.to(memory_format=LAYOUTS[layout]) for x in drawn]

    return [x.requires_grad_() for x in tensors()], tensors()


def passes(
    module: nn.Module, inputs: Sequence[Tensor], gradients: Sequence[Tensor]
) -> Callable[[], None]:
    """Forward and backward of ``module`` for every input."""
    parameters = list(module.parameters())

    def step() -> None:
        for x, dy in zip(inputs, gradients, strict=True):
            torch.autograd.grad(module(x), [x, *parameters], dy)

    return step


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
    """Header and rows; times in microseconds, [quartiles]."""
    names = list(dict.fromkeys(name for row in part["rows"] for name in row["stream_ms"]))
    out = [
        ["shape", "layout", *(f"{n} µs" for n in names), "x eager", "x compiled", "floor µs"],
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
                f"{row['floor_us']:.0f} ({row['of_copy_bandwidth']:.0%})",
            ]
        )
    return out


def _microseconds(timing: dict[str, float]) -> str:
    return f"{timing['median'] * 1e3:.0f} [{timing['low'] * 1e3:.0f}-{timing['high'] * 1e3:.0f}]"


def remarks(part: dict[str, Any]) -> list[str]:
    """Notes on the table."""
    errors = {
        peer: max(row["error"].get(peer, 0.0) for row in part["rows"])
        for peer in part["rows"][0]["error"]
    }
    repeat = all(row["same_bits_again"] for row in part["rows"])
    if part["kernels"]:
        how = "Times are those of a CUDA graph: the device alone, without launch overhead."
    else:
        how = (
            "**These are not the kernels**: without a GPU the layer is torch's own, so these times "
            "do not describe the kernels. In channels last, torch's own layer is faster but less "
            "accurate for values far from zero (`uncus.models.fused.plain`)."
        )
    return [
        how,
        "",
        f"Roofline: copying moves {part['copy_bandwidth_gb_s']:.0f} GB/s, read plus written; no",
        f"implementation needs fewer than {part['passes']} passes over the tensor: forward reads x",
        "twice and writes y, backward reads x and dy twice and writes dx. The floor is the time of",
        "these passes at the copy bandwidth; in brackets, the share of that bandwidth that the",
        "fused operation reaches. It exceeds 100% if a tensor stays in the cache between two",
        "reads; what is missing is arithmetic and, for small tensors, kernel launches.",
        "",
        "Largest relative error against float64: "
        + ", ".join(f"{peer} {error:.1e}" for peer, error in errors.items())
        + f". Bitwise reproducible: {'yes' if repeat else 'no'}.",
        *(
            f"Left out at {row['shape']}, {row['layout']}: {name}: {why}."
            for row in part["rows"]
            for name, why in row["left_out"].items()
        ),
    ]
