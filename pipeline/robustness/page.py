"""The curves of a robustness measurement, and its page."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from uncus.pipeline.rendering.html import card, document, notice, ribbon, table, text
from uncus.pipeline.rendering.numbers import estimate_text
from uncus.pipeline.rendering.svg import FAINT, MODEL, OTHERS, figure, styled, svg
from uncus.pipeline.robustness.summary import head, headline, loss_text, rows, tolerance
from uncus.pipeline.trust.domain import SYNTHETIC

COLUMNS = 3
HOW = (
    "Each scan is judged only by networks that were not trained on its subject. Disturbances are "
    "applied to the prepared scan, in one direction a scan; after noise, bias field, contrast and "
    "blur, intensities are normalized again as in preparation, after a shift, a rotation and "
    "missing slices not. An adversarial change moves each voxel of the brain by up to the level so "
    "that the network's loss on the true label rises (Goodfellow 2015; Madry 2018, never weaker "
    "than one step): whoever makes it knows the weights and the label. SD is the standard "
    "deviation of the brain's intensities."
)


@styled
def curves(results: Mapping[str, Mapping[str, Any]], what: str = "value") -> str:
    """A panel for each disturbance: the metric (``calls``: the share of calls that change) by
    level, one line for each result, with a band of its interval where there is one result."""
    first = next(iter(results.values()))
    names = list(first["disturbances"])
    lines = -(-len(names) // COLUMNS)
    legend = len(results) > 1
    drawn, axes = figure(3.3 * COLUMNS, 2.3 * lines + 0.5 * legend, lines, COLUMNS)
    panels = np.ravel(axes)
    for panel in panels[len(names) :]:
        panel.set_visible(False)
    for panel, name in zip(panels, names, strict=False):
        one = first["disturbances"][name]
        for k, (title, result) in enumerate(results.items()):
            start = result["plain"] if what == "value" else {"value": 0.0, "low": 0.0, "high": 0.0}
            some = result["disturbances"][name]["levels"]
            points = [start, *(row if what == "value" else row[what] for row in some)]
            y, low, high = (
                np.array([np.nan if p[end] is None else p[end] for p in points])
                for end in ("value", "low", "high")
            )
            x, shade = [0.0, *(row["level"] for row in some)], [MODEL, *OTHERS][k % 7]
            style = "-" if k < 7 else "--"
            panel.plot(x, y, f"o{style}", color=shade, ms=3.5, lw=1.5, label=title)
            if not legend:
                panel.fill_between(x, low, high, color=shade, alpha=0.2, lw=0)
        most = tolerance(first)
        if what == "value" and not legend and most is not None:
            worst = first["plain"]["value"] + (most if first["lower_is_better"] else -most)
            panel.axhline(worst, color=FAINT, lw=1, ls=(0, (4, 3)))
        panel.set_title(one["title"], fontsize=9.5, loc="left")
        panel.set_xlabel(one["unit"], fontsize=8.5)
        panel.tick_params(labelsize=8.5)
    values = [p.get_ylim() for p in panels[: len(names)]]
    for panel in panels[: len(names)]:
        panel.set_ylim(min(low for low, _ in values), max(high for _, high in values))
    if legend:
        drawn.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=6)
    label = first["name"] if what == "value" else head(first)[-1]
    return svg(drawn, f"{label} by disturbance and level")


def page(result: Mapping[str, Any]) -> str:
    """The page: the headline, the curves, every number."""
    counts = f"{result['scans']} scans of {result['subjects']} subjects"
    interval = result["interval"]
    how = (
        f"Bands and brackets: {interval['level']:.0%} intervals, {interval['method']}, "
        f"{interval['draws']} resamples; those of changes are paired."
    )
    dashed = f"Dashed: where the {result['name']} {loss_text(result)}."
    body = [
        ribbon() if SYNTHETIC in result["warnings"] else "",
        f"<h1>Robustness <span class=faint>· {text(result['run'])}</span></h1>",
        notice(),
        f"<p class=lead>{text(headline(result))} Undisturbed it is "
        f"<b>{estimate_text(result['plain'])}</b>, on {counts} of {text(result['cohort'])}.</p>",
        card(result["name"], curves({"": result}), f"{how} {dashed}", "wide"),
        card(head(result)[-1], curves({"": result}, "calls"), "Against undisturbed scans.", "wide"),
        f"<h2>Every level</h2>{table(head(result), rows(result))}",
        f"<p class=faint><small>{text(HOW)}</small></p>",
    ]
    footer = f"Made by uncus {result['version']}; the JSON file beside it contains the numbers."
    return document(f"{result['run']} · uncus robustness", body, footer=footer)
