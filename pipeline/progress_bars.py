"""Progress bars on stderr, with the elapsed and the remaining time."""

import time
from collections.abc import Iterable, Iterator, Sized
from datetime import timedelta
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

Item = TypeVar("Item")


def progress_bar(unit: str = "", transient: bool = False, disable: bool = False) -> Progress:
    """A bar: the task's description, done/total ``unit``, elapsed and remaining time.

    ``unit`` may name fields of the task: ``"epochs {task.fields[values]}"``. A ``transient`` bar
    disappears when it is done.
    """
    return Progress(
        TextColumn("{task.description:<8}"),
        BarColumn(),
        MofNCompleteColumn(),
        *([TextColumn(unit)] if unit else []),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True, highlight=False),
        transient=transient,
        disable=disable,
    )


def time_left(started: float, done: int, total: int) -> str:
    """``0:12:30 left`` at the pace since ``started`` (time.monotonic); "" where it is not known."""
    if not 0 < done < total:
        return ""
    seconds = (time.monotonic() - started) / done * (total - done)
    return f"{timedelta(seconds=round(seconds))} left"


def track(items: Iterable[Item], title: str, total: int | None = None) -> Iterator[Item]:
    """Iterate over ``items``, with a bar where there are several of them and a terminal.

    ``total`` is needed for items without a length.
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    bar = progress_bar(transient=True)
    if not bar.console.is_terminal or total == 1:
        yield from items
        return
    with bar:
        yield from bar.track(items, total, description=title)
