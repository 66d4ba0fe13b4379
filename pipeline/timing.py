"""Timing for benchmarks: interleaved rounds, medians with quartiles, CUDA events on a GPU."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

Work = Callable[[], object]


@dataclass(frozen=True)
class Timing:
    """Median and quartiles over all rounds (ms)."""

    median: float
    low: float
    high: float
    rounds: int

    @classmethod
    def of(cls, milliseconds: Sequence[float]) -> "Timing":
        """From one time per round (ms), at least two."""
        low, _, high = statistics.quantiles(milliseconds, n=4, method="inclusive")
        return cls(statistics.median(milliseconds), low, high, len(milliseconds))

    def as_dict(self) -> dict[str, Any]:
        """As a JSON object."""
        return asdict(self)


def measure(
    works: Mapping[str, Work], device: torch.device, rounds: int, repeats: int = 1
) -> dict[str, Timing]:
    """Time each entry once per round, so that slow phases of the machine affect all equally.

    Parameters
    ----------
    works: name -> function to time, which does ``repeats`` repetitions of the measured work.
    device: where they run; on a CUDA device times are taken between two CUDA events.
    rounds: at least 2; two warm-up rounds precede them.
    """
    times: dict[str, list[float]] = {name: [] for name in works}
    for number in range(rounds + 2):
        for name, work in works.items():
            milliseconds = _once(work, device) / repeats
            if number >= 2:
                times[name].append(milliseconds)
    return {name: Timing.of(values) for name, values in times.items()}


def fewer_on_cpu(rounds: int, device: torch.device) -> int:
    """``rounds`` on a GPU, at most 5 on a CPU, where one takes seconds."""
    return rounds if device.type == "cuda" else min(rounds, 5)


def reason(error: Exception) -> str:
    """The reason for a failed measurement, in one line."""
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"


def _once(work: Work, device: torch.device) -> float:
    if device.type != "cuda":
        start = time.perf_counter()
        work()
        return (time.perf_counter() - start) * 1e3
    event: Any = torch.cuda.Event
    before, after = event(enable_timing=True), event(enable_timing=True)
    torch.cuda.synchronize(device)
    before.record()
    work()
    after.record()
    torch.cuda.synchronize(device)
    return float(before.elapsed_time(after))


def graphed(work: Work) -> Work:
    """``work`` as a CUDA graph, whose time is the device's alone, without Python's overhead.

    ``work`` must not synchronize, and must read and write the same memory in each call.
    """
    stream: Any = torch.cuda.Stream
    side = stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(2):
            work()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    return graph.replay


def copy_bandwidth(device: torch.device, gigabytes: float = 2.0, rounds: int = 20) -> float:
    """Bandwidth (bytes/s, read plus written) of copying a large tensor on ``device``."""
    size = int(gigabytes * 2**30) // 4
    source = torch.randn(size, device=device)
    target = torch.empty_like(source)

    def copy() -> None:
        target.copy_(source)

    timing = measure({"copy": copy}, device, rounds)["copy"]
    return 2 * source.nbytes / (timing.median * 1e-3)


def matrix_rate(
    device: torch.device, dtype: torch.dtype = torch.float32, size: int = 2048, rounds: int = 10
) -> float:
    """Rate (FLOP/s) of a product of two large matrices, about the limit for convolutions."""
    left, right = torch.randn(2, size, size, device=device, dtype=dtype)
    out = torch.empty_like(left)

    def multiply() -> None:
        torch.mm(left, right, out=out)

    timing = measure({"multiply": multiply}, device, rounds)["multiply"]
    return 2 * size**3 / (timing.median * 1e-3)


def clear(device: torch.device) -> None:
    """Empty the cache of torch's CUDA allocator and reset its peak statistics."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
