"""The parts of an answer for a page and a report: the checks and the axis.

Colors and font are those around them, so that a dark page needs no second drawing.
"""

from collections.abc import Iterable

from uncus.pipeline.prediction.answer_text import Check
from uncus.pipeline.prediction.score_axis import ScoreAxis
from uncus.pipeline.rendering.html import text

COLORS = ("#0b7285", "#c2660c")
"""Of the groups on an axis."""
CSS = """
.uncus-checks {display: flex; flex-wrap: wrap; gap: .4rem; margin: .6rem 0}
.uncus-checks span {padding: .12rem .65rem; border-radius: 1rem; font-size: .875rem;
  border: 1px solid color-mix(in srgb, currentColor 45%, transparent)}
.uncus-checks .warning {background: #ffe1a6; color: #4a3200; border-color: #d9a233}
.uncus-checks .alarm {background: #b3261e; color: #fff; border-color: #b3261e}
figure.uncus-axis {margin: .6rem 0 1rem; border: 0; padding: 0; background: none}
.uncus-axis .plot {position: relative; padding-top: 1.9rem}
.uncus-axis .group {font-size: .875rem; line-height: 1.6}
.uncus-axis .bars {display: flex; align-items: flex-end; height: 2.2rem;
  border-bottom: 1px solid color-mix(in srgb, currentColor 55%, transparent)}
.uncus-axis .bars i {flex: 1; margin: 0 .5px}
.uncus-axis .between {position: absolute; top: 1.9rem; bottom: 0;
  background: color-mix(in srgb, currentColor 12%, transparent)}
.uncus-axis .here {position: absolute; top: 1.5rem; bottom: 0; width: 3px; margin-left: -1.5px;
  background: currentColor}
.uncus-axis .value {position: absolute; top: 0; font-weight: 600; white-space: nowrap}
.uncus-axis .ticks {display: flex; justify-content: space-between; font-size: .8rem;
  font-variant-numeric: tabular-nums}
.uncus-axis figcaption {font-size: .875rem; color: inherit; margin: .1rem 0 0}
.uncus-axis .swatch {display: inline-block; width: .9rem; height: .7rem; margin: 0 .3rem 0 .8rem;
  background: color-mix(in srgb, currentColor 18%, transparent)}
"""


def checks_html(checks: Iterable[Check]) -> str:
    """The checks as a row of labels."""
    items = "".join(f'<span class="{check.state}">{text(check.text)}</span>' for check in checks)
    return f'<div class="uncus-checks">{items}</div>'


def axis_html(axis: ScoreAxis) -> str:
    """An axis: the run's scans as bars, group below group, and this scan as a line through them."""
    at = 100 * axis.at(axis.value)
    side = f"left: {at:.2f}%" if at < 50 else f"right: {100 - at:.2f}%"
    parts = [f'<div class="value" style="{side}">this scan: {text(axis.text)}</div>']
    if axis.between:
        low, high = (100 * axis.at(end) for end in axis.between)
        place = f"left: {low:.2f}%; width: {high - low:.2f}%"
        parts.append(f'<div class="between" style="{place}"></div>')
    for color, (name, counts) in zip(COLORS, axis.groups.items(), strict=False):
        apart = ' style="text-align: right"' if at < 50 else ""  # from this scan's line
        parts.append(f'<div class="group"{apart}>{text(name)}</div>{_bars(counts, color)}')
    if not axis.groups:
        parts.append(_bars((), COLORS[0]))
    parts.append(f'<div class="here" style="left: {at:.2f}%"></div>')
    ticks = "".join(f"<span>{tick:g}</span>" for tick in axis.ticks)
    zone = f'<span class="swatch"></span>{text(axis.between_title)}' if axis.between else ""
    plot = f'<div class="plot">{"".join(parts)}</div><div class="ticks">{ticks}</div>'
    caption = f"<figcaption>{text(axis.caption)}{zone}</figcaption>"
    return f'<figure class="uncus-axis">{plot}{caption}</figure>'


def _bars(counts: Iterable[int], color: str) -> str:
    """Bars of these heights, the highest of them as high as the drawing."""
    counts = tuple(counts)
    most = max(counts, default=0) or 1
    form = f"background: {color}; height"
    bars = "".join(f'<i style="{form}: {100 * n / most:.0f}%"></i>' for n in counts)
    return f'<div class="bars">{bars}</div>'
