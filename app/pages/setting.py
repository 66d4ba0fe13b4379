"""Where a scan comes from and how strictly it is judged: the classes' shares, the error level."""

import streamlit as st

from uncus.app.job_queue import JobQueue
from uncus.app.sanitize import plain
from uncus.app.uploaded_scan import UploadedScan
from uncus.data.errors import BadInput
from uncus.pipeline.prediction.answer_text import Answer, is_foreign
from uncus.pipeline.runs import Run
from uncus.pipeline.trust.conformal import LEVELS
from uncus.pipeline.trust.reliability import Reliability, Setting


def setting(scan: UploadedScan, jobs: JobQueue, run: Run) -> None:
    """The form for one scan, which is judged again."""
    assert scan.prediction is not None
    if is_foreign(scan.prediction):
        return
    if asked := form(scan.prediction, run, scan.token, scan.job is not None):
        scan.judge(asked, jobs)
        st.rerun()


def form(result: Answer, run: Run, key: str, busy: bool) -> Setting | None:
    """The form, filled as ``result`` was judged; returns what is asked for.

    There is none for a run without a calibration.
    """
    if "error_level" not in result:
        return None
    with st.expander("Prevalence and error level"), st.form(f"setting-{key}", border=False):
        known = result.get("prevalence", {})
        fields = list(known)[1:]
        columns = st.columns(len(fields) + 1)
        shares = {
            name: column.number_input(
                f"Share of {plain(name)} where the scan comes from",
                0.001,
                0.999,
                float(known[name]),
                0.01,
                format="%.3f",
            )
            for name, column in zip(fields, columns, strict=False)
        }
        level = columns[-1].number_input(
            "Error level",
            LEVELS[0],
            LEVELS[-1],
            float(result["error_level"]),
            0.01,
            help="The share of the scans of each class that may be answered without it.",
        )
        if not st.form_submit_button("Judge again", disabled=busy):
            return None
        asked = Setting(shares, level)
        try:
            Reliability.from_card(run.card, run.target).shares(asked)
        except BadInput as error:
            st.error(plain(f"{error.cause}; {error.remedy}"))
            return None
    return asked
