"""Several scans, one after another: a table, and the same as CSV."""

import csv
import io
from typing import Any

import pandas as pd
import streamlit as st

from uncus import NOTICE
from uncus.app.job_queue import Desk
from uncus.app.pages.progress import EVERY
from uncus.app.pages.upload_memory import free, session_id
from uncus.app.sanitize import plain
from uncus.app.sessions import SESSIONS
from uncus.app.uploaded_scan import Visit
from uncus.app.uploads import LIMIT
from uncus.data.tables import escape_cell
from uncus.pipeline.prediction.scan_report import shares
from uncus.pipeline.runs import Run

MOST = 50
"""Scans of one batch."""
WORDS = "warnings and refusals"
AT_ONCE = 2
"""Jobs of one batch in the line at a time, so that others have their turn between them."""


def batch(run: Run, desk: Desk) -> None:
    """The tab."""
    state = st.session_state
    st.markdown(
        "Each file is one scan: NIfTI, MGZ, or a zip of one DICOM series. Answers only; a map is "
        "made in the tab for one scan."
    )
    if run.card.get("covariates"):
        st.caption("What the run takes besides the scan counts as not known here.")
    uploads = st.file_uploader(
        "Scans",
        accept_multiple_files=True,
        max_upload_size=LIMIT,
        key=f"batch-{state.setdefault('batches', 0)}",
    )
    if uploads:
        clear(desk)
        if len(uploads) > MOST:
            st.error(f"{len(uploads)} files: a batch takes {MOST} at most.")
            free(uploads)
            return
        state["batch"] = [Visit(run.path, [upload]) for upload in uploads]
        for visit in state["batch"]:
            SESSIONS.hold(session_id(), visit)
        free(uploads)
        state["batches"] += 1
        st.rerun()
    visits: list[Visit] = state.get("batch", [])
    if not visits:
        return
    if any(not done(visit) for visit in visits):
        working(visits, desk)
        return
    st.dataframe(table(visits).drop(columns=WORDS), hide_index=True, width="stretch")
    for visit in visits:
        if found := words(visit):
            st.markdown(f"`{visit.name}`: {plain(found)}")
    st.caption(
        "Shares of the networks' vote or values, ± one standard deviation between networks; not "
        "calibrated, not a diagnosis."
    )
    left, right = st.columns([1, 4])
    left.download_button(
        "Table (CSV)", to_csv(visits), "answers.csv", "text/csv", on_click="ignore", width="stretch"
    )
    if right.button("Clear the table"):
        clear(desk)
        st.rerun()


@st.fragment(run_every=EVERY)
def working(visits: list[Visit], desk: Desk) -> None:
    """How far the batch is; starts what may be started."""
    for visit in visits:
        if visit.collect():
            end(visit, desk)
    waiting = [visit for visit in visits if not done(visit)]
    if not waiting:
        st.rerun()
    room = AT_ONCE - sum(visit.job is not None for visit in waiting)
    for visit in [visit for visit in waiting if visit.job is None][: max(0, room)]:
        visit.ask(desk, keep=False)
    share = 1 - len(waiting) / len(visits)
    others = desk.length() - sum(visit.job is not None for visit in waiting)
    line = f" Others have {others} in the queue." if others > 0 else ""
    st.progress(share, f"{len(visits) - len(waiting)} of {len(visits)} scans are done.{line}")
    st.dataframe(table(visits).drop(columns=WORDS), hide_index=True, width="stretch")


def done(visit: Visit) -> bool:
    """Whether nothing more will come of a visit."""
    return visit.job is None and (visit.answer is not None or bool(visit.refusal))


def end(visit: Visit, desk: Desk) -> None:
    """The scan itself is not needed any more."""
    visit.close(desk)
    SESSIONS.drop(session_id(), visit)


def clear(desk: Desk) -> None:
    """End the batch before this one."""
    for visit in st.session_state.pop("batch", []):
        end(visit, desk)


def rows(visits: list[Visit]) -> list[dict[str, Any]]:
    """One row a scan."""
    found = []
    for visit in visits:
        row: dict[str, Any] = {"scan": visit.name, "state": state_of(visit)}
        if visit.answer:
            row["more like"] = visit.answer.get("label", "")
            for name, value in shares(visit.answer).items():
                row[name] = round(value, 4)
                row[f"± {name}"] = round(visit.answer["spread"][name], 4)
        row[WORDS] = words(visit)
        found.append(row)
    return found


def words(visit: Visit) -> str:
    """What was odd about a scan, or why it gets no answer."""
    return " ".join(visit.answer["warnings"] if visit.answer else [visit.refusal])


def state_of(visit: Visit) -> str:
    """One word for the table."""
    if visit.answer:
        return "answered"
    if visit.refusal:
        return "refused"
    return visit.job.step.lower() if visit.job else "waiting"


def table(visits: list[Visit]) -> pd.DataFrame:
    """The whole table; words last."""
    frame = pd.DataFrame(rows(visits))
    return frame[[*(column for column in frame if column != WORDS), WORDS]]


def to_csv(visits: list[Visit]) -> str:
    """The table as CSV; no cell is a formula."""
    frame = table(visits)
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow([*map(str, frame.columns), "notice"])
    for row in frame.itertuples(index=False):
        cells = ["" if pd.isna(value) else value for value in row]
        writer.writerow([escape_cell(v) if isinstance(v, str) else v for v in cells] + [NOTICE])
    return text.getvalue()
