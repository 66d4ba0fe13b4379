"""GroupNorm + ReLU, forward and backward: ours against torch eager, compiled and autocast."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from uncus.models.fused.layer import FusedGroupNorm
from uncus.models.fused.operation import uses_kernels
from uncus.pipeline.benchmark.fingerprint import fingerprint
from uncus.pipeline.timing import (
    Timing,
    Work,
    cache_size,
    clear,
    copy_bandwidth,
    fewer_on_cpu,
    graphed,
    reason,
)
from uncus.pipeline.timing import measure as time_all

GROUPS = 8
# The last one is small: so are most of a ResNet-18's norms.
SHAPES = (
    (1, 32, 96, 96, 96),
    (1, 64, 48, 48, 48),
    (2, 128, 24, 24, 24),
    (1, 128, 16, 16, 16),
)
QUICK = ((1, 16, 12, 12, 12), (2, 32, 6, 6, 6))
LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last_3d}
ROTATED = 2**28  # bytes of rotating inputs, several times a GPU's L2 cache


def passes_needed(size: int, cache: int) -> int:
    """Passes over a tensor in memory that no implementation avoids, forward and backward.

    Forward, x is read for its moments and y is written: 2 passes if x stays on chip until it is
    normalized, otherwise x is read again: 3. Backward, x and dy are read for the two sums of each
    group, and dx is written: 3 if both stay on chip until then, otherwise both are read again: 5.
    So there are 5 for small tensors, 8 for large ones, and 7 where x fits but not x and dy.

    Parameters
    ----------
    size: of the tensor (bytes).
    cache: of the device's last cache (bytes).
    """
    return (2 if size <= cache else 3) + (3 if 2 * size <= cache else 5)


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


def depends(case: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """What a result depends on: the operation's code and the kernels' settings."""
    if "shape" not in case:
        return {}
    code = fingerprint("models/fused")
    if not uses_kernels(torch.empty(0, device=device)):
        return {"code": code}
    from uncus.models.fused import kernels

    settings = kernels.settings(device, case["layout"] == "channels_last")
    return {"code": code, "settings": settings._asdict()}


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
        moved = row["passes"] * 2 * torch.Size(row["shape"]).numel()
        row["gb_s"] = moved / seconds / 1e9
        row["floor_us"] = 1e6 * moved / bandwidth
        row["of_copy_bandwidth"] = moved / seconds / bandwidth
    return {
        "copy_bandwidth_gb_s": bandwidth / 1e9,
        "groups": GROUPS,
        "dtype": "bfloat16",
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
    count, size, cache = len(inputs), inputs[0].nbytes, cache_size(device)
    modules: dict[str, nn.Module] = {}
    works: dict[str, Work] = {}
    left_out: dict[str, str] = {}
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
    on_gpu = device.type == "cuda"
    graph = _alone(works, device, rounds, count, left_out) if on_gpu else {}
    warm: dict[str, Timing] = {}
    if 4 * size <= cache:  # x, y, dy and dx stay in the cache if the same ones are used again
        same = {
            name: passes(module, inputs[:1] * count, gradients[:1] * count)
            for name, module in modules.items()
        }
        warm = _alone(same, device, rounds, count, left_out)
    best = graph or stream
    return {
        "input_sets": count,
        "passes": passes_needed(size, cache),
        "stream_ms": {name: timing.as_dict() for name, timing in stream.items()},
        "graph_ms": {name: timing.as_dict() for name, timing in graph.items()},
        "warm_ms": {name: timing.as_dict() for name, timing in warm.items()},
        "times_faster_than": _ratios(best),
        "times_faster_than_stream": _ratios(stream),
        "times_faster_than_warm": _ratios(warm),
        "left_out": left_out,
        "error": _errors(modules, inputs[0], gradients[0]),
        "same_bits_again": _repeats(modules["fused"], inputs[0], gradients[0]),
    }


def _alone(
    works: Mapping[str, Work],
    device: torch.device,
    rounds: int,
    count: int,
    left_out: dict[str, str],
) -> dict[str, Timing]:
    """Times of the device alone: on a GPU as graphs, without those that cannot be captured."""
    ready = dict(works)
    for name, work in works.items():
        try:
            ready[name] = graphed(work, device)
        except Exception as error:  # it waits for the GPU, say
            if name == "fused":
                raise
            left_out[f"{name} as a graph"] = reason(error)
            del ready[name]
    return time_all(ready, device, rounds, count, launches=False)


def _ratios(times: dict[str, Timing]) -> dict[str, float]:
    """Each one's time divided by ours."""
    ours = times.get("fused")
    return {n: t.median / ours.median for n, t in times.items() if ours and n != "fused"}


def rotated(
    shape: Sequence[int], layout: str, device: torch.device
) -> tuple[list[Tensor], list[Tensor]]:
    """Inputs and gradients, enough of them that none is still in a GPU's cache when reused."""
    torch.manual_seed(0)
    one = torch.Size(shape).numel() * 2
    count = min(max(ROTATED // (2 * one), 2), 128) if device.type == "cuda" else 2

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
        [
            *("shape", "layout", *(f"{n} µs" for n in names), "x eager", "x compiled"),
            *("floor µs", "warm: fused µs", "x eager"),
        ]
    ]
    for row in part["rows"]:
        times = row["graph_ms"] or row["stream_ms"]
        ratios, warm = row["times_faster_than"], row["warm_ms"]
        out.append(
            [
                "x".join(map(str, row["shape"])),
                row["layout"],
                *(_microseconds(times[name]) if name in times else "-" for name in names),
                f"{ratios['eager']:.2f}" if "eager" in ratios else "-",
                f"{ratios['compiled']:.2f}" if "compiled" in ratios else "-",
                f"{row['floor_us']:.0f} ({row['of_copy_bandwidth']:.0%}, {row['passes']} passes)",
                _microseconds(warm["fused"]) if warm else "-",
                f"{row['times_faster_than_warm']['eager']:.2f}" if "eager" in warm else "-",
            ]
        )
    return out


def _microseconds(timing: dict[str, float]) -> str:
    return f"{timing['median'] * 1e3:.0f} [{timing['low'] * 1e3:.0f}-{timing['high'] * 1e3:.0f}]"


def remarks(part: dict[str, Any]) -> list[str]:
    """Notes on the table."""
    peers = dict.fromkeys(peer for row in part["rows"] for peer in row["error"])
    errors = {peer: max(row["error"].get(peer, 0.0) for row in part["rows"]) for peer in peers}
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
        f"Roofline: copying moves {part['copy_bandwidth_gb_s']:.0f} GB/s, read plus written.",
        "Forward reads x for its moments and writes y; backward reads x and dy for their sums and",
        "writes dx. These are the 5 passes over a small tensor; one that does not fit into the",
        "cache is read again before each write, which makes 8. The floor is the time of these",
        "passes at the copy bandwidth; in brackets, the share of that bandwidth that the fused",
        "operation reaches. What is missing is arithmetic and, for small tensors, kernel launches.",
        "No tensor is in the cache at the start; `warm`: for small tensors, all are.",
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
