"""The page Predict: a scan, its quality control, the prediction and its explanation."""

from pathlib import Path

import streamlit as st

from uncus.app.job_queue import JobQueue
from uncus.app.pages import answer, batch, map, setting
from uncus.app.pages.chosen_run import chosen_run
from uncus.app.pages.progress import progress
from uncus.app.pages.upload_memory import free, session_id
from uncus.app.protocol import Covariates
from uncus.app.run_catalog import name
from uncus.app.sanitize import plain
from uncus.app.sessions import SESSIONS
from uncus.app.settings import job_queue
from uncus.app.uploaded_scan import UploadedScan
from uncus.app.uploads import LIMIT
from uncus.pipeline.runs import Run

EXAMPLE = Path(__file__).parents[1] / "example.nii.gz"
EXAMPLE_NAME = "bundled example (a phantom)"


def page() -> None:
    """One scan, or several."""
    st.title("Predict")
    run = chosen_run()
    jobs = job_queue()
    if jobs.failure:
        st.error(plain(f"The networks cannot be loaded: {jobs.failure}"))
        st.stop()
    describe(run)
    one, several = st.tabs(["One scan", "Several scans"])
    with one:
        single(run, jobs)
    with several:
        batch.batch(run, jobs)


def describe(run: Run) -> None:
    """One line about the networks."""
    model, target = run.card["model"], run.target
    many = len(run.card["members"])
    st.caption(
        f"Run {plain(name(run.path))}: {many} network{'s' * (many != 1)} "
        f"({plain(model['backbone'])}, {plain(model['norm'])} norm) for "
        f"{plain(', '.join(target.names))}."
    )


def single(run: Run, jobs: JobQueue) -> None:
    """The tab for one scan."""
    scan = receive(run, jobs)
    if scan is None:
        return
    if scan.prediction is None and not scan.error and scan.job is None:
        scan.submit(jobs, "auto")
    scan.update()
    if scan.job is not None and scan.prediction is None:
        progress(scan, jobs)
        return
    if scan.error and scan.prediction is None:
        failed(scan)
        return
    if scan.prediction is not None:
        answer.result(scan)
        facts = map.explanation(scan, jobs, run)
        answer.trust(scan)
        setting.setting(scan, jobs, run)
        if facts:
            map.downloads(scan, facts)


def receive(run: Run, jobs: JobQueue) -> UploadedScan | None:
    """The user's scan; a new one replaces the one before."""
    state = st.session_state
    left, right = st.columns([3, 2], gap="large")
    with right:
        values = covariates(run, jobs)
        example = st.button(
            "Try the bundled example",
            help="A phantom: a synthetic head with known atrophy.",
        )
    with left:
        uploads = st.file_uploader(
            "T1-weighted MRI of a head: NIfTI, MGZ, a zip of DICOM files, or all files of one "
            "DICOM series",
            accept_multiple_files=True,
            max_upload_size=LIMIT,
            key=f"upload-{state.setdefault('uploads', 0)}",
            help="The scan stays in a temporary folder until you choose another or close the "
            "page, and is not sent anywhere else.",
        )
    if uploads:
        replace_scan(UploadedScan(run.path, uploads, values), jobs)
        free(uploads)
        state["uploads"] += 1
        st.rerun()
    if example:
        replace_scan(example_scan(run, values), jobs)
    scan: UploadedScan | None = state.get("scan")
    if scan and scan.run != run.path:
        st.caption(f"The prediction below was made by run {plain(scan.run.name)}.")
    return scan


def example_scan(run: Run, values: Covariates) -> UploadedScan:
    """The bundled phantom."""

    class Bundled:
        name = EXAMPLE.name

        def getbuffer(self) -> memoryview:
            return memoryview(EXAMPLE.read_bytes())

    return UploadedScan(run.path, [Bundled()], values, EXAMPLE_NAME)


def replace_scan(scan: UploadedScan, jobs: JobQueue) -> None:
    """Close the previous scan."""
    state, session = st.session_state, session_id()
    before: UploadedScan | None = state.get("scan")
    if before:
        before.close(jobs)
        SESSIONS.remove(session, before)
    state["scan"] = scan
    SESSIONS.add(session, scan)


def covariates(run: Run, jobs: JobQueue) -> Covariates:
    """The run's covariates, and those of the centiles: numbers, or the sex; empty means unknown."""
    values: Covariates = {}
    person = ("age", "sex") if jobs.person else ()
    for field in dict.fromkeys((*run.card.get("covariates", {}), *person)):
        if field == "sex":
            values[field] = st.selectbox("Sex", ["F", "M"], index=None, placeholder="unknown")
        else:
            label = "Age in years" if field == "age" else plain(field)
            values[field] = st.number_input(label, value=None, placeholder="unknown")
    return values


def failed(scan: UploadedScan) -> None:
    """Why there is no prediction, with the choice if a DICOM upload has several series."""
    st.error(f"No prediction for `{scan.name}`: {plain(scan.error)}")
    answer.picture(scan)
    if not scan.series:
        return
    labels = {
        str(number): f"{number}: {entry['description'] or 'unnamed'} ({entry['modality']}, "
        f"{entry['images']} images of {entry['columns']} × {entry['rows']})"
        for number, entry in enumerate(scan.series, start=1)
    }
    series = st.selectbox("Series", list(labels), format_func=labels.__getitem__)
    if st.button("Predict this series"):
        scan.choose(series)
        st.rerun()
