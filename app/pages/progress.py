"""The progress of a job, and its position in the queue."""

import streamlit as st

from uncus.app.job_queue import JobQueue
from uncus.app.uploaded_scan import SCAN, UploadedScan

STEPS = ("Reading", "Segmenting", "Placing", "Predicting", "Explaining")
EVERY = 0.6
"""Time between two updates (s)."""


@st.fragment(run_every=EVERY)
def progress(scan: UploadedScan, jobs: JobQueue, opened: bool = True) -> None:
    """The current step; the page reruns when there are new results.

    ``opened``: the page shows the scan in the viewer; if not, it reruns as soon as it can.
    """
    job = scan.job
    answered = scan.prediction is None and job is not None and job.prediction is not None
    if job is None or job.finished or answered or not (opened or scan.file(SCAN) is None):
        st.rerun()
    assert job is not None
    ahead = jobs.ahead(job)
    if ahead:
        scans = "1 scan is" if ahead == 1 else f"{ahead} scans are"
        st.progress(0.0, f"In the queue: {scans} before yours.")
    elif job.step not in (steps := [s for s in STEPS if jobs.person or s != "Segmenting"]):
        st.progress(0.0, "Starting" if jobs.methods else "Loading the networks")
    else:
        number = steps.index(job.step)
        st.progress(
            (number + 0.5) / len(steps),
            " · ".join(f"**{step}**" if step == job.step else step for step in steps),
        )
