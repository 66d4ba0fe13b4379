"""The answer as one card, and how far to trust it."""

import pandas as pd
import streamlit as st

from uncus.app.sanitize import plain
from uncus.app.uploaded_scan import CHARTS, PICTURE, UploadedScan
from uncus.pipeline.prediction.answer_html import axis_html, checks_html
from uncus.pipeline.prediction.answer_text import (
    brain_age_line,
    checks,
    domain_line,
    first_upper,
    in_full,
    is_foreign,
    other_warnings,
    predicted_volumes_line,
    reason,
    title,
)
from uncus.pipeline.prediction.scan_report import (
    CHARTS_TEXT,
    PICTURE_TEXT,
    VOLUME_HEADS,
    calibration,
    centiles_note,
    spread_text,
    volume_rows,
)
from uncus.pipeline.prediction.score_axis import axes_of
from uncus.pipeline.runs import Run


def result(scan: UploadedScan) -> None:
    """The answer among the run's scans, the checks, and the person's volumes."""
    answer = scan.prediction
    assert answer is not None
    st.header("Result")
    with st.container(border=True, key="answer"):
        st.markdown(f"`{scan.name}`")
        st.subheader(plain(title(answer)))
        if is_foreign(answer):
            st.error(plain(reason(answer)), icon=":material/block:")
        else:
            st.markdown(plain(reason(answer)))
        if line := brain_age_line(answer):
            st.markdown(f"{plain(line)}.")
        for axis in axes_of(answer, Run(scan.run)):
            st.html(axis_html(axis))
        st.html(checks_html(checks(answer)))
        for warning in other_warnings(answer):
            st.warning(plain(first_upper(warning)), icon=":material/warning:")
        charts(scan)
        if scan.seconds:
            st.caption(f"Computed in {scan.seconds:.1f} s{steps(scan)}.")


def charts(scan: UploadedScan) -> None:
    """The growth charts, or why there are none though the scan was segmented."""
    assert scan.prediction is not None
    if not (volumes := scan.prediction.get("volumes")):
        return
    if url := scan.shown(CHARTS[st.context.theme.type or "light"]):
        of = f"{volumes['age']:g}{volumes['sex']}"  # drawn again for another age
        st.html(f'<div class="uncus-wide"><img src="{url}?{of}" alt="Growth charts"></div>')
        st.caption(CHARTS_TEXT)
    else:
        st.caption(plain(centiles_note(scan.prediction)))


def trust(scan: UploadedScan) -> None:
    """The domain, the calibration, the outputs of all networks, the volumes and the scan itself."""
    answer = scan.prediction
    assert answer is not None
    st.header("How far to trust it")
    if not is_foreign(answer):
        st.markdown(plain(in_full(f"{domain_line(answer)} {calibration(answer)}", answer)))
        st.markdown(plain(spread_text(answer)))
    volumes(scan)
    picture(scan)


def volumes(scan: UploadedScan) -> None:
    """The measured volumes with their centiles, if the scan was segmented."""
    assert scan.prediction is not None
    if rows := volume_rows(scan.prediction):
        st.subheader("Volumes")
        st.dataframe(pd.DataFrame(rows, columns=VOLUME_HEADS), hide_index=True, width="stretch")
        st.caption(plain(centiles_note(scan.prediction)))
    if line := predicted_volumes_line(scan.prediction):
        st.caption(f"{plain(line)}.")


def picture(scan: UploadedScan) -> None:
    """The scan with the outlines of its segmentation, also where it was refused."""
    if url := scan.shown(PICTURE):
        with st.expander("The scan", expanded=scan.prediction is None):
            st.html(f'<img src="{url}" style="width: 100%" alt="{PICTURE_TEXT}">')


def steps(scan: UploadedScan) -> str:
    """The duration of each step."""
    parts = [f"{name.lower()} {time['seconds']:.1f}" for name, time in scan.timings.items()]
    return f": {', '.join(parts)}" if parts else ""
