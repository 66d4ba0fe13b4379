"""The explanation: the scan with the saliency map in the viewer, and files to download."""

from pathlib import Path
from typing import Any

import streamlit as st
from streamlit.components.v1 import declare_component

from uncus.app.job_queue import JobQueue
from uncus.app.pages.progress import progress
from uncus.app.sanitize import plain
from uncus.app.uploaded_scan import ATLAS, DOWNLOADS, SCAN, UploadedScan
from uncus.data.atlas import CREDIT
from uncus.data.segmentation.labels import LABELS
from uncus.pipeline.prediction.answer_text import full
from uncus.pipeline.prediction.scan_report import CAUTION
from uncus.pipeline.runs import Run

viewer = declare_component("viewer", path=str(Path(__file__).parents[1] / "viewer"))


def explanation(scan: UploadedScan, jobs: JobQueue, run: Run) -> dict[str, Any] | None:
    """The choice of method and class, and the viewer; returns the facts of the map that it shows.

    None while that map is not made; the viewer shows the scan until it is, in the same place.
    """
    assert scan.prediction is not None
    st.header("Evidence")
    left, right = st.columns(2)
    methods = jobs.methods
    first, named = scan.looked_at or next(iter(scan.maps), ("", ""))
    method = left.selectbox(
        "Method",
        list(methods),
        index=list(methods).index(first) if first in methods else 0,
        format_func=lambda key: methods[key].split(":")[0],
        key=f"method-{scan.token}-{bool(first)}",
    )
    classes = "probabilities" in scan.prediction
    names = list(scan.prediction["probabilities" if classes else "values"])
    leading = max(names, key=scan.prediction["probabilities"].get) if classes else names[0]
    name = right.selectbox(
        "Class" if classes else "Value",
        names,
        index=names.index(named or leading),
        format_func=full,
        key=f"class-{scan.token}-{bool(first)}",
    )
    facts = scan.maps.get((method, name))
    with st.container(key="map-state"):
        if scan.job and not scan.maps:
            progress(scan, jobs, bool(scan.file(SCAN)))
        elif facts is None:
            make(scan, jobs, method, name)
        else:
            st.caption(plain(methods[method]))
    if facts:
        scan.looked_at = method, name
        for doubt in facts["doubts"]:
            st.warning(plain(doubt), icon=":material/warning:")
    broken = (scan.token, method, name) in failures()
    show(scan, facts, full(name) if classes else "", broken)
    if facts:
        notes(scan, facts)
    return facts


def failures() -> dict[tuple[str, str, str], str]:
    """Why maps of this session could not be made, by scan, method and class."""
    found: dict[tuple[str, str, str], str] = st.session_state.setdefault("failed", {})
    return found


def make(scan: UploadedScan, jobs: JobQueue, method: str, name: str) -> None:
    """Request a map that has not been made yet."""
    failed, key = failures(), (scan.token, method, name)
    if scan.error:
        failed[key], scan.error = scan.error, ""
    if key in failed:
        st.error(f"This map cannot be made: {plain(failed[key])}")
        return
    scan.submit(jobs, method if scan.maps else "auto", name)
    if scan.job:
        progress(scan, jobs)


def show(scan: UploadedScan, facts: dict[str, Any] | None, name: str, broken: bool) -> None:
    """The viewer, with the map of class ``name`` once there is one."""
    if not scan.file(SCAN):
        st.html('<div class="uncus-stage" role="status">The viewer opens with the map.</div>')
        return
    folder = facts["folder"] if facts else next((f["folder"] for f in scan.maps.values()), "")
    measured = f"{folder}/dseg.nii.gz"
    viewer(
        scan=scan.url(SCAN),
        overlay=scan.url(f"{folder}/map.nii.gz") if facts else "",
        waiting="" if facts or broken else "The map is being made",
        atlas=scan.url(ATLAS) if scan.file(ATLAS) else "",
        measured=scan.url(measured) if scan.file(measured) else "",
        classes=[[label.index, label.name, label.color] for label in LABELS],
        name=name,
        **{key: facts[key] if facts else None for key in ("top", "signed", "peak", "regions")},
        key="viewer",
        default=None,
    )


def notes(scan: UploadedScan, facts: dict[str, Any]) -> None:
    """How to read the map, and the same as a figure."""
    outside = facts["outside"]
    shown = "The viewer shows the map inside the brain."
    if outside >= 0.005:
        shown += (
            f" {outside:.0%} of it is outside, where the networks have no input. Some of a coarse "
            "map always is; if it is most of the map, do not trust the map or the prediction."
        )
    check = "" if facts["check"] in facts["doubts"] else plain(facts["check"])
    credit = f"Regions: {plain(CREDIT)}." if facts["regions"] else ""
    st.caption(f"{shown} {CAUTION} {check} {credit}")
    with st.expander("As a figure"):
        picture = scan.url(f"{facts['folder']}/saliency.png")
        st.html(
            f'<img src="{picture}" style="width: 100%" alt="Three planes of the scan with the map">'
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
