"""Plots of an evaluation, each an SVG element for a page."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from uncus.pipeline.evaluation.metrics import CALIBRATION_BINS, Array, auc, calibration_bin
from uncus.pipeline.rendering.numbers import number
from uncus.pipeline.rendering.svg import (
    FAINT,
    INK,
    LEGEND,
    MODEL,
    OTHERS,
    RULE,
    SIDE,
    colours,
    figure,
    styled,
    svg,
)


@styled
def forest(
    rows: Mapping[str, Mapping[str, float | None]], label: str, reference: float | None
) -> str:
    """Value and interval of one metric, one line for the model and each baseline."""
    drawn, axes = figure(2 * SIDE, max(SIDE - 0.3, 0.9 + 0.36 * len(rows)))
    shades = colours(list(rows))
    for row, (name, estimate) in enumerate(rows.items()):
        value, low, high = estimate["value"], estimate["low"], estimate["high"]
        if value is None:
            continue
        if low is not None and high is not None:
            axes.plot([low, high], [row, row], color=shades[name], lw=2.4, alpha=0.55)
        axes.plot(value, row, "o", color=shades[name], ms=7 if name == "model" else 5.5)
        axes.annotate(
            number(value), (value, row), (0, 7), textcoords="offset points", ha="center", size=8
        )
    if reference is not None:
        axes.axvline(reference, color=FAINT, lw=1, ls=(0, (4, 3)))
    axes.set_yticks(range(len(rows)), list(rows))
    axes.set_ylim(len(rows) - 0.5, -0.7)
    axes.set_xlabel(label)
    axes.grid(axis="y", visible=False)
    return svg(drawn, f"{label} of the model and the baselines")


def curve(positive: Array, scores: Array) -> tuple[Array, Array]:
    """False and true positive rates at every distinct threshold, from (0, 0) to (1, 1)."""
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.diff(scores[order], append=np.inf))
    true = np.cumsum(positive[order])[ends] / max(positive.sum(), 1)
    false = np.cumsum(~positive[order])[ends] / max((~positive).sum(), 1)
    return np.r_[0, false], np.r_[0, true]


@styled
def roc(labels: Array, values: Mapping[str, Array], names: Sequence[str]) -> str:
    """ROC curves: for two classes, model and baselines; for more, the model's for each class."""
    drawn, axes = figure(SIDE, SIDE)
    axes.plot([0, 1], [0, 1], color=FAINT, lw=1, ls=(0, (4, 3)))
    if len(names) == 2:
        lines = {name: (labels == 1, scores[:, 1]) for name, scores in values.items()}
    else:
        model = values["model"]
        lines = {name: (labels == k, model[:, k]) for k, name in enumerate(names)}
    shades = colours(list(lines))
    for name, (positive, scores) in lines.items():
        area = float(auc(positive, scores, np.ones((1, len(scores))))[0])
        strong = name == "model"
        axes.plot(
            *curve(positive, scores),
            color=shades[name],
            lw=2.4 if strong else 1.4,
            alpha=1 if strong or len(names) > 2 else 0.85,
            zorder=5 if strong else 2,
            label=f"{name}  {area:.2f}",
        )
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    axes.set_xlabel("1 − specificity")
    axes.set_ylabel("sensitivity")
    axes.legend(loc="lower right", title="AUC", title_fontsize=LEGEND)
    return svg(drawn, "ROC curves")


@styled
def calibration(
    labels: Array, probabilities: Array, names: Sequence[str], title: str = "calibration"
) -> str:
    """Share of positives against the mean probability in ten bins, with the number of scans."""
    drawn = Figure(figsize=(SIDE, SIDE), layout="constrained")
    top, bottom = drawn.subplots(2, 1, sharex=True, height_ratios=[3.4, 1])
    top.plot([0, 1], [0, 1], color=FAINT, lw=1, ls=(0, (4, 3)))
    shown = [1] if len(names) == 2 else list(range(len(names)))
    edges = np.linspace(0, 1, CALIBRATION_BINS + 1)
    for number_shown, k in enumerate(shown):
        shade = MODEL if len(shown) == 1 else OTHERS[number_shown % len(OTHERS)]
        scores, positive = probabilities[:, k], labels == k
        bins = calibration_bin(scores)
        points = []
        for index in np.unique(bins):
            inside = bins == index
            share, n = positive[inside].mean(), int(inside.sum())
            low, high = wilson(float(share), n)
            points.append((scores[inside].mean(), share, share - low, high - share))
        x, y, down, up = np.array(points).T
        # Rounding may make a length slightly negative.
        error = np.maximum([down, up], 0) if len(shown) == 1 else None
        top.errorbar(x, y, error, fmt="o-", color=shade, ms=5, lw=1.6, label=names[k])
        bottom.hist(scores, list(edges), color=shade, alpha=0.75 if len(shown) == 1 else 0.4)
    top.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    top.set_ylabel("observed share of " + (names[1] if len(shown) == 1 else "the class"))
    bottom.set_xlabel("probability of " + (names[1] if len(shown) == 1 else "the class"))
    bottom.set_ylabel("scans")
    if len(shown) > 1:
        top.legend(loc="upper left")
    return svg(drawn, title)


def wilson(share: float, n: int) -> tuple[float, float]:
    """95% interval of a share of n (Wilson 1927)."""
    z = 1.96
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return float(middle - half), float(middle + half)


@styled
def confusion(table: Sequence[Sequence[int]], names: Sequence[str]) -> str:
    """Scans of each class (rows) by predicted class, with the share of the row."""
    counts = np.array(table)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = max(SIDE, 1.6 + 0.7 * len(names))
    drawn, axes = figure(side, side)
    tint = matplotlib.colors.LinearSegmentedColormap.from_list("tint", ["#f4f7f8", MODEL])
    axes.pcolormesh(share, cmap=tint, vmin=0, vmax=1, edgecolor="white", linewidth=2)
    axes.set(xlim=(0, len(names)), ylim=(len(names), 0), aspect="equal")
    for row in range(len(names)):
        for column in range(len(names)):
            dark = share[row, column] > 0.55
            axes.text(
                column + 0.5,
                row + 0.5,
                f"{counts[row, column]}\n{share[row, column]:.0%}",
                ha="center",
                va="center",
                color="white" if dark else INK,
            )
    axes.set_xticks(np.arange(len(names)) + 0.5, list(names))
    axes.set_yticks(np.arange(len(names)) + 0.5, list(names))
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    return svg(drawn, "confusion matrix")


@styled
def scores(labels: Array, probabilities: Array, names: Sequence[str]) -> str:
    """Histograms of the positive class's probability for each class (two classes)."""
    drawn, axes = figure(SIDE, SIDE)
    edges = np.linspace(0, 1, 21)
    for k, (name, shade) in enumerate(zip(names, (OTHERS[5], MODEL), strict=True)):
        axes.hist(probabilities[labels == k, 1], list(edges), color=shade, alpha=0.6, label=name)
    axes.axvline(0.5, color=FAINT, lw=1, ls=(0, (4, 3)))
    axes.set_xlabel(f"probability of {names[1]}")
    axes.set_ylabel("scans")
    axes.legend(loc="upper center", ncols=2, bbox_to_anchor=(0.5, 1.14))
    return svg(drawn, f"probabilities of {names[1]}, by class")


@styled
def scatter(true: Array, predicted: Array, name: str) -> str:
    """Predicted against true values of one column, with the line of equality."""
    drawn, axes = figure(SIDE, SIDE)
    known = np.isfinite(true)
    values = np.r_[true[known], predicted[known]]
    margin = 0.04 * (np.ptp(values) or 1)
    ends = [values.min() - margin, values.max() + margin]
    axes.plot(ends, ends, color=FAINT, lw=1, ls=(0, (4, 3)))
    axes.plot(true[known], predicted[known], "o", color=MODEL, ms=4.5, alpha=0.55, mew=0)
    axes.set(xlim=ends, ylim=ends, aspect="equal")
    axes.set_xlabel(f"{name}, true")
    axes.set_ylabel(f"{name}, predicted")
    return svg(drawn, f"{name}, predicted against true")


@styled
def bland_altman(pairs: Array, agreement: Mapping[str, Any], label: str) -> str:
    """Difference of two sessions against their mean (Bland & Altman 1986), bias and limits."""
    drawn, axes = figure(5.2, 3.2)
    mean, difference = pairs.mean(axis=1), pairs[:, 1] - pairs[:, 0]
    axes.axhline(0, color=RULE, lw=1)
    for value, style in (
        (agreement["bias"], "-"),
        *((limit, (0, (4, 3))) for limit in agreement["limits"]),
    ):
        if value is not None:
            axes.axhline(value, color=FAINT, lw=1, ls=style)
            axes.annotate(
                number(value),
                (1, value),
                (4, 0),
                xycoords=("axes fraction", "data"),
                textcoords="offset points",
                va="center",
                size=8,
                color=FAINT,
            )
    axes.plot(mean, difference, "o", color=MODEL, ms=5, alpha=0.7, mew=0)
    axes.set_xlabel(f"{label}, mean of the two sessions")
    axes.set_ylabel("second − first")
    return svg(drawn, f"Bland-Altman plot of {label}")


@styled
def training(curves: Mapping[str, pd.DataFrame]) -> str:
    """Loss and validation score by epoch, one line per network; "" if nothing was logged."""
    panels = [
        ("loss, training", "loss"),
        ("loss, validation", "val_loss"),
        ("validation score", "score"),
    ]
    panels = [p for p in panels if any(p[1] in frame for frame in curves.values())]
    if not panels:
        return ""
    drawn, axes = figure(3.3 * len(panels), 2.7, 1, len(panels))
    for (label, column), ax in zip(panels, np.ravel(axes), strict=True):
        for index, (name, frame) in enumerate(curves.items()):
            if column not in frame:
                continue
            values = pd.to_numeric(frame[column], errors="coerce")
            epochs = frame["epoch"] if "epoch" in frame else np.arange(len(frame))
            shade = [MODEL, *OTHERS][index % (len(OTHERS) + 1)]
            ax.plot(epochs, values, color=shade, lw=1.3, alpha=0.85, label=name)
        ax.set_title(label, fontsize=10, loc="left")
        ax.set_xlabel("epoch")
    if 1 < len(curves) <= 10:
        np.ravel(axes)[-1].legend(fontsize=7)
    return svg(drawn, "loss and validation score by epoch")
