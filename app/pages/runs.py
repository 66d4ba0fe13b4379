"""The page Runs: the results of a folder's runs side by side, and comparisons of norms."""

import base64
import html
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from uncus.app.run_catalog import all_comparisons, all_runs, report_page, verified
from uncus.app.sanitize import plain
from uncus.data.errors import BadInput
from uncus.pipeline.builtin.catalog import is_built_in
from uncus.pipeline.evaluation import metrics
from uncus.pipeline.evaluation.report_text import headline
from uncus.pipeline.evaluation.run_figures import figures
from uncus.pipeline.model_card.summary import predicts, trained_on
from uncus.pipeline.prediction.answer_text import full
from uncus.pipeline.rendering.numbers import estimate_text
from uncus.pipeline.runs import Run

MAX_RUNS = 3
"""Runs side by side."""


def page() -> None:
    """The page."""
    st.title("Runs")
    runs = all_runs()
    measured = {name: report for name, path in runs.items() if (report := report_of(path))}
    st.dataframe(overview(runs, measured), hide_index=True, width="stretch")
    if measured:
        first = list(measured)[:MAX_RUNS]
        chosen = first
        if len(measured) > 1:
            chosen = st.multiselect(
                "Side by side", list(measured), first[:2], max_selections=MAX_RUNS
            )
        if chosen:
            side_by_side({name: runs[name] for name in chosen}, measured)
    else:
        st.info("None of these runs has been evaluated; use uncus evaluate RUN.")
    comparisons()


def report_of(path: Path) -> dict[str, Any] | None:
    """The report of a run's evaluation; None without one."""
    try:
        report = Run(path).report()
    except (BadInput, OSError, ValueError):
        return None
    return report if "metrics" in report else None


def overview(runs: dict[str, Path], measured: dict[str, Any]) -> pd.DataFrame:
    """One row per run."""
    rows = []
    for name, path in runs.items():
        row = {"run": name, "predicts": "", "main metric": "", "trained on": "", "network": ""}
        try:
            card = verified(path, Run(path).changed()).card
            row["predicts"] = predicts(Run(path))
            row["trained on"] = trained_on(card)
            row["network"] = f"{card['model']['backbone']}, {card['model']['norm']} norm"
        except (BadInput, OSError) as error:
            row["predicts"] = f"damaged: {error}"
        if name in measured:
            row["main metric"] = headline(measured[name])
        rows.append(row)
    return pd.DataFrame(rows)


def side_by_side(runs: dict[str, Path], measured: dict[str, Any]) -> None:
    """Metrics as one table, then the figures of each run below its name."""
    st.header("Out-of-fold metrics")
    shown = [measured[name]["metrics"] for name in runs]
    every = dict.fromkeys(metric for values in shown for metric in values)
    table = pd.DataFrame(
        {
            "metric": [in_words(metrics.title(metric)) for metric in every],
            **{
                name: [
                    estimate_text(values[metric]) if metric in values else "–" for metric in every
                ]
                for name, values in zip(runs, shown, strict=True)
            },
        }
    )
    st.dataframe(table, hide_index=True, width="stretch", height=height(len(table)))
    st.caption(
        "Value (95% interval over subjects), by networks that were not trained on the subject."
    )
    if len(runs) == 1:
        ((name, path),) = runs.items()
        drawn = drawn_of(path)
        for column, (title, svg) in zip(st.columns(MAX_RUNS), drawn.items(), strict=False):
            with column:
                show_figure(title, svg, name)
    elif each := {name: figs for name, path in runs.items() if (figs := drawn_of(path))}:
        for column, (name, figs) in zip(st.columns(len(each)), each.items(), strict=True):
            with column:
                st.markdown(f"**{plain(name)}**")
                for title, svg in figs.items():
                    show_figure(title, svg, name)
    for name in runs:
        if report_page(name):
            with st.expander(f"Report of {plain(name)}"):
                st.iframe(f"/report/{name}", height=900)


def in_words(title: str) -> str:
    """A metric's name with its class or value in full: ``MAE, left hippocampus``."""
    metric, _, name = title.partition(", ")
    return f"{metric}, {full(name)}" if name else metric


def height(rows: int) -> int:
    """The height of a table that shows all of its rows (pixels)."""
    return 35 * (rows + 1) + 3


def drawn_of(path: Path) -> dict[str, str]:
    """A run's figures; an error message if they cannot be drawn.

    A built-in model has none: the scans that they show are not shipped with it.
    """
    if is_built_in(path):
        return {}
    try:
        return figures_of(path, Run(path).report_path.stat().st_mtime_ns)
    except (BadInput, OSError) as error:
        st.error(plain(str(error)))
        return {}


@lru_cache(maxsize=32)
def figures_of(path: Path, changed: int) -> dict[str, str]:
    """A run's figures, cached."""
    del changed  # part of the cache's key
    return figures(Run(path))


def show_figure(title: str, svg: str, name: str) -> None:
    """A figure on a white background, independent of the page's theme."""
    content = base64.b64encode(svg.encode()).decode()
    label = html.escape(f"{title} of {name}")
    st.caption(plain(title))
    st.html(f'<img class="uncus-paper" alt="{label}" src="data:image/svg+xml;base64,{content}">')


def comparisons() -> None:
    """The reports of ``uncus compare``: norms against batch sizes."""
    paths = {name: path for name, path in all_comparisons().items() if report_page(name)}
    if not paths:
        return
    st.header("Norms and batch sizes")
    name = next(iter(paths))
    if len(paths) > 1:
        name = st.selectbox("Comparison", list(paths))
    st.iframe(f"/report/{name}", height=1200)
