"""The page Predict: a scan, what the gate found, the answer, and what speaks for it."""

from pathlib import Path

import streamlit as st

from uncus.app.job_queue import Desk
from uncus.app.pages import answer, batch, map
from uncus.app.pages.progress import progress
from uncus.app.pages.upload_memory import free, session_id
from uncus.app.run_catalog import chosen_run, name
from uncus.app.sanitize import plain
from uncus.app.sessions import SESSIONS
from uncus.app.settings import desk
from uncus.app.uploaded_scan import Visit
from uncus.app.uploads import LIMIT
from uncus.pipeline.runs import Run

EXAMPLE = Path(__file__).parents[1] / "example.nii.gz"
EXAMPLE_NAME = "bundled example: a phantom, no person"


def page() -> None:
    """One scan, or several."""
    st.title("What do the networks say of a scan?")
    run = chosen_run()
    shared = desk()
    if shared.fault:
        st.error(plain(f"The networks cannot be loaded: {shared.fault}"))
        st.stop()
    who_answers(run)
    one, several = st.tabs(["One scan", "Several scans"])
    with one:
        single(run, shared)
    with several:
        batch.batch(run, shared)


def who_answers(run: Run) -> None:
    """One line on the networks."""
    model, target = run.card["model"], run.target
    many = len(run.card["members"])
    st.caption(
        f"Run {plain(name(run.path))}: {many} network{'s' * (many != 1)} "
        f"({plain(model['backbone'])}, {plain(model['norm'])} norm) for "
        f"{plain(', '.join(target.names))}."
    )


def single(run: Run, shared: Desk) -> None:
    """The tab for one scan."""
    visit = receive(run, shared)
    if visit is None:
        return
    if visit.answer is None and not visit.refusal and visit.job is None:
        visit.ask(shared, "auto")
    visit.collect()
    if visit.job is not None and visit.answer is None:
        progress(visit, shared)
        return
    if visit.refusal and visit.answer is None:
        refused(visit)
        return
    if visit.answer is not None:
        answer.gate(visit)
        answer.answer(visit)
        map.explanation(visit, shared, run)
        answer.nearest(visit)


def receive(run: Run, shared: Desk) -> Visit | None:
    """The visitor's scan; a new one takes the place of the one before."""
    state = st.session_state
    left, right = st.columns([3, 2], gap="large")
    with right:
        known = person(run)
        example = st.button(
            "Try the bundled example",
            help="A phantom: a synthetic head with known atrophy, no person's scan.",
        )
    with left:
        uploads = st.file_uploader(
            "T1-weighted MRI of a head: NIfTI, MGZ, a zip of DICOM files, or all files of one "
            "DICOM series",
            accept_multiple_files=True,
            max_upload_size=LIMIT,
            key=f"upload-{state.setdefault('uploads', 0)}",
            help="The scan stays in a temporary folder until you choose another or close the "
            "page, and is sent nowhere else.",
        )
    if uploads:
        replace_visit(Visit(run.path, uploads, known), shared)
        free(uploads)
        state["uploads"] += 1
        st.rerun()
    if example:
        replace_visit(example_visit(run, known), shared)
    visit: Visit | None = state.get("visit")
    if visit and visit.run != run.path:
        again = visit.run
        st.caption(f"The answer below is by run {plain(again.name)}.")
    return visit


def example_visit(run: Run, known: dict[str, float | str | None]) -> Visit:
    """A visit with the phantom."""

    class Bundled:
        name = EXAMPLE.name

        def getbuffer(self) -> memoryview:
            return memoryview(EXAMPLE.read_bytes())

    return Visit(run.path, [Bundled()], known, EXAMPLE_NAME)


def replace_visit(visit: Visit, shared: Desk) -> None:
    """End the visit before this one."""
    state, session = st.session_state, session_id()
    before: Visit | None = state.get("visit")
    if before:
        before.close(shared)
        SESSIONS.drop(session, before)
    state["visit"] = visit
    SESSIONS.hold(session, visit)


def person(run: Run) -> dict[str, float | str | None]:
    """What the run takes besides the scan: a number, or a sex; empty is not known."""
    known: dict[str, float | str | None] = {}
    for field in run.card.get("covariates", {}):
        if field == "sex":
            known[field] = st.selectbox("Sex", ["F", "M"], index=None, placeholder="not known")
        else:
            label = "Age in years" if field == "age" else plain(field)
            known[field] = st.number_input(label, value=None, placeholder="not known")
    return known


def refused(visit: Visit) -> None:
    """Why there is no answer, and the choice where a DICOM upload holds several series."""
    st.error(f"`{visit.name}` gets no answer: {plain(visit.refusal)}")
    if not visit.series:
        return
    labels = {
        str(number): f"{number}: {found['description'] or 'unnamed'} ({found['modality']}, "
        f"{found['images']} images of {found['columns']} × {found['rows']})"
        for number, found in enumerate(visit.series, start=1)
    }
    series = st.selectbox("Series", list(labels), format_func=labels.__getitem__)
    if st.button("Answer for this series"):
        visit.choose(series)
        st.rerun()
