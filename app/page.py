"""The web page, run by streamlit from top to bottom at every action of a visitor."""

import os
from pathlib import Path

import altair as alt
import pandas as pd
import streamlit as st

from app.launch import RUN_VARIABLE, UPLOAD_LIMIT
from app.visit import FILES, SUFFIXES, Desk, Visit, plain
from pipeline.notice import NOTICE
from pipeline.predict import Prediction, Predictor
from pipeline.saliency import SALIENCY

STYLE = """<style>
  [data-testid="stMainBlockContainer"] {max-width: 62rem; padding: 2.5rem 1.5rem 5rem}
  .uncus-notice {position: fixed; inset: auto 0 0 0; z-index: 1000; padding: .45rem 1rem;
                 background: #31333f; color: #fff; text-align: center; font-size: .875rem}
</style>"""
BAR, LINE = "#7f9fc4", "#d9772b"  # seen on white and on black


def main() -> None:
    """The page."""
    st.set_page_config(page_title="uncus", layout="centered")
    st.html(STYLE)
    st.html(f'<div class="uncus-notice" role="note">{NOTICE}</div>')
    st.title("uncus")
    st.write(
        "What networks trained on labelled scans say of a T1-weighted MRI of the head, "
        "and which parts of the scan speak for their answer."
    )
    desk = open_desk()
    describe(desk)
    visit = receive()
    if visit is None:
        return
    if not visit.refusal and visit.prediction is None:
        work(visit, desk)
    if visit.refusal:
        st.error(f"`{visit.name}` is refused: {plain(visit.refusal)}")
    elif visit.prediction is not None:
        answer(visit.name, visit.prediction)
        explanation(visit, visit.prediction, desk)


def open_desk() -> Desk:
    """The run's networks; a run that has changed on disk is loaded anew."""
    try:
        run = os.environ.get(RUN_VARIABLE, "")
        if not run:
            raise ValueError("no run to answer with; start this page with uncus app RUN")
        sums = (Path(run) / "model" / "SHA256SUMS").read_text(encoding="utf-8")
        return load(run, sums)
    except (ValueError, OSError, MemoryError) as error:
        st.error(plain(" ".join(str(error).split())))
        st.stop()


@st.cache_resource(max_entries=1, show_spinner="Loading the networks")
def load(run: str, sums: str) -> Desk:
    """The networks of ``run``; the only thing that visits share."""
    del sums  # part of the cache's key
    return Desk(Predictor(run))


def describe(desk: Desk) -> None:
    """One line on who answers."""
    model = desk.predictor.identity
    networks = f"{model['networks']} network" + "s" * (model["networks"] != 1)
    st.caption(
        f"Run {plain(model['run'])}: {networks} ({plain(model['backbone'])}, {model['norm']} "
        f"norm) for {plain(', '.join(desk.predictor.names))}."
    )


def receive() -> Visit | None:
    """The visitor's scan; a new one takes the place of the one before."""
    upload = st.file_uploader(
        "T1-weighted scan",
        type=list(SUFFIXES),
        max_upload_size=UPLOAD_LIMIT,
        help="It is kept in memory and in a temporary folder until the page is closed or another "
        "scan is chosen, and is sent nowhere else.",
    )
    state = st.session_state
    if state.get("upload") != (upload and upload.file_id):
        if "visit" in state:
            state.pop("visit").close()
        if upload:
            state["visit"] = Visit(upload.name, upload.getbuffer())
        state["upload"] = upload and upload.file_id
    visit: Visit | None = state.get("visit")
    return visit


def work(visit: Visit, desk: Desk) -> None:
    """Predict, telling the steps."""
    place = st.empty()
    with place.status("Starting") as status:

        def step(name: str) -> None:
            status.update(label=name)
            st.write(name)

        visit.predict(desk, step)
    place.empty()


def answer(name: str, prediction: Prediction) -> None:
    """Warnings first, then what the networks say."""
    for warning in prediction.warnings:
        st.warning(plain(warning))
    st.subheader("What the networks say")
    count = len(prediction.members)
    between = (
        f"Lines: ± one standard deviation between the {count} networks."
        if count > 1
        else "One network answers, so there is no spread to show."
    )
    if prediction.probabilities:
        st.altair_chart(bars(prediction))
        st.markdown(
            f"`{name}`. Bars: each class's share of the networks' vote. {between} "
            "**Not calibrated**: how far the networks lean to a class, not the chance that it is "
            "so, and not a diagnosis."
        )
        return
    columns = st.columns(len(prediction.values))
    for column, (target, value) in zip(columns, prediction.values.items(), strict=True):
        spread = f"± {prediction.spread[target]:.2g}" if count > 1 else None
        column.metric(plain(target), f"{value:.4g}", spread, delta_color="off", delta_arrow="off")
    st.markdown(
        f"`{name}`. Means over the networks, in the units of the training table. "
        f"{between.replace('Lines:', 'Below:')} **Not calibrated**: estimates, not measurements."
    )


def bars(prediction: Prediction) -> alt.LayerChart | alt.FacetChart:
    """Probabilities as bars, the spread over networks as error bars."""
    several = len(prediction.members) > 1
    rows = pd.DataFrame(
        {
            "class": f"{name}  {share:.2f}"
            + (f" ± {prediction.spread[name]:.2f}" if several else ""),
            "share": share,
            "low": max(0.0, share - prediction.spread[name]),
            "high": min(1.0, share + prediction.spread[name]),
        }
        for name, share in prediction.probabilities.items()
    )
    axis = alt.Axis(title=None, labelFontSize=14, labelLimit=200)
    base = alt.Chart(rows).encode(y=alt.Y("class:N", sort=None, axis=axis))
    shares = alt.X(
        "share:Q",
        scale=alt.Scale(domain=[0, 1]),
        axis=alt.Axis(values=[0, 0.25, 0.5, 0.75, 1], format=".2f"),
        title="share of the networks' vote, not calibrated",
    )
    layers = [base.mark_bar(size=22, color=BAR, tooltip=False).encode(x=shares)]
    if several:
        whole = base.mark_errorbar(ticks=True, thickness=2, color=LINE)
        layers.append(whole.encode(x=alt.X("low:Q", title=""), x2="high:Q"))
    return alt.layer(*layers).properties(height=48 * len(rows) + 50)


def explanation(visit: Visit, prediction: Prediction, desk: Desk) -> None:
    """What speaks for an answer: a map by one of the methods, and files to take home."""
    st.subheader("What speaks for it in the scan")
    left, right = st.columns(2)
    method = left.selectbox(
        "Method", list(SALIENCY), format_func=lambda key: SALIENCY[key].summary.split(":")[0]
    )
    names = desk.predictor.names
    name = right.selectbox(
        "Class" if prediction.probabilities else "Value",
        names,
        index=names.index(prediction.label) if prediction.label else 0,
    )
    st.caption(plain(SALIENCY[method].summary))
    try:
        with st.spinner("Explaining", show_time=True):
            folder = visit.explain(desk, method, name)
    except (ValueError, OSError, MemoryError) as error:
        st.error(f"This map cannot be made: {plain(visit.reason(error))}")
        return
    picture = (folder / "saliency.png").read_bytes()
    st.image(picture, width="stretch", alt=f"Three planes of the scan, {method} for {name}")
    st.caption(
        "The map shows what these networks used, which need not be what a disease does. "
        "R and L are the subject's right and left."
    )
    for column, (file, kind) in zip(st.columns(len(FILES)), FILES.items(), strict=True):
        content = (folder / file).read_bytes()
        column.download_button(file, content, file, kind, on_click="ignore", width="stretch")


if __name__ == "__main__":  # streamlit's name for it; a child process that starts anew has another
    main()
