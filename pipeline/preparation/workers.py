"""The same work on many things at once, in processes here or elsewhere, with a progress bar."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import joblib

from uncus.pipeline.environment import cpu_count
from uncus.pipeline.progress_bars import progress_bar

if TYPE_CHECKING:
    from uncus.pipeline.preparation.dask_cluster import Cluster


@dataclass(frozen=True)
class Failure:
    """Why work on one thing failed."""

    reason: str


def in_processes(
    jobs: int, work: Callable[..., Any], arguments: Sequence[tuple[Any, ...]], ordered: bool = True
) -> Iterator[Any]:
    """Results of ``work`` from a pool of processes, in order or as they come."""
    # A process that has grown, by the template for one, is replaced; nothing is lost.
    warnings.filterwarnings("ignore", message="A worker stopped while some jobs")
    pool = joblib.Parallel(n_jobs=jobs, return_as="generator" if ordered else "generator_unordered")
    try:
        yield from pool(joblib.delayed(work)(*values) for values in arguments)
    except BrokenExecutor as error:
        raise ValueError(
            "a worker process was killed, perhaps for want of memory; start again with fewer "
            "--workers (what is done stays done)"
        ) from error


def guarded(work: Callable[..., Any], index: int, arguments: tuple[Any, ...]) -> tuple[int, Any]:
    """Run in a worker: one bad scan, whatever it does, must not stop the others."""
    try:
        return index, work(*arguments)
    except (ValueError, OSError, MemoryError) as error:
        return index, Failure(" ".join(str(error).split()) or type(error).__name__)


def process_count(wanted: int, tasks: int) -> int:
    """How many processes to use: ``wanted``, or with 0 one a core; each gets at least two tasks."""
    return max(1, min(wanted or cpu_count(), tasks // 2))


def for_each(
    name: str,
    work: Callable[..., Any],
    arguments: Sequence[tuple[Any, ...]],
    wanted: int,
    cluster: "Cluster | None" = None,
) -> dict[int, Any]:
    """``work`` on every tuple of arguments; results (or Failure) by their number.

    It is done in ``wanted`` processes here (see :func:`process_count`), or on a cluster's workers.
    """
    numbered = [(work, index, values) for index, values in enumerate(arguments)]
    results: dict[int, Any] = {}
    with progress_bar() as bar:
        task = bar.add_task(name, total=len(numbered))
        if cluster is None:
            jobs = process_count(wanted, len(numbered))
            found = in_processes(jobs, guarded, numbered, ordered=False)
        else:
            found = cluster.each(numbered)
        for index, result in found:
            results[index] = result
            bar.advance(task)
    return dict(sorted(results.items()))
