"""Growth charts: a person's volumes among the centiles of cognitively normal people over age.

The curves are drawn in the volumes of the segmentation, so that the point is the volume measured:
the reference's are carried over by the inverse of the correction.
"""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from uncus.data.segmentation.centiles import LEVELS, load_curves
from uncus.data.segmentation.correction import Correction, structure
from uncus.data.segmentation.segmentation import Segmentation
from uncus.pipeline.rendering.svg import FAINT, INK, MODEL, RULE, STYLE, svg

SEXES = {"F": "women", "M": "men"}
COLUMNS = ("hippocampus", "amygdala", "lateral ventricle", "brain")
PERSON, PAPER = "#c2410c", "#ffffff"
DARK = {
    STYLE["axes.edgecolor"]: "#55606a",
    RULE: "#343b42",
    FAINT: "#9aa5ad",
    INK: "#e6eaed",
    MODEL: "#3fb6cc",
    PERSON: "#ffa14d",
    PAPER: "#14181c",
    "#000000": "#e6eaed",
}
"""Color -> what it is on a dark page."""
NUMBERS_APART = 0.06  # of a chart's height, at least
MARGINS = {"left": 0.05, "right": 0.99, "top": 0.94, "bottom": 0.12, "wspace": 0.3, "hspace": 0.3}


def growth_charts(
    segmentation: Segmentation | None, age: float | None, sex: str
) -> tuple[str, bytes]:
    """The charts for a light page and for print, as SVG and as PNG; empty without any."""
    if segmentation is None or age is None or not has_charts(segmentation, age, sex):
        return "", b""
    return growth_charts_svg(segmentation, age, sex), growth_charts_png(segmentation, age, sex)


def has_charts(segmentation: Segmentation | None, age: float | None, sex: str) -> bool:
    """Whether a person can be shown: the age within the reference's, and the sex known."""
    if segmentation is None or age is None or not sex:
        return False
    if not any(line.reliable for line in segmentation.corrections.values()):
        return False
    return load_curves()[sex, "brain"].covers(age)


def growth_charts_svg(segmentation: Segmentation, age: float, sex: str, dark: bool = False) -> str:
    """The charts as an SVG element, on a light or a dark page."""
    light = _svg(_charts(segmentation, age, sex), SEXES[sex])
    return re.sub(r"(?<=: )#[0-9a-f]{6}", lambda c: DARK[c[0]], light) if dark else light


@lru_cache(maxsize=1)
def _svg(charts: Figure, people: str) -> str:
    with _style():
        return svg(charts, f"Volumes among {people} by age")


def growth_charts_png(segmentation: Segmentation, age: float, sex: str) -> bytes:
    """The charts as a PNG on white, for print."""
    content = io.BytesIO()
    charts = _charts(segmentation, age, sex)
    with _style():
        charts.savefig(content, format="png", dpi=160, facecolor=PAPER)
    return content.getvalue()


@contextmanager
def _style() -> Iterator[None]:
    rules = {**matplotlib.rcParamsDefault, "backend": "agg", **STYLE, "font.size": 8}
    rules["figure.constrained_layout.use"] = False  # slow; the margins are known
    with matplotlib.rc_context(rules):
        yield


def _charts(segmentation: Segmentation, age: float, sex: str) -> Figure:
    """Left and right above each other for each structure, then the brain."""
    parts = (segmentation.volumes, segmentation.corrections)
    volumes, lines = (tuple(part.items()) for part in parts)
    with _style():
        return _drawn(volumes, lines, age, sex)


@lru_cache(maxsize=1)
def _drawn(
    volumes: tuple[tuple[str, float], ...],
    lines: tuple[tuple[str, Correction], ...],
    age: float,
    sex: str,
) -> Figure:
    """The charts of these volumes; kept, since a scan's are needed in several files."""
    drawn = Figure(figsize=(10.0, 5.0))
    axes = drawn.subplots(2, len(COLUMNS), squeeze=False, gridspec_kw=MARGINS)
    for column, name in enumerate(COLUMNS):
        regions = [name] if name == "brain" else [f"{side} {name}" for side in ("left", "right")]
        row: list[Any] = list(axes[:, column])
        for one, region in zip(row, regions, strict=False):
            line = dict(lines).get(structure(region))
            _chart(one, region, dict(volumes)[region], line, age, sex)
        for one in row[len(regions) :]:
            one.set_axis_off()
        if len(regions) == 2:
            low, high = zip(*(one.get_ylim() for one in row), strict=True)
            for one in row:
                one.set_ylim(min(low), max(high))
        for one in row:
            _number(one)
    drawn.supxlabel(f"age in years; centiles of cognitively normal {SEXES[sex]}", fontsize=8)
    return drawn


def _chart(
    axes: Any, region: str, volume: float, line: Correction | None, age: float, sex: str
) -> None:
    """One region: the curves with their centiles at the right, the person as a point."""
    axes.set_title(region, fontsize=9)
    if line is None or not line.reliable:
        axes.set_axis_off()
        return
    curves = load_curves()[sex, region]
    ages, ml = curves.ages, line.from_dlmuse(curves.volumes)
    for lower, alpha in ((0, 0.14), (1, 0.22)):
        axes.fill_between(ages, ml[:, lower], ml[:, -1 - lower], color=MODEL, alpha=alpha, lw=0)
    for level, curve in zip(LEVELS, ml.T, strict=True):
        axes.plot(ages, curve, color=MODEL, lw=1.4 if level == 50 else 0.7)
    axes.plot(age, volume, "o", color=PERSON, ms=6.5, zorder=5)
    digits = 2 if volume < 10 else 1 if volume < 100 else 0
    axes.annotate(
        f"{volume:.{digits}f} ml",
        (age, volume),
        textcoords="offset points",
        size=8,
        weight="bold",
        color=PERSON,
        bbox={"facecolor": PAPER, "alpha": 0.7, "lw": 0, "pad": 0.8},
        **_beside((age - ages[0]) / (ages[-1] - ages[0])),
    )
    low, high = min(ml.min(), volume), max(ml.max(), volume)
    axes.set_ylim(max(0.0, low - 0.06 * (high - low)), high + 0.14 * (high - low))
    axes.set_xlim(ages[0], ages[-1] + 5)
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.set_ylabel("ml")


def _beside(share: float) -> dict[str, Any]:
    """Where a point's label is, off the axis and the curves' numbers; ``share`` of the width."""
    if 0.2 < share < 0.8:
        return {"xytext": (0, 7), "ha": "center"}
    side = 1 if share < 0.5 else -1
    return {"xytext": (7 * side, 0), "ha": "left" if side > 0 else "right", "va": "center"}


def _number(axes: Any) -> None:
    """Number the curves at their ends, the median and the outer ones first, where there is room."""
    low, high = axes.get_ylim()
    ends = {level: line.get_data() for level, line in zip(LEVELS, axes.lines, strict=False)}
    kept: list[float] = []
    for level in (50, 5, 95, 25, 75) if ends else ():
        age, end = (values[-1] for values in ends[level])
        if all(abs(end - other) >= NUMBERS_APART * (high - low) for other in kept):
            kept.append(end)
            offset = {"xytext": (3, 0), "textcoords": "offset points"}
            axes.annotate(str(level), (age, end), size=6.5, va="center", **offset)
