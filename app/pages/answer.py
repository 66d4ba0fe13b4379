"""What the gate found, and the answer in words and bars."""

import altair as alt
import pandas as pd
import streamlit as st

from uncus.app.sanitize import plain
from uncus.app.uploaded_scan import Visit
from uncus.pipeline.prediction.scan_report import Answer, calibration, sentence, shares

BAR, LINE = "#5f8fc4", "#d9772b"  # seen on white and on black


def gate(visit: Visit) -> None:
    """Warnings, first of all."""
    assert visit.answer is not None
    st.subheader("What was found in the file")
    st.markdown(f"`{visit.name}`")
    for warning in visit.answer["warnings"]:
        st.warning(plain(warning), icon=":material/warning:")
    if not visit.answer["warnings"]:
        st.success(
            "A scan like those of the run's study; nothing odd was found.", icon=":material/check:"
        )


def answer(visit: Visit) -> None:
    """What the networks say."""
    assert visit.answer is not None
    found = visit.answer
    st.subheader("What the networks say")
    st.markdown(f"**{plain(sentence(found))}**")
    if "probabilities" in found:
        st.altair_chart(bars(found), theme="streamlit")
    else:
        several = len(found["members"]) > 1
        columns = st.columns(min(4, len(found["values"])))
        for place, (name, value) in enumerate(shares(found).items()):
            spread = f"± {found['spread'][name]:.2g}" if several else None
            columns[place % 4].metric(
                plain(name), f"{value:.4g}", spread, delta_color="off", delta_arrow="off"
            )
    st.markdown(f":material/balance: {calibration_line(found)} {between(found)}")
    if visit.seconds:
        st.caption(f"Answered in {visit.seconds:.1f} s{steps(visit)}.")


def steps(visit: Visit) -> str:
    """How long each step took."""
    told = [f"{name.lower()} {spent['seconds']:.1f}" for name, spent in visit.spent.items()]
    return f": {', '.join(told)}" if told else ""


def nearest(visit: Visit) -> None:
    """Which training scans the first network sees as most like this one."""
    if not visit.nearest:
        return
    st.subheader("The training scans most like it")
    table = pd.DataFrame(visit.nearest)
    table.insert(0, "nearest", range(1, len(table) + 1))
    st.dataframe(table, hide_index=True, width="stretch", column_config={"nearest": ""})
    st.caption(
        "By the features of the first network. Distance 1 is the usual one between a training scan "
        "and the one nearest to it: far above 1, this scan is unlike all that were trained on."
    )


def calibration_line(found: Answer) -> str:
    """Whether the shares are probabilities yet."""
    head, _, rest = calibration(found).partition(":")
    return f"**{plain(head)}**:{plain(rest)}" if rest else plain(head)


def between(found: Answer) -> str:
    """What the lines on the bars are."""
    many = len(found["members"])
    if many == 1:
        return "One network answers, so there is no spread to show."
    if "probabilities" in found:
        return f"Lines: ± one standard deviation between the {many} networks."
    return f"±: one standard deviation between the {many} networks."


def bars(found: Answer) -> alt.LayerChart | alt.FacetChart:
    """Shares as bars, the spread over networks as error bars."""
    several = len(found["members"]) > 1
    rows = pd.DataFrame(
        {
            "class": f"{name}  {share:.2f}"
            + (f" ± {found['spread'][name]:.2f}" if several else ""),
            "share": share,
            "low": max(0.0, share - found["spread"][name]),
            "high": min(1.0, share + found["spread"][name]),
        }
        for name, share in found["probabilities"].items()
    )
    axis = alt.Axis(title=None, labelFontSize=14, labelLimit=260)
    base = alt.Chart(rows).encode(y=alt.Y("class:N", sort=None, axis=axis))
    state = "calibrated" if found.get("calibrated") else "not calibrated"
    scale = alt.X(
        "share:Q",
        scale=alt.Scale(domain=[0, 1]),
        axis=alt.Axis(values=[0, 0.25, 0.5, 0.75, 1], format=".2f"),
        title=f"share of the networks' vote, {state}",
    )
    layers = [base.mark_bar(size=22, color=BAR, tooltip=False).encode(x=scale)]
    if several:
        whole = base.mark_errorbar(ticks=True, thickness=2, color=LINE)
        layers.append(whole.encode(x=alt.X("low:Q", title=""), x2="high:Q"))
    padding = {"left": 5, "right": 18, "top": 5, "bottom": 5}
    return alt.layer(*layers).properties(height=48 * len(rows) + 50, padding=padding)
