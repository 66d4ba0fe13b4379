"""The selection of a run."""

import os
from pathlib import Path

import streamlit as st

from uncus.app.run_catalog import all_runs, verified
from uncus.app.sanitize import plain
from uncus.app.settings import RUN_VARIABLE
from uncus.data.errors import BadInput
from uncus.pipeline.builtin.catalog import is_built_in
from uncus.pipeline.model_card.summary import predicts
from uncus.pipeline.rendering.html import ribbon
from uncus.pipeline.runs import Run
from uncus.pipeline.trust.domain import SYNTHETIC, synthetic_warning


def chosen_run(runs: dict[str, Path] | None = None) -> Run:
    """The run that the user has selected, or the only one, with a ribbon if of phantoms."""
    try:
        if not os.environ.get(RUN_VARIABLE):
            raise ValueError("no run; start this page with uncus app RUN")
        runs = runs or all_runs()
        label = next(iter(runs))
        if len(runs) > 1:
            before = st.session_state.get("chosen run", label)
            index = list(runs).index(before) if before in runs else 0
            kind = "Model" if any(map(is_built_in, runs.values())) else "Run"
            label = st.selectbox(
                kind, list(runs), index=index, format_func=lambda name: described(name, runs[name])
            )
            st.session_state["chosen run"] = label
        path = runs[label]
        run = verified(path, Run(path).changed())
        if SYNTHETIC in synthetic_warning(run.card):
            st.html(ribbon())
        return run
    except (BadInput, ValueError, OSError) as error:
        st.error(plain(" ".join(str(error).split())))
        st.stop()


def described(name: str, path: Path) -> str:
    """A run's name; of a built-in model with what it predicts."""
    try:
        return f"{name}: {predicts(Run(path))}" if is_built_in(path) else name
    except BadInput:
        return name
