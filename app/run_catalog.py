"""The runs and comparisons that the page shows."""

import os
from functools import lru_cache
from pathlib import Path

from uncus.app.settings import FOLDER_VARIABLE, RUN_VARIABLE
from uncus.pipeline.runs import Comparison, Run, find_comparisons, find_runs


def all_runs() -> dict[str, Path]:
    """Finished runs by display name; the run that the server was started with comes first."""
    first = Path(os.environ.get(RUN_VARIABLE, ""))
    root = folder()
    more = find_runs(root) if root else []
    return {name(path): path for path in [first, *(path for path in more if path != first)]}


def all_comparisons() -> dict[str, Path]:
    """Comparisons of norms by display name."""
    root = folder()
    paths = find_comparisons(root) if root else []
    return {name(path): path for path in paths}


def folder() -> Path | None:
    """The folder of runs, if the server was started with one."""
    given = os.environ.get(FOLDER_VARIABLE, "")
    return Path(given) if given else None


def name(path: Path) -> str:
    """The display name of a run: its path below the folder, or its name and its parent's."""
    root = folder()
    if root and path.is_relative_to(root) and path != root:
        return path.relative_to(root).as_posix()
    return f"{path.parent.name}/{path.name}"


def report_page(shown: str) -> Path | None:
    """The report of a run or a comparison by its display name; None without one."""
    runs, comparisons = all_runs(), all_comparisons()
    if shown in runs:
        path = Run(runs[shown]).report_page
    elif shown in comparisons:
        path = Comparison(comparisons[shown]).page
    else:
        return None
    return path if path.is_file() else None


@lru_cache(maxsize=32)
def verified(path: Path, changed: int) -> Run:
    """A run whose files have the hashes of their seal; verified again when the seal changes."""
    del changed  # part of the cache's key
    run = Run(path)
    run.verify()
    return run
