"""The page of a comparison."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from uncus.data import files
from uncus.pipeline.comparison import plots
from uncus.pipeline.comparison.summary import (
    Result,
    at_batch,
    best_cell,
    cell_at,
    detectable_range,
    from_large_to_small,
    verdict,
    waiting,
)
from uncus.pipeline.comparison.verdicts import spoken
from uncus.pipeline.rendering.html import card, document, notice, table, text
from uncus.pipeline.rendering.numbers import estimate_text, interval_text, number
from uncus.pipeline.runs import Comparison

EXTRA = """
td.worse { background:#fbe9e2 } td.better { background:#e4f3e6 } td.cannot { color:var(--faint) }
td.best { font-weight:650 }
"""


def write(out: Path, result: Result) -> None:
    """Write index.html, which is self-contained, and a plot of each metric."""
    for metric in result["metrics"]:
        files.write_text(Comparison(out).plot(metric), plots.against_batch(result, metric) + "\n")
    files.write_text(Comparison(out).page, page(result))


def cells_table(result: Result, metric: str) -> str:
    """Norms as rows, batch sizes as columns; colored where the difference is significant."""
    judged = {(e["line"], e["batch_size"]): verdict(result, e) for e in result["differences"]}
    top = best_cell(result)
    rows = []
    for line in dict.fromkeys(c["line"] for c in result["cells"]):
        cells = []
        for batch in result["batch_sizes"]:
            entry = cell_at(result, line, batch)
            if entry is None:
                cells.append("<td></td>")
            elif entry["status"] != "done":
                word = "not trained yet" if waiting(entry) else "not trainable"
                cells.append(f'<td class=cannot title="{text(entry["reason"])}">{word}</td>')
            else:
                value = entry["metrics"][metric]
                kind = judged.get((line, batch), "") if metric == result["metric"] else ""
                kind += " best" if entry is top and metric == result["metric"] else ""
                interval = f"<small>{interval_text(value)}</small>"
                cells.append(f'<td class="{kind}">{number(value["value"])}{interval}</td>')
        rows.append(f"<tr><th scope=row>{text(line)}</th>{''.join(cells)}</tr>")
    head = "".join(f"<th>batch size {batch}</th>" for batch in result["batch_sizes"])
    return (
        f"<div class=scroll><table><thead><tr><th>{text(plots.title(metric))}</th>{head}"
        f"</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def page(result: Result) -> str:
    """The page as HTML."""
    target = ", ".join(result["target"])
    body = [
        f"<h1>Norms and batch sizes <span class=faint>· predicting {text(target)}</span></h1>",
        notice(),
    ]
    top = best_cell(result)
    if top is None:
        body.append("<p class=lead>No cell is trained.</p>")
    else:
        metric = result["metric"]
        others = [m for m in result["metrics"] if m != metric]
        small = min(result["batch_sizes"], key=lambda b: (abs(b - 2), b))
        body += [
            f"<p class=lead>{text(at_batch(result, small))}</p>",
            "<div class=figures>",
            card(
                "",
                plots.against_batch(result, metric),
                spread(result),
                "wide",
            ),
            "</div>",
            cells_table(result, metric),
            "<p class=faint><small>Green is better and red worse than "
            f"{text(result['reference'])} at the same batch size. Bold: the best cell.</small></p>",
            "<h2>Summary</h2><ul>",
            *(f"<li>{text(at_batch(result, batch))}</li>" for batch in result["batch_sizes"]),
            "</ul><h2>From the largest batch size to the smallest</h2><ul>",
            *(f"<li>{text(sentence)}</li>" for sentence in from_large_to_small(result)),
            "</ul>",
            f"<h2>Paired differences from {text(result['reference'])}</h2>",
            table(
                ["", *(f"batch size {b}" for b in result["batch_sizes"])],
                difference_rows(result),
            ),
        ]
        for other in others:
            body += [
                f"<h2>{text(plots.title(other))}</h2><div class=figures>",
                card("", plots.against_batch(result, other), "As above.", "wide"),
                f"</div>{cells_table(result, other)}",
            ]
    reasons = {c["name"]: c["reason"] for c in result["cells"] if c["status"] == "cannot"}
    if reasons:
        body.append("<h2>Cells that cannot be trained</h2><ul>")
        body += [f"<li><b>{text(name)}</b>: {text(why)}</li>" for name, why in reasons.items()]
        body.append("</ul>")
    if result.get("dynamics"):
        body += [dynamics_section(*size) for size in result["dynamics"]["sizes"].items()]
    body += ["<h2>Methods</h2>", f"<p>{text(methods(result))}</p>"]
    footer = (
        f"Made by uncus {result['version']}; compare.json and table.tsv in the same folder contain "
        "the numbers."
    )
    return document("uncus compare", body, EXTRA, footer)


def methods(result: Result) -> str:
    """How the cells were trained and compared, in sentences."""
    done, planned = result["networks"]
    so_far = f" So far {done} of {planned} networks are trained." if done < planned else ""
    seen = detectable_range(result)
    smallest = (
        f" With a power of 0.8, differences of {seen} or more would have been found, depending "
        "on the pair of cells."
        if seen != "none"
        else " No difference would have been found with a power of 0.8."
    )
    return (
        f"{result['rule'][:1].upper()}{result['rule'][1:]}. All values are out of fold, on "
        f"{result.get('scans', 0)} scans of {result.get('subjects', 0)} subjects that the networks "
        f"were not trained on.{so_far} Intervals are over subjects and seeds, as crossed random "
        "effects (Dorfman 1992, Hillis 2007); differences are paired by both, for the seeds that "
        f"both cells have. A cell is better or worse, or equal within {number(result['effect'])} "
        "(two one-sided tests, Schuirmann 1987), if p is below 0.05 after correction for all "
        "differences between norms, or for all between batch sizes (Holm 1979, Shaffer 1986); "
        "with a single seed every difference is inconclusive. The intervals of "
        "differences are not corrected."
        f"{smallest}"
    )


def spread(result: Result) -> str:
    """What a plot shows."""
    if result["seeds"] == 1:
        return "One seed, with 95% intervals over subjects alone."
    return f"Mean over {result['seeds']} seeds, with 95% intervals over subjects and seeds."


def difference_rows(result: Result) -> list[list[object]]:
    """One row per line: its paired difference from the reference at each batch size."""
    values = {
        (entry["line"], entry["batch_size"]): estimate_text(entry[result["metric"]])
        + f", {spoken(entry[result['metric']], result['effect'])}"
        for entry in result["differences"]
    }
    lines = dict.fromkeys(line for line, _ in values)
    return [[line, *(values.get((line, b), "–") for b in result["batch_sizes"])] for line in lines]


def dynamics_section(batch: str, lines: Mapping[str, Any]) -> str:
    """The section on training dynamics at a batch size: curves of every norm."""

    def band(low: str, high: str, middle: str) -> dict[str, dict[str, list[float]]]:
        return {
            name: {
                "x": entry["bands"]["step"],
                "low": entry["bands"][low],
                "high": entry["bands"][high],
                "middle": entry["bands"][middle],
            }
            for name, entry in lines.items()
            if entry["bands"].get("step")
        }

    def strength(kind: str) -> dict[str, dict[str, list[float]]]:
        return {
            name: {
                "x": [float(k) for k, v in entry[kind].items() if v is not None],
                "y": [v for v in entry[kind].values() if v is not None],
            }
            for name, entry in lines.items()
            if entry[kind]
        }

    loss = plots.curves(band("low", "high", "loss"), "loss along the step", log=False)
    change = band("change_low", "change_high", "change_high")
    noise = plots.levels(strength("noise"), "noise after each norm (SD)", "test loss")
    dropout = plots.levels(strength("dropout"), "dropout after each norm", "test loss")
    beta = plots.curves(band("beta", "beta", "beta"), "effective beta-smoothness")
    cards = [
        card("", loss, "Range over the five step sizes."),
        card("", plots.curves(change, "change of the gradient"), "Range over the five step sizes."),
        card("", beta, "Lower is smoother."),
        card("", noise, "Trained with noise, tested without."),
        card("", dropout, "Trained with dropout, tested without."),
    ]
    steps = next(iter(lines.values()))["steps"]
    rows = [
        [name, *map(number, entry["periods"])] for name, entry in lines.items() if entry["periods"]
    ]
    smoother = table(["beta relative to none", "first third", "middle", "last third"], rows)
    return (
        f"<h2>Training dynamics at batch size {batch}</h2><p>The first {steps} steps of a training "
        "at a constant learning rate; means over seeds. The step sizes are 1/4, 1/2, 1, 2 and 4 "
        f"times the optimizer's. Below 1, a norm makes that third of the training smoother.</p>"
        f"{smoother}<div class='figures pairs'>{''.join(cards)}</div>"
    )
