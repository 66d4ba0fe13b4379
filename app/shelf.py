"""The runs that the page may show, and the one that answers."""

import os
from functools import lru_cache
from pathlib import Path

import streamlit as st

from app.server import FOLDER_VARIABLE, RUN_VARIABLE
from app.words import plain
from data.errors import BadInput
from pipeline.runs import Run, find_runs


def all_runs() -> dict[str, Path]:
    """Finished runs by the name that is shown, the one that the server started with first."""
    first = Path(os.environ.get(RUN_VARIABLE, ""))
    folder = os.environ.get(FOLDER_VARIABLE, "")
    more = find_runs(Path(folder)) if folder else []
    found = [first, *(path for path in more if path != first)]
    return {name(path, Path(folder) if folder else None): path for path in found}


def name(path: Path, folder: Path | None) -> str:
    """A run's path below the folder, or its own name."""
    if folder and path.is_relative_to(folder) and path != folder:
        return path.relative_to(folder).as_posix()
    return f"{path.parent.name}/{path.name}"


def chosen_run() -> Run:
    """The run that the visitor has chosen; the only one where there is no choice."""
    try:
        if not os.environ.get(RUN_VARIABLE):
            raise ValueError("no run to answer with; start this page with uncus app RUN")
        runs = all_runs()
        label = next(iter(runs))
        if len(runs) > 1:
            label = st.selectbox("Run", list(runs), key="run")
        path = runs[label]
        return verified(path, (path / "model" / "SHA256SUMS").stat().st_mtime_ns)
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
