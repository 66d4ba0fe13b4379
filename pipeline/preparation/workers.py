"""Run the same function on many inputs in parallel, with a progress bar."""

import signal
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import joblib

from uncus.data.errors import BadInput, error_line
from uncus.pipeline.environment import cpu_count, shielded
from uncus.pipeline.progress_bars import progress_bar

Task = tuple[Callable[..., Any], int, tuple[Any, ...]]
"""A function, the index of its job, and its arguments."""
RunTasks = Callable[[Sequence[Task]], Iterator[tuple[int, Any]]]
"""Runs :func:`guarded` on every task, anywhere, and yields what it returns in any order."""


@dataclass(frozen=True)
class Failure:
    """Why the work on one input failed.

    Parameters
    ----------
    reason: with the input's file.
    cause: without it, so that inputs with the same cause can be grouped.
    """

    reason: str
    cause: str


def in_processes(
    jobs: int, work: Callable[..., Any], arguments: Sequence[tuple[Any, ...]], ordered: bool = True
) -> Iterator[Any]:
    """Yield the results of ``work`` from a pool of processes, in order or as they finish."""
    # joblib replaces processes whose memory has grown, by the template for example.
    warnings.filterwarnings("ignore", message="A worker stopped while some jobs")
    several: Any = {"initializer": ignore_interrupts} if jobs > 1 else {}
    kind = "generator" if ordered else "generator_unordered"
    pool = joblib.Parallel(n_jobs=jobs, return_as=kind, **several)
    try:
        with shielded() if jobs > 1 else nullcontext():
            results = pool(joblib.delayed(work)(*values) for values in arguments)
        yield from results
    except BrokenExecutor as error:
        raise ValueError(
            "a worker process was killed, perhaps for lack of memory; run the same command again "
            "with fewer --workers (finished scans are kept)"
        ) from error


def ignore_interrupts() -> None:
    """Leave Ctrl-C to the parent: also in processes that it starts later."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def guarded(work: Callable[..., Any], index: int, arguments: tuple[Any, ...]) -> tuple[int, Any]:
    """Run ``work`` in a worker and return its index and result, or a Failure if it raises."""
    try:
        return index, work(*arguments)
    except (ValueError, OSError, MemoryError) as error:
        cause = error.without_value if isinstance(error, BadInput) else error_line(error)
        return index, Failure(error_line(error), cause)


def process_count(wanted: int, tasks: int) -> int:
    """Number of processes: ``wanted``, or one per core if 0, with at least two tasks each."""
    return max(1, min(wanted or cpu_count(), tasks // 2))


def on_this_machine(workers: int) -> RunTasks:
    """Run tasks in ``workers`` processes (see :func:`process_count`) of this machine."""

    def run(tasks: Sequence[Task]) -> Iterator[tuple[int, Any]]:
        return in_processes(process_count(workers, len(tasks)), guarded, tasks, ordered=False)

    return run


def for_each(
    name: str, work: Callable[..., Any], jobs: Mapping[int, tuple[Any, ...]], run_tasks: RunTasks
) -> tuple[dict[int, Any], dict[int, Failure]]:
    """Call ``work`` with every job's arguments; returns the results and the failures by index."""
    results: dict[int, Any] = {}
    with progress_bar() as bar:
        tasks = [(work, index, values) for index, values in jobs.items()]
        for index, result in bar.track(run_tasks(tasks), len(tasks), description=name):
            results[index] = result
    ordered = sorted(results.items())
    return (
        {index: result for index, result in ordered if not isinstance(result, Failure)},
        {index: result for index, result in ordered if isinstance(result, Failure)},
    )
