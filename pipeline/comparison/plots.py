"""Plots of a comparison as SVG elements."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from uncus.pipeline.comparison.training_dynamics import WITHOUT
from uncus.pipeline.evaluation import metrics
from uncus.pipeline.rendering.svg import FAINT, INK, MODEL, OTHERS, figure, styled, svg

MARKS = "osD^vPX*<>"


def colors(lines: Sequence[str]) -> dict[str, str]:
    """A color for each line; the reference has that of the model in reports."""
    return {name: [MODEL, *OTHERS][k % (len(OTHERS) + 1)] for k, name in enumerate(lines)}


def dashes(index: int) -> str:
    """The style of a line, by its index: dashed where :func:`colors` begins anew."""
    return "-" if index < len(OTHERS) + 1 else "--"


def title(metric: str) -> str:
    """The name of a metric for an axis."""
    return "error (share misclassified)" if metric == "error" else metrics.title(metric)


@styled
def against_batch(result: Mapping[str, Any], metric: str) -> str:
    """A metric against the batch size (log2), one line per norm, with intervals."""
    drawn, axes = figure(7.4, 4.2)
    lines = list(dict.fromkeys(entry["line"] for entry in result["cells"]))
    color = colors(lines)
    for index, line in enumerate(lines):
        some = [e for e in result["cells"] if e["line"] == line and e["status"] == "done"]
        points = [(e["batch_size"], e["metrics"][metric]) for e in some]
        points = [p for p in points if p[1]["value"] is not None]
        if not points:
            continue
        # Shifted, so that intervals do not overlap; by less than halfway to the next batch size.
        shift = 2 ** (min(0.09, 0.6 / len(lines)) * (index - (len(lines) - 1) / 2))
        x = np.array([size * shift for size, _ in points])
        y = np.array([value["value"] for _, value in points])
        for at, (_, value) in zip(x, points, strict=True):
            if value["low"] is not None:
                ends = [value["low"], value["high"]]
                axes.plot([at, at], ends, color=color[line], lw=1.6, alpha=0.45)
        mark = MARKS[index % len(MARKS)] + dashes(index)
        axes.plot(x, y, mark, color=color[line], ms=5.5, lw=1.8, label=line)
    chance = result["chance"].get(metric)
    if chance is not None:
        axes.axhline(chance, color=FAINT, lw=1, ls=(0, (4, 3)), label="constant prediction")
    axes.set_xscale("log", base=2)
    axes.set_xticks(result["batch_sizes"], [str(size) for size in result["batch_sizes"]])
    axes.minorticks_off()
    axes.set_xlabel("batch size (volumes per step)")
    axes.set_ylabel(title(metric))
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    return svg(drawn, f"{title(metric)} against batch size")


@styled
def curves(lines: Mapping[str, Mapping[str, Sequence[float]]], label: str, log: bool = True) -> str:
    """Bands over steps; ``lines`` is name -> ``x``, ``low``, ``high`` and ``middle``."""
    drawn, axes = figure(4.6, 3.4)
    color = colors(list(lines))
    for name, band in lines.items():
        axes.fill_between(band["x"], band["low"], band["high"], color=color[name], alpha=0.25, lw=0)
        axes.plot(
            band["x"], band.get("middle", band["high"]), color=color[name], lw=1.4, label=name
        )
    if log:
        axes.set_yscale("log")
        # Plain numbers: an SVG would show the TeX of powers of ten.
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("step")
    axes.set_ylabel(label)
    axes.legend()
    return svg(drawn, label)


@styled
def levels(lines: Mapping[str, Mapping[str, Sequence[float]]], x: str, y: str) -> str:
    """One line per norm: strength ``x`` against ``y``."""
    drawn, axes = figure(4.6, 3.4)
    color = colors(list(lines))
    for index, (name, line) in enumerate(lines.items()):
        mark = MARKS[index % len(MARKS)]
        axes.plot(line["x"], line["y"], mark + "-", color=color[name], ms=5, lw=1.6, label=name)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.legend()
    return svg(drawn, f"{y} against {x}")


@styled
def dynamics(sizes: Mapping[str, Mapping[str, Any]]) -> str:
    """Loss band, change of the gradient and smoothness over a training; a column per batch size."""
    shown: dict[str, Callable[[Mapping[str, Any]], Any]] = {
        "width of the loss band": lambda bands: np.subtract(bands["high"], bands["low"]),
        "largest change of the gradient": lambda bands: np.array(bands["change_high"]),
        "effective beta-smoothness": lambda bands: np.array(bands["beta"]),
    }
    drawn, grid = figure(3.4 * len(sizes) + 1.6, 2.4 * len(shown), len(shown), len(sizes))
    grid = np.reshape(grid, (len(shown), len(sizes)))
    color = colors(list(dict.fromkeys(name for lines in sizes.values() for name in lines)))
    color |= {WITHOUT: INK}
    for k, (column, (batch, lines)) in enumerate(zip(grid.T, sizes.items(), strict=True)):
        column[0].set_title(f"batch size {batch}", fontsize=10)
        column[-1].set_xlabel("share of the training")
        for axes, (label, value) in zip(column, shown.items(), strict=True):
            for index, (name, entry) in enumerate(lines.items()):
                if entry["bands"].get("step"):
                    x = np.array(entry["bands"]["step"]) / entry["steps"]
                    style = "--" if name == WITHOUT else dashes(index)
                    y = np.maximum(value(entry["bands"]), 1e-9)
                    axes.plot(x, y, style, color=color[name], lw=1.3, label=name)
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axes.yaxis.set_minor_formatter(NullFormatter())
            axes.set_ylabel("" if k else label)
    handles, names = grid[0, 0].get_legend_handles_labels()
    drawn.legend(handles, names, loc="outside right upper")
    return svg(drawn, "smoothness of the training by norm and batch size")
