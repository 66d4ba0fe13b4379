"""The page of a comparison, which reads its table for you."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from uncus import NOTICE
from uncus.data import files
from uncus.pipeline.comparison import plots
from uncus.pipeline.evaluation.report import CSS, card, table
from uncus.pipeline.evaluation.report_text import number, span, spoken, text
from uncus.pipeline.runs import Comparison

EXTRA = """
td.worse { background:#fbe9e2 } td.better { background:#e4f3e6 } td.cannot { color:var(--faint) }
td.best { font-weight:650 }
"""
Found = Mapping[str, Any]


def write(out: Path, found: Found) -> None:
    """index.html, which needs no other file, and a plot of each metric."""
    for metric in found["metrics"]:
        files.write_text(Comparison(out).plot(metric), plots.against_batch(found, metric) + "\n")
    files.write_text(Comparison(out).page, page(found))


def at(found: Found, line: str, batch: int) -> Any:
    """The cell of a line at a batch size."""
    cells = found["cells"]
    return next((c for c in cells if c["line"] == line and c["batch_size"] == batch), None)


def verdict(found: Found, entry: Mapping[str, Any]) -> str:
    """better, worse, or "" where the interval of a difference holds 0 or is not known."""
    value = entry[found["metric"]]
    if value["low"] is None or value["low"] * value["high"] <= 0:
        return ""
    return "better" if (value["value"] < 0) == found["lower_is_better"] else "worse"


def at_batch(found: Found, batch: int) -> str:
    """What holds at one batch size, in a sentence: who is within whose error."""
    metric, line = found["metric"], found["reference"]
    own = at(found, line, batch)
    if own is None or own["status"] != "done":
        return f"At batch {batch} the reference, {line}, could not be trained."
    groups: dict[str, list[str]] = {"": [], "worse": [], "better": []}
    for entry in found["differences"]:
        if entry["batch_size"] == batch:
            judged = verdict(found, entry)
            by = f" by {spoken(distance(entry[metric]))}" if judged else ""
            groups[judged].append(entry["line"] + by)
    out = f"At batch {batch}, {line} has {short(metric)} {spoken(own['metrics'][metric])}"
    if groups[""]:
        out += f"; {listed(groups[''])} cannot be told from it"
    for judged in ("better", "worse"):
        if groups[judged]:
            verb = "are" if len(groups[judged]) > 1 else "is"
            out += f"; {judged} than it {verb} {listed(groups[judged])}"
    cannot = [
        c["line"] for c in found["cells"] if c["batch_size"] == batch and c["status"] == "cannot"
    ]
    if cannot:
        out += f"; {listed(cannot)} cannot be trained at all"
    return out + "."


def distance(value: Mapping[str, float | None]) -> dict[str, float | None]:
    """A difference without its sign."""
    if value["value"] is None or value["value"] >= 0:
        return dict(value)
    low, high = value["low"], value["high"]
    return {
        "value": -value["value"],
        "low": None if high is None else -high,
        "high": None if low is None else -low,
    }


def from_large_to_small(found: Found) -> list[str]:
    """What each norm loses from its largest batch to the smallest it can be trained at."""
    metric = found["metric"]
    told = []
    for line in dict.fromkeys(entry["line"] for entry in found["falls"]):
        entries = [entry for entry in found["falls"] if entry["line"] == line]
        entry = min(entries, key=lambda e: e["batch_size"])
        judged = verdict(found, entry)
        sizes = f"from batch {entry['minus_batch_size']} to {entry['batch_size']}"
        change = spoken(distance(entry[metric]))
        told.append(
            f"{line}: {judged} by {change} {sizes}"
            if judged
            else f"{line}: no change beyond chance {sizes} ({spoken(entry[metric])})"
        )
    return told


def listed(names: list[str]) -> str:
    """``a, b and c``."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def short(metric: str) -> str:
    """The name of a metric in a sentence."""
    return "error" if metric == "error" else plots.title(metric)


def best(found: Found) -> Any:
    """The cell of the best value."""
    done = [c for c in found["cells"] if c["status"] == "done"]
    done = [c for c in done if c["metrics"][found["metric"]]["value"] is not None]
    sign = 1 if found["lower_is_better"] else -1
    return min(done, key=lambda c: sign * c["metrics"][found["metric"]]["value"], default=None)


def plain_summary(found: Found) -> str:
    """The reading, for the terminal."""
    if best(found) is None:
        return f"no cell could be trained: {found['cells'][0].get('reason', '')}"
    return "\n".join([at_batch(found, b) for b in found["batch_sizes"]])


def cells_table(found: Found, metric: str) -> str:
    """Norms as rows, batch sizes as columns; coloured where the difference is beyond chance."""
    judged = {(e["line"], e["batch_size"]): verdict(found, e) for e in found["differences"]}
    top = best(found)
    rows = []
    for line in dict.fromkeys(c["line"] for c in found["cells"]):
        cells = []
        for batch in found["batch_sizes"]:
            entry = at(found, line, batch)
            if entry is None:
                cells.append("<td></td>")
            elif entry["status"] == "cannot":
                cells.append(f'<td class=cannot title="{text(entry["reason"])}">cannot</td>')
            else:
                value = entry["metrics"][metric]
                kind = judged.get((line, batch), "") if metric == found["metric"] else ""
                kind += " best" if entry is top and metric == found["metric"] else ""
                around = f"<small>{span(value)}</small>"
                cells.append(f'<td class="{kind}">{number(value["value"])}{around}</td>')
        rows.append(f"<tr><th scope=row>{text(line)}</th>{''.join(cells)}</tr>")
    head = "".join(f"<th>batch {batch}</th>" for batch in found["batch_sizes"])
    return (
        f"<div class=scroll><table><thead><tr><th>{text(plots.title(metric))}</th>{head}"
        f"</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def page(found: Found) -> str:
    """The HTML."""
    what = ", ".join(found["target"])
    body = [
        f"<h1>Norms and batch sizes <span class=faint>· predicting {text(what)}</span></h1>",
        f"<div class=notice>{text(NOTICE)}</div>",
    ]
    top = best(found)
    if top is None:
        body.append("<p class=lead>No cell could be trained.</p>")
    else:
        metric = found["metric"]
        others = [m for m in found["metrics"] if m != metric]
        small = min(found["batch_sizes"], key=lambda b: (abs(b - 2), b))
        body += [
            f"<p class=lead>{text(at_batch(found, small))}</p>",
            "<div class=figures>",
            card(
                "",
                plots.against_batch(found, metric),
                f"Mean over {found['seeds']} seeds; bars: 95% over people and seeds.",
                "wide",
            ),
            "</div>",
            cells_table(found, metric),
            "<p class=faint><small>Green is better and red worse than "
            f"{text(found['reference'])} at the same batch size, beyond the 95% interval of the "
            "paired difference. Bold: the best cell. With this many comparisons about one in "
            "twenty differs by chance alone.</small></p>",
            "<h2>What it says</h2><ul>",
            *(f"<li>{text(at_batch(found, batch))}</li>" for batch in found["batch_sizes"]),
            "</ul><h2>From the largest batch to the smallest</h2><ul>",
            *(f"<li>{text(told)}</li>" for told in from_large_to_small(found)),
            "</ul>",
            f"<h2>Differences from {text(found['reference'])}, paired</h2>",
            table(
                ["", *(f"batch {b}" for b in found["batch_sizes"])],
                difference_rows(found),
            ),
        ]
        for other in others:
            body += [
                f"<h2>{text(plots.title(other))}</h2><div class=figures>",
                card("", plots.against_batch(found, other), "As above.", "wide"),
                f"</div>{cells_table(found, other)}",
            ]
    reasons = {c["name"]: c["reason"] for c in found["cells"] if c["status"] == "cannot"}
    if reasons:
        body.append("<h2>What cannot be trained</h2><ul>")
        body += [f"<li><b>{text(name)}</b>: {text(why)}</li>" for name, why in reasons.items()]
        body.append("</ul>")
    if found.get("dynamics"):
        body.append(dynamics_section(found["dynamics"]))
    body += [
        "<h2>How it was made</h2>",
        f"<p>{text(found['rule'][:1].upper() + found['rule'][1:])}. Every value is out of fold, on "
        f"{found.get('scans', 0)} scans of {found.get('subjects', 0)} people whom the network "
        f"never saw. Intervals: {found['interval']['draws']} draws of people, with all of their "
        "scans, and of seeds; every cell meets the same draws.</p>",
        f"<footer>{text(NOTICE)} Made by uncus {text(found['version'])}; the same numbers are in "
        "compare.json and table.tsv beside this page.</footer>",
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>uncus compare</title><style>{CSS}{EXTRA}</style></head>"
        f"<body><main>{''.join(body)}</main></body></html>\n"
    )


def difference_rows(found: Found) -> list[list[object]]:
    """One row a line: its paired difference from the reference at each batch size."""
    rows: list[list[object]] = []
    for line in dict.fromkeys(entry["line"] for entry in found["differences"]):
        row: list[object] = [line]
        for batch in found["batch_sizes"]:
            some = [
                e for e in found["differences"] if e["line"] == line and e["batch_size"] == batch
            ]
            row.append(spoken(some[0][found["metric"]]) if some else "–")
        rows.append(row)
    return rows


def dynamics_section(found: Found) -> str:
    """The part of the page: curves of every norm."""
    lines: Mapping[str, Any] = found["lines"]

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
        }

    cards = [
        card(
            "",
            plots.curves(band("low", "high", "loss"), "loss along the step", log=False),
            "Five step sizes.",
        ),
        card(
            "",
            plots.curves(
                band("change_low", "change_high", "change_high"), "change of the gradient"
            ),
            "Least to largest over the five step sizes.",
        ),
        card(
            "",
            plots.curves(band("beta", "beta", "beta"), "effective beta-smoothness"),
            "Lower: smoother.",
        ),
        card(
            "",
            plots.levels(strength("noise"), "noise after each norm (SD)", "test loss"),
            "Trained with the noise, tested without.",
        ),
        card(
            "",
            plots.levels(strength("dropout"), "dropout after each norm", "test loss"),
            "Trained with the dropout, tested without.",
        ),
    ]
    return (
        f"<h2>Training dynamics at batch {found['batch_size']}</h2><p>The first {found['steps']} "
        "steps of each training at a constant learning rate; the mean over seeds. Step sizes are "
        "1/4, 1/2, 1, 2 and 4 times the optimizer's own.</p>"
        f"<div class='figures pairs'>{''.join(cards)}</div>"
    )
