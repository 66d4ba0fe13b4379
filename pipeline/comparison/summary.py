"""The result of a comparison in sentences."""

from collections.abc import Mapping
from typing import Any

from uncus.pipeline.comparison import plots
from uncus.pipeline.evaluation import metrics
from uncus.pipeline.rendering.numbers import estimate_text, number

Result = Mapping[str, Any]
"""The contents of compare.json."""
CANNOT = "inconclusive"


def cell_at(result: Result, line: str, batch: int) -> Any:
    """The cell of a line at a batch size; None if there is none."""
    cells = result["cells"]
    return next((c for c in cells if c["line"] == line and c["batch_size"] == batch), None)


def waiting(cell: Any) -> bool:
    """Whether a cell is still to be trained."""
    return cell is not None and cell["status"] == "waiting"


def verdict(result: Result, entry: Mapping[str, Any]) -> str:
    """better, worse, equal or "inconclusive", of a difference by the result's metric."""
    return str(entry[result["metric"]]["verdict"])


def learned(result: Result, cell: Any) -> bool:
    """Whether balanced accuracy (or R2) exceeds that of a constant prediction, with its interval.

    True if it was not measured.
    """
    name = next((m for m in ("balanced_accuracy", "r2") if m in cell["metrics"]), "")
    value, chance = cell["metrics"].get(name), result.get("chance", {}).get(name)
    if value is None or chance is None or value["value"] is None:
        return True
    low = value["value"] if value["low"] is None else value["low"]
    return bool(low > chance)


def nothing_learned(result: Result, batch: int) -> str:
    """What leads where no line learned anything at a batch size; else ""."""
    cells = [c for c in result["cells"] if c["batch_size"] == batch and c["status"] == "done"]
    if not cells or any(learned(result, cell) for cell in cells):
        return ""
    name = "r2" if "r2" in result["chance"] else "balanced_accuracy"
    found = ", ".join(f"{c['line']} {estimate_text(c['metrics'][name])}" for c in cells)
    chance = number(result["chance"][name])
    return (
        f"At batch size {batch}, nothing was shown to be learned: {metrics.title(name)} is not "
        f"above chance ({chance}) for certain: {found}"
    )


def at_batch(result: Result, batch: int) -> str:
    """The result at one batch size in a sentence: which lines differ from the reference."""
    metric, line = result["metric"], result["reference"]
    reference = cell_at(result, line, batch)
    if reference is None or reference["status"] != "done":
        why = "is not trained yet" if waiting(reference) else "cannot be trained"
        return f"At batch size {batch}, the reference, {line}, {why}."
    cannot = [
        c["line"] for c in result["cells"] if c["batch_size"] == batch and c["status"] == "cannot"
    ]
    if lead := nothing_learned(result, batch):
        return "; ".join([lead, *([f"not trainable: {', '.join(cannot)}"] if cannot else [])]) + "."
    lines: dict[str, list[str]] = {kind: [] for kind in ("worse", "better", "equal", CANNOT)}
    for entry in result["differences"]:
        if entry["batch_size"] == batch:
            judged, value = verdict(result, entry), entry[metric]
            if judged in ("worse", "better"):
                by = f" by {estimate_text(magnitude(value))}"
            elif judged == CANNOT:
                by = f" ({detectable(result, value)} could have been seen)"
            else:
                by = ""
            lines[judged].append(entry["line"] + by)
    lines["not shown to be above chance"] = [
        c["line"]
        for c in result["cells"]
        if c["batch_size"] == batch and c["status"] == "done" and not learned(result, c)
    ]
    lines["not trainable"] = cannot
    title = "error" if metric == "error" else plots.title(metric)
    value = estimate_text(reference["metrics"][metric])
    parts = [f"At batch size {batch}, {line} has {title} {value}"]
    names_of = {"equal": f"equal within {number(result['effect'])}"}
    parts += [f"{names_of.get(kind, kind)}: {', '.join(n)}" for kind, n in lines.items() if n]
    return "; ".join(parts) + "."


def detectable(result: Result, value: Mapping[str, Any]) -> str:
    """The smallest difference that could have been seen; "none" beyond a constant's metric."""
    smallest, chance = value["detectable"], result.get("chance", {}).get(result["metric"])
    if smallest is None or (chance and smallest >= chance):
        return "none"
    return number(smallest)


def detectable_range(result: Result) -> str:
    """The smallest differences that could have been seen, over all pairs of cells; "none"."""
    entries = [row[result["metric"]] for kind in ("differences", "falls") for row in result[kind]]
    known = sorted(e["detectable"] for e in entries if detectable(result, e) != "none")
    return f"{number(known[0])} to {number(known[-1])}" if known else "none"


def magnitude(value: Mapping[str, float | None]) -> dict[str, float | None]:
    """A difference without its sign, with its interval."""
    if value["value"] is None or value["value"] >= 0:
        return dict(value)
    low, high = value["low"], value["high"]
    return {
        "value": -value["value"],
        "low": None if high is None else -high,
        "high": None if low is None else -low,
    }


def from_large_to_small(result: Result) -> list[str]:
    """How each line changes from its largest batch size to its smallest, in sentences."""
    metric = result["metric"]
    sentences = []
    for line in dict.fromkeys(entry["line"] for entry in result["falls"]):
        entries = [entry for entry in result["falls"] if entry["line"] == line]
        entry = min(entries, key=lambda e: e["batch_size"])
        sizes = f"from batch size {entry['minus_batch_size']} to {entry['batch_size']}"
        judged = verdict(result, entry)
        if judged in ("worse", "better"):
            sentences.append(
                f"{line}: {judged} by {estimate_text(magnitude(entry[metric]))} {sizes}"
            )
        else:
            kind = "equal within " + number(result["effect"]) if judged == "equal" else CANNOT
            sentences.append(f"{line}: {kind} {sizes}: {estimate_text(entry[metric])}")
    return sentences


def best_cell(result: Result) -> Any:
    """The cell with the best value; None if none was trained."""
    done = [c for c in result["cells"] if c["status"] == "done"]
    done = [c for c in done if c["metrics"][result["metric"]]["value"] is not None]
    sign = 1 if result["lower_is_better"] else -1
    return min(done, key=lambda c: sign * c["metrics"][result["metric"]]["value"], default=None)


def plain_summary(result: Result) -> str:
    """The result for the terminal."""
    if best_cell(result) is None:
        return f"no cell is trained: {result['cells'][0].get('reason', '')}"
    return "\n".join([at_batch(result, batch) for batch in result["batch_sizes"]])
