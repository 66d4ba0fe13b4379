"""Timing for benchmarks: interleaved rounds, medians with quartiles, CUDA events on a GPU."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

Work = Callable[[], object]

WARM_UP = 0.2
"""Seconds of work before anything is timed: a GPU raises its clock rate under load."""
PREPARED = 3
"""Steps that may do something once, such as compile."""
CYCLES = 2_000_000
"""Clock cycles of a millisecond, at least: no GPU has more than 2 GHz."""


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
    works: Mapping[str, Work],
    device: torch.device,
    rounds: int,
    repeats: int = 1,
    *,
    launches: bool = True,
) -> dict[str, Timing]:
    """Time each entry once per round, so that slow phases of the machine affect all equally.

    Two rounds or more, until they have taken ``WARM_UP``, precede the timed ones.

    Parameters
    ----------
    works: name -> function to time, which does ``repeats`` repetitions of the measured work.
    device: where they run; on a CUDA device times are taken between two CUDA events.
    rounds: at least 2.
    launches: whether a GPU's time includes its waiting for Python to launch kernels. If not, it is
        kept busy until all of them are in its queue.
    """
    busy: dict[str, float] = {}
    started, warm_up = time.perf_counter(), 0
    while warm_up < 2 or time.perf_counter() - started < WARM_UP:
        for name, work in works.items():
            before = time.perf_counter()
            work()
            busy[name] = 0.1 + 2e3 * (time.perf_counter() - before)  # ms; once is just enough
            _wait(device)
        warm_up += 1
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            times[name].append(_once(work, device, 0.0 if launches else busy[name]) / repeats)
    return {name: Timing.of(values) for name, values in times.items()}


class Clock:
    """Times steps that follow each other without a pause, as in training.

    Call `tick` after each step until `done`; `timing` is then the time of a step. The first steps
    are not timed: the number of a round, and until ``WARM_UP`` has passed since the third.

    Parameters
    ----------
    device: where the steps run.
    rounds: number of times to take, at least 2.
    steps: in each round. A round has no pause either: a GPU is waited for at the end alone.
    on_start: called when the steps are warm, before the first timed one.
    """

    def __init__(
        self,
        device: torch.device,
        rounds: int,
        steps: int,
        on_start: Callable[[], object] = lambda: None,
    ) -> None:
        self.device, self.rounds, self.steps, self.on_start = device, rounds, steps, on_start
        self.begun = 0.0
        self.warm_up = self.timed = 0
        self.marks: list[Any] = []

    @property
    def done(self) -> bool:
        """Whether all rounds are timed."""
        return len(self.marks) > self.rounds

    def tick(self) -> None:
        """A step has been done, or is in the GPU's queue."""
        if self.done:
            return
        if self.marks:
            self.timed += 1
            if self.timed % self.steps == 0:
                self.mark()
            return
        self.warm_up += 1
        _wait(self.device)  # otherwise seconds of steps could be queued meanwhile
        if self.warm_up <= PREPARED:
            self.begun = time.perf_counter()
        elif self.warm_up >= self.steps and time.perf_counter() - self.begun >= WARM_UP:
            self.on_start()
            self.mark()

    def mark(self) -> None:
        """Take the time: on a GPU when it gets there."""
        if self.device.type == "cuda":
            event: Any = torch.cuda.Event
            self.marks.append(event(enable_timing=True))
            self.marks[-1].record()
        else:
            self.marks.append(time.perf_counter())

    def timing(self) -> Timing:
        """The time of a step (ms)."""
        assert self.done
        _wait(self.device)
        if self.device.type == "cuda":
            whole = [a.elapsed_time(b) for a, b in zip(self.marks, self.marks[1:], strict=False)]
        else:
            whole = [1e3 * (b - a) for a, b in zip(self.marks, self.marks[1:], strict=False)]
        return Timing.of([milliseconds / self.steps for milliseconds in whole])


def fewer_on_cpu(rounds: int, device: torch.device) -> int:
    """``rounds`` on a GPU, at most 5 on a CPU, where one takes seconds."""
    return rounds if device.type == "cuda" else min(rounds, 5)


def reason(error: Exception) -> str:
    """The reason for a failed measurement, in one line."""
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _once(work: Work, device: torch.device, busy: float) -> float:
    """The time of ``work`` (ms); a GPU is first kept busy for ``busy`` milliseconds."""
    if device.type != "cuda":
        start = time.perf_counter()
        work()
        return (time.perf_counter() - start) * 1e3
    event: Any = torch.cuda.Event
    before, after = event(enable_timing=True), event(enable_timing=True)
    torch.cuda.synchronize(device)
    if busy:
        torch.cuda._sleep(int(busy * CYCLES))  # type: ignore[no-untyped-call]
    before.record()
    work()
    after.record()
    torch.cuda.synchronize(device)
    return float(before.elapsed_time(after))


def graphed(work: Work, device: torch.device) -> Work:
    """``work`` as a CUDA graph, whose time is the device's alone, without Python's overhead.

    On a CPU ``work`` itself. It must not synchronize, and must read and write the same memory in
    each call.
    """
    if device.type != "cuda":
        return work
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

    timing = measure({"copy": copy}, device, rounds, launches=False)["copy"]
    return 2 * source.nbytes / (timing.median * 1e-3)


def matrix_rate(
    device: torch.device, dtype: torch.dtype = torch.float32, size: int = 2048, rounds: int = 10
) -> float:
    """Rate (FLOP/s) of a product of two large matrices, about the limit for convolutions."""
    left, right = torch.randn(2, size, size, device=device, dtype=dtype)
    out = torch.empty_like(left)

    def multiply() -> None:
        torch.mm(left, right, out=out)

    timing = measure({"multiply": multiply}, device, rounds, launches=False)["multiply"]
    return 2 * size**3 / (timing.median * 1e-3)


def cache_size(device: torch.device) -> int:
    """Size (bytes) of a GPU's last cache; 0 for a CPU, where it is not known."""
    if device.type != "cuda":
        return 0
    return int(getattr(torch.cuda.get_device_properties(device), "L2_cache_size", 0))


def clear(device: torch.device) -> None:
    """Empty the cache of torch's CUDA allocator and reset its peak statistics."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
