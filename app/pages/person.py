"""Age, sex and other covariates of the person on a scan: asked, or taken from the scan's header."""

import streamlit as st

from uncus.app.job_queue import JobQueue
from uncus.app.protocol import Covariates
from uncus.app.sanitize import plain
from uncus.app.uploaded_scan import UploadedScan
from uncus.pipeline.runs import Run


def fields(run: Run, jobs: JobQueue, scan: UploadedScan | None) -> Covariates:
    """The run's covariates, and those of the centiles; empty means unknown.

    Each upload has fields of its own, filled with what is known of its person.
    """
    state = st.session_state
    values: Covariates = {}
    person = ("age", "sex") if jobs.person else ()
    names = dict.fromkeys((*run.card.get("covariates", {}), *person))
    if names:
        st.caption("Of the person, optional; taken from the scan's header where it has them.")
    columns = st.columns(2)
    for place, field in enumerate(names):
        key = f"{field}-{state['uploads']}"
        value = known(scan).get(field) if scan else None
        if state.get(key) is None and value is not None and f"filled {key}" not in state:
            state[key] = state[f"filled {key}"] = value
        if field == "sex":
            values[field] = columns[place % 2].selectbox(
                "Sex", ["F", "M"], index=None, placeholder="unknown", key=key
            )
        else:
            label = "Age in years" if field == "age" else plain(field)
            values[field] = columns[place % 2].number_input(
                label, value=None, placeholder="unknown", key=key
            )
    return values


def known(scan: UploadedScan) -> Covariates:
    """What a scan's prediction used: as given, else as its header says."""
    answer = scan.prediction or {}
    found: Covariates = {n: v for n, v in answer.get("covariates", {}).items() if n != "sex"}
    for name in ("age", "sex"):
        if value := answer.get("volumes", {}).get(name):
            found[name] = value
    return found | {name: value for name, value in scan.covariates.items() if value is not None}


def differ(values: Covariates, scan: UploadedScan) -> bool:
    """Whether other values were entered than those that the scan's prediction used."""
    return scan.prediction is not None and bool(not_of(values, scan))


def not_of(values: Covariates, scan: UploadedScan | None) -> Covariates:
    """The values without those of this scan, which are not those of the next person."""
    before = known(scan) if scan else {}
    return {n: v for n, v in values.items() if v is not None and v != before.get(n)}
