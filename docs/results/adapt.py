"""Measures how far a run recovers from another scanner, and writes adapt.md from adapt.json.

    python docs/results/adapt.py [WORK [SLAB]]

WORK is a folder for cohorts and runs, SLAB the BIDS-like tree of OASIS-1 slabs. What is there, and
rows that adapt.json has, are kept; without WORK only the page is written again.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from adapt_measure import (
    BLIND,
    CHOSEN,
    MORE_SEEDS,
    RESULTS,
    SEEDS,
    SEEING,
    TASKS,
    TRAINING,
    run,
)

from uncus.models.norms import NORMS
from uncus.pipeline.comparison.plots import MARKS, colors
from uncus.pipeline.rendering.svg import FAINT, figure, styled, svg

HERE = Path(__file__).parent


def span(value: dict[str, float], least: float = 0) -> str:
    """``0.81 (0.76 to 0.85)``; the interval is Student's, and no AUC is below 0 or above 1."""
    low, high = max(least, value["low"]), min(1, value["high"])
    return f"{value['value']:.2f} ({low:.2f} to {high:.2f})".replace("-0.00", "0.00")


def best(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The row with the highest AUC after."""
    return max(rows, key=lambda row: row["after"]["value"])


def order(row: dict[str, Any]) -> tuple[int, int]:
    """By labels, then method."""
    return row["labels"], ["auto", *BLIND, *SEEING].index(row["method"])


def verdict(row: dict[str, Any]) -> str:
    """Whether half of the loss is recovered; nothing can be where none is shown."""
    if row["lost"]["low"] <= 0:
        return "no loss shown"
    if row["half"]["low"] > 0:
        return "yes"
    if row["half"]["high"] < 0:
        return "no"
    return "yes, not certain" if row["half"]["value"] >= 0 else "no, not certain"


def share(row: dict[str, Any]) -> str:
    """The share of the loss recovered; of no loss shown there is none."""
    if row["lost"]["low"] <= 0:
        return "-"
    return f"{row['gained']['value'] / row['lost']['value']:.2f}"


def section(task: str, rows: list[dict[str, Any]]) -> str:
    """The summary, the figure and the table of one task."""
    norms = list(dict.fromkeys(row["norm"] for row in rows))
    of = {norm: [row for row in rows if row["norm"] == norm] for norm in norms}
    first = {norm: some[0] for norm, some in of.items()}
    ten = {
        norm: next(r for r in some if (r["method"], r["labels"]) == (CHOSEN, 10))
        for norm, some in of.items()
    }
    blind = {n: best(s) for n, some in of.items() if (s := [r for r in some if not r["labels"]])}
    lines = [
        ("AUC on scans of the source's scanner", [span(first[n]["home"]) for n in norms]),
        ("AUC on scans of the other scanner, before", [span(first[n]["before"]) for n in norms]),
        ("lost", [span(first[n]["lost"], -1) for n in norms]),
        (f"AUC after `{CHOSEN}` with 10 labels a class", [span(ten[n]["after"]) for n in norms]),
        ("gained by it", [span(ten[n]["gained"], -1) for n in norms]),
        ("share of the loss recovered", [share(ten[n]) for n in norms]),
        ("gained, less half of the loss", [span(ten[n]["half"], -1) for n in norms]),
        ("**at least half recovered**", [verdict(ten[n]) for n in norms]),
    ]
    for method, labels in dict.fromkeys(
        (r["method"], r["labels"]) for r in sorted(rows, key=order)
    ):
        if (method, labels) == (CHOSEN, 10):
            continue  # above
        cells = []
        for norm in norms:
            found = [r for r in of[norm] if (r["method"], r["labels"]) == (method, labels)]
            keeps = NORMS[norm.partition("+")[0]].running_statistics
            text = "" if keeps or method != "statistics" else "no statistics"
            if found:
                text = span(found[0]["after"])
                text += f" ({', '.join(found[0]['chose'])})" if "chose" in found[0] else ""
            cells.append(text)
        lines.append((f"{method}, {labels_text(labels)}" + " a class" * bool(labels), cells))
    head = [("", norms), ("---", ["---"] * len(norms))]
    table = "\n".join(f"| {title} | {' | '.join(cells)} |" for title, cells in head + lines)

    def leading(key: str, some: dict[str, Any]) -> str:
        name = max(some, key=lambda n: some[n][key]["value"])
        return f"{name} has the highest AUC, {span(some[name][key])}"

    half = [n for n in norms if verdict(ten[n]).startswith("yes")]
    sure = [n for n in norms if verdict(ten[n]) == "yes"]
    recovered = "No norm loses AUC by its 95% interval, so no recovery can be judged."
    if losing := [n for n in norms if verdict(ten[n]) != "no loss shown"]:
        gaining = [n for n in losing if ten[n]["gained"]["low"] > 0]
        recovered = (
            f"Of {len(losing)} norms that lose AUC by their 95% interval, {len(gaining)} gain "
            f"some back by theirs ({', '.join(gaining) or 'none'}). By the mean at least half of "
            f"the loss is recovered for {', '.join(half) or 'none'}, by the whole interval for "
            f"{', '.join(sure) or 'none'}."
        )
    least = min(norms, key=lambda n: first[n]["lost"]["value"])
    said = [
        f"{first[norms[0]]['subjects']} tested subjects, the same in every cell.\n",
        "- Which norm travels best as it is: on scans of the other scanner "
        f"{leading('before', first)}; {least} loses least, {span(first[least]['lost'], -1)}. Norms "
        "were not tested against each other.",
        *without_labels(rows, blind, leading),
        f"- With 10 labels a class, `{CHOSEN}`: {leading('after', ten)}. {recovered}",
        f"- `auto`, which chooses by cross-validation among 20 labelled scans, gains {auto}; "
        f"`{CHOSEN}` itself gains {gains(rows, CHOSEN, 10)}."
        if (auto := gains(rows, "auto", 10))
        else "",
    ]
    title, figure = f"## {TASKS[task]['title']}", f"![AUC by labels](adapt-{task}.svg)"
    parts = [title, "\n".join(filter(None, said)), figure * has_figure(task), table]
    return "\n\n".join(filter(None, parts))


def without_labels(
    rows: list[dict[str, Any]],
    blind: dict[str, dict[str, Any]],
    leading: Callable[[str, dict[str, Any]], str],
) -> list[str]:
    """What the methods without labels reach, and ``auto`` among them."""
    if not blind:
        return []
    methods = ", ".join(dict.fromkeys(f"`{row['method']}`" for row in blind.values()))
    said = [
        f"- Without labels {leading('after', blind)}, by the best method of each norm in these "
        f"tests ({methods})."
    ]
    if auto := gains(rows, "auto", 0):
        said.append(f"- `auto`, which has to choose its method without labels, gains {auto}.")
    return said


def gains(rows: list[dict[str, Any]], method: str, labels: int) -> str:
    """``0.01 to 0.05 by norm``; "" where it was not measured."""
    found = [r["gained"]["value"] for r in rows if (r["method"], r["labels"]) == (method, labels)]
    text = f"{min(found):.2f} to {max(found):.2f} by norm" if found else ""
    return text.replace("-0.00", "0.00")


def has_figure(task: str) -> bool:
    """Whether a task has a figure: that of one method would show no more than its table."""
    return len(TASKS[task]["rows"]) > 1


def labels_text(count: int) -> str:
    """``10 labels``."""
    return f"{count or 'no'} label{'s' * (count != 1)}"


@styled
def plot(rows: list[dict[str, Any]]) -> str:
    """AUC of the best method measured by the number of labels, one line per norm."""
    drawn, axes = figure(7.4, 4.2)
    norms = list(dict.fromkeys(row["norm"] for row in rows))
    color = colors(norms)
    counts = sorted({row["labels"] for row in rows})
    for index, norm in enumerate(norms):
        some = [row for row in rows if row["norm"] == norm]
        points = [(0, some[0]["before"])]
        points += [
            (k + 1, best([r for r in some if r["labels"] == n])["after"])
            for k, n in enumerate(counts)
            if any(r["labels"] == n for r in some)
        ]
        x = np.array([at for at, _ in points]) + 0.06 * (index - (len(norms) - 1) / 2)
        for at, (_, value) in zip(x, points, strict=True):
            axes.plot(
                [at, at],
                [value["low"], min(1, value["high"])],
                color=color[norm],
                lw=1.6,
                alpha=0.45,
            )
        axes.plot(
            x,
            [value["value"] for _, value in points],
            MARKS[index % len(MARKS)] + "-",
            color=color[norm],
            ms=5.5,
            lw=1.8,
            label=norm,
        )
    axes.axhline(0.5, color=FAINT, lw=1, ls=(0, (4, 3)))
    axes.set_xticks(range(len(counts) + 1), ["before", *map(labels_text, counts)])
    axes.set_ylabel("AUC on scans of the other scanner, best method")
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    return svg(drawn, "AUC of the best method by labels a class")


def write_page(result: dict[str, Any]) -> None:
    """Write adapt.md and its figures."""
    sections = []
    for task in TASKS:
        rows = [row for row in result["rows"] if row["task"] == task]
        if rows:
            sections.append(section(task, rows))
            if has_figure(task):
                (HERE / f"adapt-{task}.svg").write_text(plot(rows) + "\n")
    scanner = result["scanner"]
    seconds = sum(row["seconds"] for row in result["rows"])
    page = (HERE / "adapt.template.md").read_text()
    page = page.format(
        gamma=scanner["gamma"],
        bias=", ".join(f"{slope:g}" for slope in scanner["bias"]),
        noise=f"{scanner['noise']:.0%}",
        blur=f"{scanner['blur']:g}",
        training=f"{TRAINING} --seeds {MORE_SEEDS}",
        minutes=f"{seconds / 60:.0f}",
        seeds=SEEDS,
        more=MORE_SEEDS,
        chosen=CHOSEN,
        sections="\n\n".join(sections),
    )
    (HERE / "adapt.md").write_text(page)


if __name__ == "__main__":
    if len(sys.argv) > 3:
        sys.exit(__doc__)
    if len(sys.argv) > 1:
        run(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else None)
    write_page(json.loads(RESULTS.read_text()))
    print(HERE / "adapt.md")
