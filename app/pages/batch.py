"""Several scans, one after another: a table, also as CSV, and their reports."""

import csv
import io
import zipfile
from typing import Any

import pandas as pd
import streamlit as st

from uncus import NOTICE
from uncus.app.job_queue import JobQueue
from uncus.app.pages.progress import EVERY
from uncus.app.pages.setting import form
from uncus.app.pages.upload_memory import free, session_id
from uncus.app.sanitize import plain
from uncus.app.sessions import SESSIONS
from uncus.app.uploaded_scan import UploadedScan
from uncus.app.uploads import LIMIT
from uncus.data.segmentation.measures import volume_columns
from uncus.data.tables import escape_cell
from uncus.pipeline.prediction.answer_text import (
    Answer,
    companion_columns,
    domain_line,
    first_upper,
    full,
    in_full,
    interval_columns,
    is_foreign,
    named,
    reason,
    title,
    value_text,
)
from uncus.pipeline.prediction.scan_report import calibration, shares, volume_rows
from uncus.pipeline.rendering.numbers import fixed, number
from uncus.pipeline.runs import Run

MAX_SCANS = 50
"""Scans of one batch."""
MESSAGES = "warnings and errors"
DOMAIN = {True: "the run's", False: "another", None: "not checked"}
MAX_QUEUED = 2
"""Jobs of one batch in the queue at a time, so that other users get their turn."""
TABS, ONE = "kind", "One scan"
"""Key of the tabs, and the tab in which one of the scans is opened."""
WIDTHS = {"answer": st.column_config.TextColumn(width="large")}
REPORTS = ("report.html", "report.pdf")


def batch(run: Run, jobs: JobQueue) -> None:
    """The tab."""
    state = st.session_state
    st.markdown("Each file is one scan: NIfTI, MGZ, or a zip of one DICOM series.")
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
    st.dataframe(
        shown(scans),
        hide_index=True,
        width="stretch",
        column_config=WIDTHS,
        key=f"table-{state['batches']}",
        on_select=open_selected,
        selection_mode="single-row",
    )
    st.caption("Tick a row to open its full result in the tab for one scan.")
    for scan in scans:
        if text := messages(scan):
            line = f"`{scan.name}`: {plain(text)}"
            foreign = scan.prediction is not None and is_foreign(scan.prediction)
            st.markdown(f":red[{line}]" if foreign else line)
    answered = [scan for scan in scans if scan.prediction]
    first = next((scan.prediction for scan in answered), {}) or {}
    how = "Estimates, not measurements, with conformal intervals. This is not a diagnosis."
    if "probabilities" in first:
        how = in_full(calibration(first), first)
    if len(first.get("members", ())) > 1:
        how += " ± is one standard deviation over the networks."
    st.caption(plain(how))
    inside = next((one.prediction for one in answered if not is_foreign(one.prediction or {})), {})
    if asked := form(inside or {}, run, f"batch-{state['batches']}", False):
        for scan in answered:
            scan.setting, scan.prediction, scan.maps, scan.error = asked, None, {}, ""
        st.rerun()
    left, middle, right = st.columns([1, 1, 2])
    left.download_button(
        "Table (CSV)", to_csv(scans), "answers.csv", "text/csv", on_click="ignore", width="stretch"
    )
    if any(scan.maps for scan in scans):
        middle.download_button(
            "Reports (zip)",
            reports(scans),
            "reports.zip",
            "application/zip",
            on_click="ignore",
            width="stretch",
        )
    elif answered and middle.button("Make the reports", width="stretch"):
        for scan in answered:
            scan.report_wanted = True
        st.rerun()
    if right.button("Clear the table"):
        clear(jobs)
        st.rerun()


def open_selected() -> None:
    """Show the ticked scan in the tab for one scan."""
    state = st.session_state
    rows = state[f"table-{state['batches']}"]["selection"]["rows"]
    if rows:
        before: UploadedScan | None = state.get("scan")
        if before and not before.several:
            before.close()
            SESSIONS.remove(session_id(), before)
        state["scan"], state[TABS] = state["batch"][rows[0]], ONE


@st.fragment(run_every=EVERY)
def working(scans: list[UploadedScan], jobs: JobQueue) -> None:
    """The progress of the batch; queues the next scans."""
    for scan in scans:
        scan.update()
    waiting = [scan for scan in scans if not done(scan)]
    if not waiting:
        st.rerun()
    room = MAX_QUEUED - sum(scan.job is not None for scan in waiting)
    for scan in [scan for scan in waiting if scan.job is None][: max(0, room)]:
        scan.submit(jobs, "auto" if scan.report_wanted else "", keep=False)
    share = 1 - len(waiting) / len(scans)
    others = jobs.length() - sum(scan.job is not None for scan in waiting)
    line = f" {others} jobs of other users are in the queue." if others > 0 else ""
    st.progress(share, f"{len(scans) - len(waiting)} of {len(scans)} scans are done.{line}")
    st.dataframe(shown(scans), hide_index=True, width="stretch", column_config=WIDTHS)


def done(scan: UploadedScan) -> bool:
    """Whether nothing more is to be made of a scan: its answer, and its report if it is wanted."""
    if scan.job is not None:
        return False
    answered = scan.prediction is not None and (bool(scan.maps) or not scan.report_wanted)
    return answered or bool(scan.error)


def clear(jobs: JobQueue) -> None:
    """Remove the previous batch."""
    state = st.session_state
    for scan in state.pop("batch", []):
        if state.get("scan") is scan:
            del state["scan"]
        scan.close(jobs)
        SESSIONS.remove(session_id(), scan)


def reports(scans: list[UploadedScan]) -> bytes:
    """The reports of all scans as a zip, numbered in the table's order."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, scan in enumerate(scans, start=1):
            for facts in list(scan.maps.values())[:1]:
                for report in REPORTS:
                    if path := scan.file(f"{facts['folder']}/{report}"):
                        archive.write(path, f"{number:02d}-{stem(scan.name)}{path.suffix}")
    return content.getvalue()


def stem(name: str) -> str:
    """A scan's displayed name as that of a file."""
    kept = "".join(c if c.isalnum() or c in "-_" else "_" for c in name.partition(".")[0])
    return kept or "scan"


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
            row |= companion_columns(scan.prediction)
            row |= volume_columns(scan.prediction.get("volumes", {}))
        row[MESSAGES] = messages(scan)
        table_rows.append(row)
    return table_rows


def messages(scan: UploadedScan) -> str:
    """Why no class is named, and the warnings; or the error."""
    if not scan.prediction:
        return scan.error
    foreign = is_foreign(scan.prediction)
    why = domain_line(scan.prediction) if foreign else scan.prediction.get("abstains", "")
    why = in_full(why.removesuffix("."), scan.prediction)
    return "; ".join(filter(None, [why, *scan.prediction["warnings"]]))


def state_of(scan: UploadedScan) -> str:
    """The state of a scan, for the table."""
    if scan.prediction:
        return scan.job.step.lower() if scan.job else f"done in {scan.seconds:.1f} s"
    if scan.error:
        return "failed"
    return scan.job.step.lower() if scan.job else "waiting"


def table(scans: list[UploadedScan]) -> pd.DataFrame:
    """The whole table, with the messages last."""
    frame = pd.DataFrame(rows(scans))
    return frame[[*(column for column in frame if column != MESSAGES), MESSAGES]]


def shown(scans: list[UploadedScan]) -> pd.DataFrame:
    """The table as it is shown: in words, and a reason where there is no answer."""
    table_rows = []
    for scan in scans:
        row = {"scan": scan.name, "state": state_of(scan), "answer": answered(scan)}
        if scan.prediction and not is_foreign(scan.prediction):
            row |= in_words(scan.prediction)
        table_rows.append(row)
    return pd.DataFrame(table_rows).fillna("")


def answered(scan: UploadedScan) -> str:
    """The class in full, or why none is named."""
    if not scan.prediction:
        return f"Refused: {scan.error}" if scan.error else ""
    unnamed = is_foreign(scan.prediction) or scan.prediction.get("abstains")
    more = f": {reason(scan.prediction)}" if unnamed else ""
    return f"{title(scan.prediction)}{more}"


def in_words(answer: Answer) -> dict[str, str]:
    """The figures of an answer: of two classes the last, ± over several networks, volumes."""
    columns = {}
    classes, several = "probabilities" in answer, len(answer["members"]) > 1
    for name in list(shares(answer))[1 if classes and len(shares(answer)) == 2 else 0 :]:
        value, spread = shares(answer)[name], answer["spread"][name]
        text, more = fixed(value, 2), fixed(spread, 2)
        if not classes:
            text, more = value_text(name, value), number(spread)
        head = f"probability of {full(name)}" if classes else first_upper(full(name))
        columns[head] = f"{text} ± {more}" if several else text
    if classes and (years := answer.get("brain_age")):
        columns["brain age"] = value_text("age", years["value"])
    for region, ml, centile, *_ in volume_rows(answer):
        known = {} if centile == "–" else {f"{region}, centile": centile}
        columns |= {f"{region}, ml": ml, **known}
    return columns


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
