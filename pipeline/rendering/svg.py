"""The style of every plot, and figures as SVG elements: no window, no global state."""

import functools
import hashlib
import html
import io
import re
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec

import matplotlib
from matplotlib.figure import Figure

INK, FAINT, RULE = "#22303a", "#6b7a85", "#e3e8eb"
MODEL = "#0b7285"
OTHERS = ("#c77d2e", "#7d6bb0", "#7f9a4a", "#b5566b", "#5a86b8", "#8a8f94")
LEGEND = 8.5  # points
SIDE = 3.7  # inches of a square plot, a third of the page
STYLE: Any = {
    "font.family": ["DejaVu Sans"],  # ships with matplotlib
    "font.size": 10,
    "axes.edgecolor": "#b8c2c9",
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.8,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "text.color": INK,
    "legend.frameon": False,
    "legend.fontsize": LEGEND,
    "figure.constrained_layout.use": True,
    "svg.fonttype": "path",
    "text.parse_math": False,  # a class name may contain $
}


P = ParamSpec("P")


def styled(plot: Callable[P, str]) -> Callable[P, str]:
    """Draw in the page's style, independent of the user's matplotlibrc."""

    @functools.wraps(plot)
    def inside(*args: P.args, **kwargs: P.kwargs) -> str:
        with matplotlib.rc_context({**matplotlib.rcParamsDefault, "backend": "agg", **STYLE}):
            return plot(*args, **kwargs)

    return inside


def figure(width: float, height: float, rows: int = 1, columns: int = 1) -> tuple[Figure, Any]:
    """A figure of ``width`` by ``height`` inches and its axes."""
    drawn = Figure(figsize=(width, height), layout="constrained")
    axes = drawn.subplots(rows, columns, squeeze=False)
    return drawn, axes if rows * columns > 1 else axes[0, 0]


def svg(drawn: Figure, name: str) -> str:
    """The figure as an ``<svg>`` element; the same figure gives the same text.

    ``name`` is its accessible label, and makes the ids of a page's figures distinct.
    """
    text = io.StringIO()
    mark = "f" + hashlib.sha256(name.encode()).hexdigest()[:8]
    with matplotlib.rc_context({"svg.hashsalt": mark}):
        drawn.savefig(
            text, format="svg", metadata={"Date": None, "Creator": None}, transparent=True
        )
    whole = re.sub(r"<!--.*?-->\s*|<metadata>.*?</metadata>\s*", "", text.getvalue(), flags=re.S)
    whole = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{mark}-", whole[whole.index("<svg") :])
    return whole.strip().replace("<svg", f'<svg role="img" aria-label="{html.escape(name)}"', 1)


def colours(names: Sequence[str]) -> dict[str, str]:
    """A color per name: the model's for "model", others in turn."""
    rest = [name for name in names if name != "model"]
    return {"model": MODEL} | {name: OTHERS[k % len(OTHERS)] for k, name in enumerate(rest)}
