"""How far a job is, and how long the line before it."""

import streamlit as st

from uncus.app.job_queue import Desk
from uncus.app.uploaded_scan import Visit

STEPS = ("Reading", "Placing", "Predicting", "Explaining")
EVERY = 0.6
"""Seconds between two looks."""


@st.fragment(run_every=EVERY)
def progress(visit: Visit, desk: Desk) -> None:
    """The step that is done now; the page goes on by itself when there is more to show."""
    job = visit.job
    if job is None or job.over or (visit.answer is None and "answer" in job.replies):
        st.rerun()
    assert job is not None
    ahead = desk.ahead(job)
    if ahead:
        scans = "1 scan is" if ahead == 1 else f"{ahead} scans are"
        st.progress(0.0, f"In the queue: {scans} before yours.")
    elif job.step not in STEPS:
        told = "Starting" if desk.methods else "Loading the networks"
        st.progress(0.0, told)
    else:
        number = STEPS.index(job.step)
        st.progress(
            (number + 0.5) / len(STEPS),
            " · ".join(f"**{step}**" if step == job.step else f":gray[{step}]" for step in STEPS),
        )
