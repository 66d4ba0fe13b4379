"""The page Predict: one scan with its answer, the evidence, how far to trust it; or several."""

import base64
import html
from functools import cache
from pathlib import Path
from typing import NamedTuple

import streamlit as st

from uncus.app.job_queue import JobQueue
from uncus.app.pages import answer, batch, map, person, setting
from uncus.app.pages.chosen_run import chosen_run
from uncus.app.pages.progress import progress
from uncus.app.pages.upload_memory import free, session_id
from uncus.app.protocol import Covariates
from uncus.app.sanitize import plain
from uncus.app.sessions import SESSIONS
from uncus.app.settings import job_queue
from uncus.app.uploaded_scan import UploadedScan
from uncus.app.uploads import LIMIT
from uncus.pipeline.model_card.summary import predicts, summary
from uncus.pipeline.runs import Run

APP = Path(__file__).parents[1]
MARK = APP / "icon.png"


class Example(NamedTuple):
    """A bundled scan: the stem of its files, its name on the page, and what it is."""

    stem: str
    name: str
    about: str

    @property
    def scan(self) -> Path:
        """The scan."""
        return APP / f"{self.stem}.nii.gz"


PHANTOM = Example(
    "example",
    "bundled example (a phantom)",
    "An example: a synthetic head (phantom) with known atrophy.",
)
HEAD = Example(
    "head",
    "bundled example (a young adult)",
    "An example: the head of a healthy young adult at 2 mm (AOMIC-ID1000, CC0).",
)


def page() -> None:
    """One scan, or several."""
    mark = f'<img src="data:image/png;base64,{encoded(MARK)}" alt="" width="44" height="44">'
    st.html(f'<div class="uncus-name">{mark}<h1>uncus</h1></div>')
    run = chosen_run()
    jobs = job_queue()
    if jobs.failure:
        st.error(plain(f"The networks cannot be loaded: {jobs.failure}"))
        st.stop()
    if not st.session_state.keys() & {"scan", "batch"}:
        welcome(run)
    one, several = st.tabs([batch.ONE, "Several scans"], key=batch.TABS, on_change="rerun")
    with one:
        single(run, jobs)
    with several:
        batch.batch(run, jobs)


def welcome(run: Run) -> None:
    """What the page does, and the facts of the run."""
    kind = "an estimate of" if run.target.regression else "whether it looks"
    st.markdown(
        f"From a T1-weighted MRI of a head: {kind} **{plain(predicts(run))}**, how sure that is, "
        "and the evidence in the scan for and against it."
    )
    facts_list(run)


def facts_list(run: Run) -> None:
    """Three facts of the run: trained on, measured, use."""
    rows = "".join(
        f"<div><dt>{html.escape(name)}</dt><dd>{html.escape(fact)}</dd></div>"
        for name, fact in summary(run).items()
    )
    st.html(f'<dl class="uncus-facts">{rows}</dl>')


@cache
def encoded(path: Path) -> str:
    """A file in base64."""
    return base64.b64encode(path.read_bytes()).decode()


def single(run: Run, jobs: JobQueue) -> None:
    """The tab for one scan."""
    if before := st.session_state.get("scan"):
        before.update()
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
        facts_list(Run(scan.run))
        setting.setting(scan, jobs, run)
        if facts:
            map.downloads(scan, facts)


def receive(run: Run, jobs: JobQueue) -> UploadedScan | None:
    """The user's scan; a new one replaces the one before."""
    state = st.session_state
    scan: UploadedScan | None = state.get("scan")
    place = st.expander("Another scan; age and sex") if scan else st.container()
    with place:
        left, right = st.columns([3, 2], gap="large")
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
    with right:
        values = person.fields(run, jobs, scan)
        again = bool(scan and person.differ(values, scan) and st.button("Predict again"))
        example = example_of(run)
        picture = encoded(example.scan.with_name(f"{example.stem}.png"))
        thumbnail = f'<img src="data:image/png;base64,{picture}" alt="">'
        st.html(f'<div class="uncus-example">{thumbnail}<span>{example.about}</span></div>')
        wanted = st.button("Try the bundled example")
    if uploads or wanted:
        own = person.not_of(values, scan)
        new = UploadedScan(run.path, uploads, own) if uploads else bundled(example, run, own)
        replace_scan(new, jobs)
        free(uploads)
        state["uploads"] += 1
        st.rerun()
    if scan and again:
        scan.again(values, jobs)
        st.rerun()
    if scan and scan.run != run.path:
        st.caption(f"The prediction below was made by run {plain(scan.run.name)}.")
    return scan


def example_of(run: Run) -> Example:
    """A scan of the run's domain: a person's, or a phantom."""
    return HEAD if run.card.get("domain", {}).get("synthetic") is False else PHANTOM


def bundled(example: Example, run: Run, values: Covariates) -> UploadedScan:
    """A bundled scan as if it were uploaded."""

    class Bundled:
        name = example.scan.name

        def getbuffer(self) -> memoryview:
            return memoryview(example.scan.read_bytes())

    return UploadedScan(run.path, [Bundled()], values, example.name)


def replace_scan(scan: UploadedScan, jobs: JobQueue) -> None:
    """Close the previous scan."""
    state, session = st.session_state, session_id()
    before: UploadedScan | None = state.get("scan")
    if before and not before.several:  # those are in their own table
        before.close(jobs)
        SESSIONS.remove(session, before)
    state["scan"] = scan
    SESSIONS.add(session, scan)


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
