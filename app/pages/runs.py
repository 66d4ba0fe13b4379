"""The page Runs: what the runs of a folder reached, side by side, and comparisons of norms."""

import base64
import html
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from uncus.app.run_catalog import all_comparisons, all_runs, page_of, verified
from uncus.app.sanitize import plain
from uncus.data.errors import BadInput
from uncus.pipeline.evaluation import metrics
from uncus.pipeline.evaluation.report_text import main_of
from uncus.pipeline.evaluation.run_figures import figures
from uncus.pipeline.rendering.numbers import estimate_text
from uncus.pipeline.runs import Run

MOST = 3
"""Runs beside each other."""


def page() -> None:
    """The page."""
    st.title("Runs")
    runs = all_runs()
    measured = {name: report for name, path in runs.items() if (report := report_of(path))}
    st.dataframe(overview(runs, measured), hide_index=True, width="stretch")
    if measured:
        first = list(measured)[:MOST]
        chosen = first
        if len(measured) > 1:
            chosen = st.multiselect("Side by side", list(measured), first[:2], max_selections=MOST)
        if chosen:
            side_by_side({name: runs[name] for name in chosen}, measured)
    else:
        st.info("None of these runs has been evaluated; uncus evaluate RUN measures one.")
    comparisons()


def report_of(path: Path) -> dict[str, Any] | None:
    """What an evaluation has written; None where there is none."""
    try:
        found = Run(path).report()
    except (BadInput, OSError, ValueError):
        return None
    return found if "metrics" in found else None


def overview(runs: dict[str, Path], measured: dict[str, Any]) -> pd.DataFrame:
    """One row a run."""
    rows = []
    for name, path in runs.items():
        row = {"run": name, "predicts": "", "network": "", "scans": None, "main metric": ""}
        try:
            card = verified(path, Run(path).changed()).card
            row["predicts"] = " or ".join(card["target"]["classes"] or card["target"]["columns"])
            row["network"] = f"{card['model']['backbone']}, {card['model']['norm']} norm"
            row["scans"] = card["training"]["scans"]
        except (BadInput, OSError) as error:
            row["predicts"] = f"damaged: {error}"
        if name in measured:
            metric = main_of(measured[name])
            value = estimate_text(measured[name]["metrics"][metric])
            row["main metric"] = f"{metrics.title(metric)} {value}"
        rows.append(row)
    return pd.DataFrame(rows)


def side_by_side(runs: dict[str, Path], measured: dict[str, Any]) -> None:
    """Metrics as one table, then the figures of each run below its name."""
    st.subheader("Measured out of fold")
    shown = [measured[name]["metrics"] for name in runs]
    every = dict.fromkeys(metric for found in shown for metric in found)
    table = pd.DataFrame(
        {
            "metric": [metrics.title(metric) for metric in every],
            **{
                name: [estimate_text(found[metric]) if metric in found else "–" for metric in every]
                for name, found in zip(runs, shown, strict=True)
            },
        }
    )
    st.dataframe(table, hide_index=True, width="stretch", height=height(len(table)))
    st.caption(
        "Value (95% interval over subjects). Each scan was judged by networks that never saw its "
        "person."
    )
    if len(runs) == 1:
        ((name, path),) = runs.items()
        drawn = drawn_of(path)
        for place, (title, svg) in zip(st.columns(MOST), drawn.items(), strict=False):
            with place:
                picture(title, svg, name)
    else:
        for place, (name, path) in zip(st.columns(len(runs)), runs.items(), strict=True):
            with place:
                st.markdown(f"**{plain(name)}**")
                for title, svg in drawn_of(path).items():
                    picture(title, svg, name)
    for name in runs:
        if page_of(name):
            with st.expander(f"The whole report of {plain(name)}"):
                st.iframe(f"/report/{name}", height=900)


def height(rows: int) -> int:
    """Pixels of a table that shows all of its rows."""
    return 35 * (rows + 1) + 3


def drawn_of(path: Path) -> dict[str, str]:
    """A run's figures; a message where they cannot be drawn."""
    try:
        return figures_of(path, Run(path).report_path.stat().st_mtime_ns)
    except (BadInput, OSError) as error:
        st.error(plain(str(error)))
        return {}


@lru_cache(maxsize=32)
def figures_of(path: Path, changed: int) -> dict[str, str]:
    """A run's figures, drawn once."""
    del changed  # part of the cache's key
    return figures(Run(path))


def picture(title: str, svg: str, name: str) -> None:
    """A figure on paper, whatever the page's colours."""
    content = base64.b64encode(svg.encode()).decode()
    words = html.escape(f"{title} of {name}")
    st.caption(plain(title))
    st.html(f'<img class="uncus-paper" alt="{words}" src="data:image/svg+xml;base64,{content}">')


def comparisons() -> None:
    """The pages of ``uncus compare``: norms against batch sizes."""
    found = {name: path for name, path in all_comparisons().items() if page_of(name)}
    if not found:
        return
    st.subheader("Norms and batch sizes")
    name = next(iter(found))
    if len(found) > 1:
        name = st.selectbox("Comparison", list(found))
    st.iframe(f"/report/{name}", height=1200)
