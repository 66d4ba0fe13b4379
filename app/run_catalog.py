"""The runs that the page may show, and the one that answers."""

import os
from functools import lru_cache
from pathlib import Path

import streamlit as st

from uncus.app.sanitize import plain
from uncus.app.settings import FOLDER_VARIABLE, RUN_VARIABLE
from uncus.data.errors import BadInput
from uncus.pipeline.runs import Comparison, Run, find_comparisons, find_runs


def all_runs() -> dict[str, Path]:
    """Finished runs by the name that is shown, the one that the server started with first."""
    first = Path(os.environ.get(RUN_VARIABLE, ""))
    root = folder()
    more = find_runs(root) if root else []
    return {name(path): path for path in [first, *(path for path in more if path != first)]}


def all_comparisons() -> dict[str, Path]:
    """Comparisons of norms by the name that is shown."""
    root = folder()
    found = find_comparisons(root) if root else []
    return {name(path): path for path in found}


def folder() -> Path | None:
    """The folder of runs, where the server was started with one."""
    given = os.environ.get(FOLDER_VARIABLE, "")
    return Path(given) if given else None


def name(path: Path) -> str:
    """A run's path below the folder; its own name and that of its folder where it is alone."""
    root = folder()
    if root and path.is_relative_to(root) and path != root:
        return path.relative_to(root).as_posix()
    return f"{path.parent.name}/{path.name}"


def page_of(shown: str) -> Path | None:
    """The page that was written for a run or a comparison; None where there is none."""
    runs, comparisons = all_runs(), all_comparisons()
    if shown in runs:
        path = Run(runs[shown]).report_page
    elif shown in comparisons:
        path = Comparison(comparisons[shown]).page
    else:
        return None
    return path if path.is_file() else None


def chosen_run(runs: dict[str, Path] | None = None) -> Run:
    """The run that the visitor has chosen; the only one where there is no choice."""
    try:
        if not os.environ.get(RUN_VARIABLE):
            raise ValueError("no run to answer with; start this page with uncus app RUN")
        runs = runs or all_runs()
        label = next(iter(runs))
        if len(runs) > 1:
            before = st.session_state.get("chosen run", label)
            place = list(runs).index(before) if before in runs else 0
            label = st.selectbox("Run", list(runs), index=place)
            st.session_state["chosen run"] = label
        path = runs[label]
        return verified(path, Run(path).changed())
    except (BadInput, ValueError, OSError) as error:
        st.error(plain(" ".join(str(error).split())))
        st.stop()


@lru_cache(maxsize=32)
def verified(path: Path, changed: int) -> Run:
    """A run whose files bear the hashes of their seal; looked at again when the seal changes."""
    del changed  # part of the cache's key
    run = Run(path)
    run.verify()
    return run
