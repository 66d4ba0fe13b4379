"""What speaks for an answer: the scan in the viewer with the map over it; files to take home."""

from pathlib import Path
from typing import Any

import streamlit as st
from streamlit.components.v1 import declare_component

from uncus.app.job_queue import Desk
from uncus.app.pages.progress import progress
from uncus.app.sanitize import plain
from uncus.app.uploaded_scan import TAKE_HOME, Visit
from uncus.pipeline.prediction.scan_report import CAUTION
from uncus.pipeline.runs import Run

viewer = declare_component("viewer", path=str(Path(__file__).parents[1] / "viewer"))


def explanation(visit: Visit, desk: Desk, run: Run) -> None:
    """The choice of method and class, the viewer, the files."""
    assert visit.answer is not None
    st.subheader("What speaks for it in the scan")
    if visit.job and not visit.maps:
        progress(visit, desk)
        return
    left, right = st.columns(2)
    methods = desk.methods
    first = next((method for method, _ in visit.maps), "grad_cam")
    method = left.selectbox(
        "Method",
        list(methods),
        index=list(methods).index(first),
        format_func=lambda key: methods[key].split(":")[0],
    )
    classes = "probabilities" in visit.answer
    names = list(visit.answer["probabilities" if classes else "values"])
    label = visit.answer.get("label")
    name = right.selectbox(
        "Class" if classes else "Value", names, index=names.index(label) if label else 0
    )
    st.caption(plain(methods[method]))
    found = visit.maps.get((method, name))
    if found is None:
        make(visit, desk, method, name)
        return
    show(visit, found, name)
    take_home(visit, found)


def make(visit: Visit, desk: Desk, method: str, name: str) -> None:
    """Ask for a map that is not there yet."""
    failed = st.session_state.setdefault("failed", {})
    key = (visit.token, method, name)
    if visit.refusal:
        failed[key], visit.refusal = visit.refusal, ""
    if key in failed:
        st.error(f"This map cannot be made: {plain(failed[key])}")
        return
    visit.ask(desk, method, name)
    if visit.job:
        progress(visit, desk)


def show(visit: Visit, found: dict[str, Any], name: str) -> None:
    """The viewer, and the same as a picture."""
    folder = found["folder"]
    viewer(
        scan=visit.url("scan.nii.gz"),
        overlay=visit.url(f"{folder}/map.nii.gz"),
        top=found["top"],
        signed=found["signed"],
        peak=found["peak"],
        regions=found["regions"],
        key="viewer",
        default=None,
    )
    assert visit.answer is not None
    if found["regions"]:
        st.caption("Click a region: the crosshair goes there.")
    outside = found["outside"]
    shown = "The viewer shows the map inside the brain."
    if outside >= 0.005:
        shown += (
            f" {outside:.0%} of it lies outside, where the networks see nothing: part of a coarse "
            "map always does, but if it is most of the map, trust neither."
        )
    st.caption(f"{shown} {CAUTION}")
    with st.expander("The same as a picture"):
        st.html(
            f'<img src="{visit.url(f"{folder}/saliency.png")}" style="width: 100%" '
            f'alt="Three planes of the scan with the map">'
        )


def take_home(visit: Visit, found: dict[str, Any]) -> None:
    """Links to the files of the map that is shown."""
    st.subheader("Take home")
    links = [
        f'<a href="{visit.url(name)}" download="{file}">{label}</a>'
        for file, label in TAKE_HOME.items()
        if visit.file(name := f"{found['folder']}/{file}")
    ]
    st.html(f'<div class="uncus-files">{"".join(links)}</div>')
