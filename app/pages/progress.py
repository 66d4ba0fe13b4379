"""The progress of a job, and its position in the queue."""

import streamlit as st

from uncus.app.job_queue import JobQueue
from uncus.app.uploaded_scan import UploadedScan

STEPS = ("Reading", "Placing", "Predicting", "Explaining")
EVERY = 0.6
"""Time between two updates (s)."""


@st.fragment(run_every=EVERY)
def progress(scan: UploadedScan, jobs: JobQueue) -> None:
    """The current step; the page reruns when there are new results."""
    job = scan.job
    if job is None or job.finished or (scan.prediction is None and job.prediction is not None):
        st.rerun()
    assert job is not None
    ahead = jobs.ahead(job)
    if ahead:
        scans = "1 scan is" if ahead == 1 else f"{ahead} scans are"
        st.progress(0.0, f"In the queue: {scans} before yours.")
    elif job.step not in STEPS:
        st.progress(0.0, "Starting" if jobs.methods else "Loading the networks")
    else:
        number = STEPS.index(job.step)
        st.progress(
            (number + 0.5) / len(STEPS),
            " · ".join(f"**{step}**" if step == job.step else step for step in STEPS),
        )
