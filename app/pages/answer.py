"""The answer, and how far to trust it."""

import altair as alt
import pandas as pd
import streamlit as st

from uncus.app.sanitize import plain
from uncus.app.uploaded_scan import CHARTS, PICTURE, UploadedScan
from uncus.pipeline.prediction.answer_text import domain_line, is_foreign
from uncus.pipeline.prediction.scan_report import (
    CHARTS_TEXT,
    PICTURE_TEXT,
    VOLUME_HEADS,
    Answer,
    calibration,
    centiles_note,
    sentence,
    shares,
    volume_rows,
)

BAR, LINE = "#5f8fc4", "#d9772b"  # visible on white and on black


def result(scan: UploadedScan) -> None:
    """The answer, the measured volumes, and the checks that the scan has passed or not."""
    assert scan.prediction is not None
    st.header("Result")
    st.markdown(f"`{scan.name}`")
    prediction(scan)
    domain(scan.prediction)
    for warning in scan.prediction["warnings"]:
        st.warning(plain(warning), icon=":material/warning:")
    volumes(scan)


def trust(scan: UploadedScan) -> None:
    """The calibration, the spread of the networks, and the scan as it was read."""
    assert scan.prediction is not None
    st.header("How far to trust it")
    if not is_foreign(scan.prediction):
        line = f"{calibration_line(scan.prediction)} {spread_line(scan.prediction)}"
        st.markdown(f":material/balance: {line}")
    picture(scan)


def domain(result: Answer) -> None:
    """Whether the scan is of the run's domain: in red where it is of another."""
    line = plain(domain_line(result))
    if is_foreign(result):
        st.error(line, icon=":material/block:")
    else:
        st.info(line, icon=":material/info:")


def picture(scan: UploadedScan) -> None:
    """The scan with the outlines of its segmentation, also where it was refused."""
    if url := scan.shown(PICTURE):
        with st.expander("The scan", expanded=True):
            st.html(f'<img src="{url}" style="width: 100%" alt="{PICTURE_TEXT}">')


def volumes(scan: UploadedScan) -> None:
    """The measured volumes with their centiles and growth charts, if the scan was segmented."""
    assert scan.prediction is not None
    if not (rows := volume_rows(scan.prediction)):
        return
    st.subheader("Volumes")
    st.dataframe(pd.DataFrame(rows, columns=VOLUME_HEADS), hide_index=True, width="stretch")
    st.caption(plain(centiles_note(scan.prediction)))
    if url := scan.shown(CHARTS[st.context.theme.type or "light"]):
        st.html(f'<img src="{url}" style="width: 100%" alt="Growth charts">')
        st.caption(CHARTS_TEXT)


def prediction(scan: UploadedScan) -> None:
    """The prediction."""
    assert scan.prediction is not None
    result = scan.prediction
    st.markdown(f"**{plain(sentence(result))}**")
    if is_foreign(result):
        return
    if "probabilities" in result:
        st.altair_chart(bars(result), theme="streamlit")
    else:
        several = len(result["members"]) > 1
        columns = st.columns(min(4, len(result["values"])))
        for index, (name, value) in enumerate(shares(result).items()):
            spread = f"± {result['spread'][name]:.2g}" if several else None
            columns[index % 4].metric(
                plain(name), f"{value:.4g}", spread, delta_color="off", delta_arrow="off"
            )
    if scan.seconds:
        st.caption(f"Computed in {scan.seconds:.1f} s{steps(scan)}.")


def steps(scan: UploadedScan) -> str:
    """The duration of each step."""
    parts = [f"{name.lower()} {time['seconds']:.1f}" for name, time in scan.timings.items()]
    return f": {', '.join(parts)}" if parts else ""


def calibration_line(result: Answer) -> str:
    """Whether the probabilities are calibrated."""
    head, _, rest = calibration(result).partition(":")
    return f"**{plain(head)}**:{plain(rest)}" if rest else plain(head)


def spread_line(result: Answer) -> str:
    """The meaning of the error bars."""
    many = len(result["members"])
    if many == 1:
        return "There is one network, hence no standard deviation."
    if "probabilities" in result:
        return f"Lines: ± one standard deviation between the {many} networks."
    return f"±: one standard deviation between the {many} networks."


def bars(result: Answer) -> alt.LayerChart | alt.FacetChart:
    """Probabilities as bars, with the standard deviation over networks as error bars."""
    several = len(result["members"]) > 1
    rows = pd.DataFrame(
        {
            "class": f"{name}  {share:.2f}"
            + (f" ± {result['spread'][name]:.2f}" if several else ""),
            "share": share,
            "low": max(0.0, share - result["spread"][name]),
            "high": min(1.0, share + result["spread"][name]),
        }
        for name, share in result["probabilities"].items()
    )
    axis = alt.Axis(title=None, labelFontSize=14, labelLimit=260)
    base = alt.Chart(rows).encode(y=alt.Y("class:N", sort=None, axis=axis))
    state = "calibrated" if result.get("calibrated") else "not calibrated"
    scale = alt.X(
        "share:Q",
        scale=alt.Scale(domain=[0, 1]),
        axis=alt.Axis(values=[0, 0.25, 0.5, 0.75, 1], format=".2f"),
        title=f"probability, {state}",
    )
    layers = [base.mark_bar(size=22, color=BAR, tooltip=False).encode(x=scale)]
    if several:
        whole = base.mark_errorbar(ticks=True, thickness=2, color=LINE)
        layers.append(whole.encode(x=alt.X("low:Q", title=""), x2="high:Q"))
    padding = {"left": 5, "right": 18, "top": 5, "bottom": 5}
    return alt.layer(*layers).properties(height=48 * len(rows) + 50, padding=padding)
