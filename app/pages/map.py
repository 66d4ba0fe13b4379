"""The explanation: the scan with the saliency map in the viewer, and files to download."""

from pathlib import Path
from typing import Any

import streamlit as st
from streamlit.components.v1 import declare_component

from uncus.app.job_queue import JobQueue
from uncus.app.pages.progress import progress
from uncus.app.sanitize import plain
from uncus.app.uploaded_scan import DOWNLOADS, UploadedScan
from uncus.pipeline.prediction.scan_report import CAUTION
from uncus.pipeline.runs import Run

viewer = declare_component("viewer", path=str(Path(__file__).parents[1] / "viewer"))


def explanation(scan: UploadedScan, jobs: JobQueue, run: Run) -> dict[str, Any] | None:
    """The choice of method and class, and the viewer; returns the facts of the map that it shows.

    None while that map is not made.
    """
    assert scan.prediction is not None
    st.header("Evidence")
    if scan.job and not scan.maps:
        progress(scan, jobs)
        return None
    left, right = st.columns(2)
    methods = jobs.methods
    first = next((method for method, _ in scan.maps), "grad_cam")
    method = left.selectbox(
        "Method",
        list(methods),
        index=list(methods).index(first),
        format_func=lambda key: methods[key].split(":")[0],
    )
    classes = "probabilities" in scan.prediction
    names = list(scan.prediction["probabilities" if classes else "values"])
    leading = max(names, key=scan.prediction["probabilities"].get) if classes else names[0]
    name = right.selectbox("Class" if classes else "Value", names, index=names.index(leading))
    st.caption(plain(methods[method]))
    facts = scan.maps.get((method, name))
    if facts is None:
        make(scan, jobs, method, name)
        return None
    show(scan, facts, name)
    return facts


def make(scan: UploadedScan, jobs: JobQueue, method: str, name: str) -> None:
    """Request a map that has not been made yet."""
    failed = st.session_state.setdefault("failed", {})
    key = (scan.token, method, name)
    if scan.error:
        failed[key], scan.error = scan.error, ""
    if key in failed:
        st.error(f"This map cannot be made: {plain(failed[key])}")
        return
    scan.submit(jobs, method, name)
    if scan.job:
        progress(scan, jobs)


def show(scan: UploadedScan, facts: dict[str, Any], name: str) -> None:
    """The viewer, and the same as a figure."""
    folder = facts["folder"]
    for doubt in facts["doubts"]:
        st.warning(plain(doubt), icon=":material/warning:")
    viewer(
        scan=scan.url("scan.nii.gz"),
        overlay=scan.url(f"{folder}/map.nii.gz"),
        top=facts["top"],
        signed=facts["signed"],
        peak=facts["peak"],
        regions=facts["regions"],
        key="viewer",
        default=None,
    )
    assert scan.prediction is not None
    if facts["regions"]:
        st.caption("Click a region to move the crosshair there.")
    outside = facts["outside"]
    shown = "The viewer shows the map inside the brain."
    if outside >= 0.005:
        shown += (
            f" {outside:.0%} of it is outside, where the networks have no input. Some of a coarse "
            "map always is; if it is most of the map, do not trust the map or the prediction."
        )
    check = "" if facts["check"] in facts["doubts"] else plain(facts["check"])
    st.caption(f"{shown} {CAUTION} {check}")
    with st.expander("As a figure"):
        st.html(
            f'<img src="{scan.url(f"{folder}/saliency.png")}" style="width: 100%" '
            f'alt="Three planes of the scan with the map">'
        )


def downloads(scan: UploadedScan, facts: dict[str, Any]) -> None:
    """Links to the files of the current map."""
    st.header("Download")
    links = [
        f'<a href="{scan.url(name)}" download="{file}">{label}</a>'
        for file, label in DOWNLOADS.items()
        if scan.file(name := f"{facts['folder']}/{file}")
    ]
    st.html(f'<div class="uncus-files">{"".join(links)}</div>')
