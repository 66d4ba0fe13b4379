"""Several scans, one after another: a table, also as CSV."""

import csv
import io
from typing import Any

import pandas as pd
import streamlit as st

from uncus import NOTICE
from uncus.app.job_queue import JobQueue
from uncus.app.pages.progress import EVERY
from uncus.app.pages.upload_memory import free, session_id
from uncus.app.sanitize import plain
from uncus.app.sessions import SESSIONS
from uncus.app.uploaded_scan import UploadedScan
from uncus.app.uploads import LIMIT
from uncus.data.segmentation.measures import volume_columns
from uncus.data.tables import escape_cell
from uncus.pipeline.prediction.answer_text import (
    domain_line,
    interval_columns,
    is_foreign,
    named,
)
from uncus.pipeline.prediction.scan_report import calibration, shares
from uncus.pipeline.runs import Run

MAX_SCANS = 50
"""Scans of one batch."""
MESSAGES = "warnings and errors"
DOMAIN = {True: "the run's", False: "another", None: "not checked"}
MAX_QUEUED = 2
"""Jobs of one batch in the queue at a time, so that other users get their turn."""


def batch(run: Run, jobs: JobQueue) -> None:
    """The tab."""
    state = st.session_state
    st.markdown(
        "Each file is one scan: NIfTI, MGZ, or a zip of one DICOM series. Saliency maps are made "
        "in the tab for one scan."
    )
    if run.card.get("covariates"):
        st.caption("The run's covariates are treated as unknown here.")
    uploads = st.file_uploader(
        "Scans",
        accept_multiple_files=True,
        max_upload_size=LIMIT,
        key=f"batch-{state.setdefault('batches', 0)}",
    )
    if uploads:
        clear(jobs)
        if len(uploads) > MAX_SCANS:
            st.error(f"{len(uploads)} files: a batch takes at most {MAX_SCANS}.")
            free(uploads)
            return
        state["batch"] = [UploadedScan(run.path, [upload], several=True) for upload in uploads]
        for scan in state["batch"]:
            SESSIONS.add(session_id(), scan)
        free(uploads)
        state["batches"] += 1
        st.rerun()
    scans: list[UploadedScan] = state.get("batch", [])
    if not scans:
        return
    if any(not done(scan) for scan in scans):
        working(scans, jobs)
        return
    st.dataframe(table(scans).drop(columns=MESSAGES), hide_index=True, width="stretch")
    for scan in scans:
        if text := messages(scan):
            line = f"`{scan.name}`: {plain(text)}"
            foreign = scan.prediction is not None and is_foreign(scan.prediction)
            st.markdown(f":red[{line}]" if foreign else line)
    first = next((scan.prediction for scan in scans if scan.prediction), {})
    how = "Estimates, not measurements, with conformal intervals. This is not a diagnosis."
    if "probabilities" in first:
        how = calibration(first)
    st.caption(f"± one standard deviation over the networks. {plain(how)}")
    left, right = st.columns([1, 4])
    left.download_button(
        "Table (CSV)", to_csv(scans), "answers.csv", "text/csv", on_click="ignore", width="stretch"
    )
    if right.button("Clear the table"):
        clear(jobs)
        st.rerun()


@st.fragment(run_every=EVERY)
def working(scans: list[UploadedScan], jobs: JobQueue) -> None:
    """The progress of the batch; queues the next scans."""
    for scan in scans:
        if scan.update():
            end(scan, jobs)
    waiting = [scan for scan in scans if not done(scan)]
    if not waiting:
        st.rerun()
    room = MAX_QUEUED - sum(scan.job is not None for scan in waiting)
    for scan in [scan for scan in waiting if scan.job is None][: max(0, room)]:
        scan.submit(jobs, keep=False)
    share = 1 - len(waiting) / len(scans)
    others = jobs.length() - sum(scan.job is not None for scan in waiting)
    line = f" {others} jobs of other users are in the queue." if others > 0 else ""
    st.progress(share, f"{len(scans) - len(waiting)} of {len(scans)} scans are done.{line}")
    st.dataframe(table(scans).drop(columns=MESSAGES), hide_index=True, width="stretch")


def done(scan: UploadedScan) -> bool:
    """Whether a scan is finished."""
    return scan.job is None and (scan.prediction is not None or bool(scan.error))


def end(scan: UploadedScan, jobs: JobQueue) -> None:
    """Remove the scan's files."""
    scan.close(jobs)
    SESSIONS.remove(session_id(), scan)


def clear(jobs: JobQueue) -> None:
    """Remove the previous batch."""
    for scan in st.session_state.pop("batch", []):
        end(scan, jobs)


def rows(scans: list[UploadedScan]) -> list[dict[str, Any]]:
    """One row per scan."""
    table_rows = []
    for scan in scans:
        row: dict[str, Any] = {"scan": scan.name, "state": state_of(scan)}
        if scan.prediction:
            foreign = is_foreign(scan.prediction)
            row["domain"] = DOMAIN[scan.prediction.get("domain", {}).get("inside")]
            if "label" in scan.prediction:
                row["answer"] = named(scan.prediction)
            for name, value in () if foreign else shares(scan.prediction).items():
                row[name] = round(value, 4)
                row[f"± {name}"] = round(scan.prediction["spread"][name], 4)
            row |= {} if foreign else interval_columns(scan.prediction)
            row |= volume_columns(scan.prediction.get("volumes", {}))
        row[MESSAGES] = messages(scan)
        table_rows.append(row)
    return table_rows


def messages(scan: UploadedScan) -> str:
    """Why the scan is of another domain, and its warnings; or its error."""
    if not scan.prediction:
        return scan.error
    reason = [domain_line(scan.prediction)] if is_foreign(scan.prediction) else []
    return " ".join([*reason, *scan.prediction["warnings"]])


def state_of(scan: UploadedScan) -> str:
    """The state of a scan, for the table."""
    if scan.prediction:
        return "done"
    if scan.error:
        return "failed"
    return scan.job.step.lower() if scan.job else "waiting"


def table(scans: list[UploadedScan]) -> pd.DataFrame:
    """The whole table, with the messages last."""
    frame = pd.DataFrame(rows(scans))
    return frame[[*(column for column in frame if column != MESSAGES), MESSAGES]]


def to_csv(scans: list[UploadedScan]) -> str:
    """The table as CSV, with cells escaped that spreadsheets would evaluate."""
    frame = table(scans)
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow([*map(str, frame.columns), "notice"])
    for row in frame.itertuples(index=False):
        cells = ["" if pd.isna(value) else value for value in row]
        writer.writerow([escape_cell(v) if isinstance(v, str) else v for v in cells] + [NOTICE])
    return text.getvalue()
