"""Writes norms.md from norms.json, or first runs the commands that measure it.

    python docs/results/norms.py SOURCE WORK      # everything; continues where it was interrupted
    python docs/results/norms.py WORK             # the page of what is trained so far

SOURCE is the BIDS-like dataset of OASIS-1 slabs, WORK a folder for cohorts and comparisons. The
first may be running while the second is called. UNCUS_JOBS sets the networks trained at once, by
default 1.
"""

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from norms_grid import COMPARISONS, SUBJECTS, TRAINED_ON, commands, gather, networks, run

from uncus.pipeline.comparison import plots, sample_size
from uncus.pipeline.comparison.summary import (
    at_batch,
    cell_at,
    detectable_range,
    from_large_to_small,
    verdict,
)
from uncus.pipeline.comparison.table import LOWER
from uncus.pipeline.comparison.training_dynamics import WITHOUT
from uncus.pipeline.comparison.verdicts import components_of, judged
from uncus.pipeline.evaluation.metrics import title
from uncus.pipeline.rendering.numbers import estimate_text, number

HERE = Path(__file__).parent
CLAIMED_OF = ("age", "phantom")
"""The comparisons that the claims are judged by, as the page shows them."""
SHORT = (*CLAIMED_OF, "phantom-densenet")
"""The comparisons whose results at batch sizes 1 and 2 are the answer."""
TITLES = {
    "phantom": "The phantom: ResNet-10",
    "phantom-further": "The phantom: further norms, and further batch sizes",
    "phantom-starts": "The phantom: from scratch, and pre-trained on age",
    "phantom-resnet18": "The phantom: ResNet-18",
    "phantom-densenet": "The phantom: MONAI's DenseNet-121",
    "age": "Age on OASIS-1 (MAE in years)",
    "dementia-starts": "Dementia on OASIS-1: from scratch, and pre-trained on age",
}


def table(result: dict[str, Any], metric: str) -> str:
    """Norms as rows, batch sizes as columns."""
    sizes = result["batch_sizes"]
    rows = [
        "| norm | " + " | ".join(f"batch size {size}" for size in sizes) + " |",
        "| --- |" + " --- |" * len(sizes),
    ]
    for line in dict.fromkeys(cell["line"] for cell in result["cells"]):
        cells = []
        for size in sizes:
            cell = cell_at(result, line, size)
            done = cell is not None and cell["status"] == "done"
            missing = "–" if cell is None or cell["status"] == "waiting" else "not trainable"
            cells.append(estimate_text(cell["metrics"][metric]) if done else missing)
        rows.append(f"| {line} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def trained(done: int, planned: int) -> str:
    """``12 of 30 networks are trained``; a cell may have more than is planned."""
    return f"{done} of {planned} networks are" if done < planned else f"{done} networks are"


def section(name: str, result: dict[str, Any]) -> str:
    """The section of one comparison: plot, table and summary."""
    metric, (done, _) = result["metric"], result["networks"]
    planned = networks(name, result)
    if not done:
        return f"## {TITLES[name]}\n\nNone of {planned} networks is trained yet."
    seconds = sum(cell.get("seconds", 0) for cell in result["cells"])
    references = [c for c in result["cells"] if c["line"] == result["reference"]]
    known = [c["batch_size"] for c in references if c["status"] == "done"]
    parts = [
        f"## {TITLES[name]}",
        f"{trained(done, planned)} trained, in {seconds / 3600:.1f} hours of one core; "
        f"tested on {result['scans']} scans of {result['subjects']} subjects. A constant prediction"
        f" reaches {result['chance'][metric]:.3f}.",
        plot_of(name, result) if name not in CLAIMED_OF else "The plot is above.",
        table(result, metric),
        f"AUC:\n\n{table(result, RANKS)}" if RANKS in result["metrics"] else "",
        f"Differences from {result['reference']} at the same batch size, and between batch sizes; "
        f"{detectable_range(result)} could have been found, depending on the pair of "
        f"cells. {seeds(result)}",
        failed(result),
        *(f"- {at_batch(result, size)}" for size in known),
        *(f"- {change}" for change in from_large_to_small(result)),
    ]
    return "\n\n".join(filter(None, parts)).replace("\n\n- ", "\n- ")


def seeds(result: dict[str, Any]) -> str:
    """How many seeds the cells have."""
    counts = [
        len(cell["metrics"][result["metric"]]["seeds"])
        for cell in result["cells"]
        if cell["status"] == "done"
    ]
    least, most = min(counts), max(counts)
    if least == most:
        return f"Each cell has {most} seeds."
    return f"Cells have {least} to {most} seeds; a difference is of those that both cells have."


def plot_of(name: str, result: dict[str, Any]) -> str:
    """The plot of a comparison."""
    return f"![{title(result['metric'])} against batch size](norms-{name}.svg)"


def failed(result: dict[str, Any]) -> str:
    """The networks that answer little better than a constant, which decide their cells' means."""
    metric, said = result["metric"], []
    limit = FAILED * result["chance"][metric]
    for cell in result["cells"]:
        values = cell["metrics"][metric]["seeds"] if cell["status"] == "done" else []
        bad = [seed for seed, value in enumerate(values) if value > limit]
        ranks = cell["metrics"]["auc"]["seeds"] if bad and RANKS in result["metrics"] else None
        aucs = f" (AUC {', '.join(number(ranks[seed]) for seed in bad)})" if ranks else ""
        if bad:
            said.append(
                f"{len(bad)} of {len(values)} of {cell['line']} at batch size "
                f"{cell['batch_size']}{aucs}"
            )
    return (
        f"Networks whose {title(metric)} exceeds {number(limit)}, which weigh heavily in the mean "
        f"of their cell: {', '.join(said) or 'none'}."
    )


MANY = 1000
"""Seeds whose number no longer matters."""
FAILED = 0.8
"""Of a constant prediction's error: a network above it answers little better than that."""
RANKS = "auc"
"""The metric that does not depend on where a network's scores lie, only on their order."""
LEVELS = (("noise", "0"), ("noise", "1.001"), ("dropout", "0.5"))
THIRDS = ("first", "middle", "last")
DYNAMICS_CLAIMS: tuple[tuple[str, Callable[[Any, Any], bool]], ...] = (
    (
        "GN makes training smoother in some periods only",
        lambda gn, bn: min(gn["periods"]) < 1 <= max(gn["periods"]),
    ),
    ("BN makes it smoother throughout", lambda gn, bn: max(bn["periods"]) < 1),
    *(
        (
            f"GN loses more to {kind} {level} than BN",
            lambda gn, bn, k=kind, v=level: rise(gn, k, v) > rise(bn, k, v),
        )
        for kind, level in LEVELS[1:]
    ),
)
"""Findings of the GN+ authors, each with its test: from the measurements of GN and of BN at one
batch size, whether it is found here too."""
CLAIMS = (
    ("BN errs more than GN at batch size 1 (GN paper)", "batch", 1, None, "worse"),
    ("BN errs more than GN at batch size 2 (GN paper)", "batch", 2, None, "worse"),
    ("BN is as good as GN at batch size 32 (GN paper)", "batch", 32, None, "equal"),
    ("BN gets worse from batch size 32 to 2 (GN paper)", "batch", 2, 32, "worse"),
    ("GN is flat from batch size 32 to 2 (GN paper)", "group", 2, 32, "equal"),
    ("GN is flat from batch size 32 to 1 (GN paper)", "group", 1, 32, "equal"),
    ("LN errs more than GN at batch size 32 (GN paper)", "layer", 32, None, "worse"),
    ("IN errs more than GN at batch size 32 (GN paper)", "instance", 32, None, "worse"),
    ("BGN errs less than GN at batch size 2 (BGN paper)", "batch_group", 2, None, "better"),
    ("BGN errs less than GN at batch size 1 (BGN paper)", "batch_group", 1, None, "better"),
    ("GN+ errs less than GN at batch size 32 (GN+ paper)", "group_plus", 32, None, "better"),
    ("GN+ errs less than GN at batch size 2 (GN+ paper)", "group_plus", 2, None, "better"),
    ("WS improves GN at batch size 1 (WS paper)", "group+ws", 1, None, "better"),
    ("WS improves GN at batch size 2 (WS paper)", "group+ws", 2, None, "better"),
)
"""Claim, its line and batch size, the batch size it is compared with (None: with GN), and the
verdict that confirms it."""


def claimed(result: dict[str, Any], metric: str) -> list[dict[str, Any] | None]:
    """Each claim's difference, judged in the family of the claims; None if not measured yet."""
    found: list[dict[str, Any] | None] = []
    for _, line, size, other, _ in CLAIMS:
        rows = result["falls"] if other else result["differences"]
        entries = [
            row
            for row in rows
            if (row["line"], row["batch_size"]) == (line, size)
            and row.get("minus_batch_size") == other
        ]
        found.append(entries[0][metric] if entries else None)
    family = [entry for entry in found if entry and entry["seeds"] > 1]
    verdicts = iter(judged(family, result["effect"], metric in LOWER) if family else [])
    return [next(verdicts) if entry and entry["seeds"] > 1 else None for entry in found]


def outcome(expected: str, entry: dict[str, Any] | None, effect: float) -> str:
    """What is to be said of a claim."""
    if entry is None:
        return "not measured yet"
    verdict = entry["verdict"]
    if verdict == "inconclusive":
        return verdict
    if verdict == expected or (expected == "equal" and entry["small"]):
        less = f", by less than {number(effect)}" if entry["small"] and verdict != "equal" else ""
        return f"**holds**{less}"
    if verdict == "equal":
        return f"equal within {number(effect)}"
    return "**does not hold**" + f", it is {verdict}" * (expected == "equal")


def claims(result: dict[str, Any]) -> str:
    """The papers' claims with their verdicts, as a table."""
    metrics = [result["metric"], *(m for m in result["metrics"] if m == RANKS)]
    names = [
        name for m in map(title, metrics) for name in (f"verdict by {m}", f"difference in {m}")
    ]
    names.insert(2, "detectable")
    rows = [f"| claim | {' | '.join(names)} | seeds |", "| --- |" + " --- |" * (len(names) + 1)]
    judgements = zip(*(claimed(result, m) for m in metrics), strict=True)
    for (claim, *_, expected), entries in zip(CLAIMS, judgements, strict=True):
        cells = []
        for entry in entries:
            cells += [outcome(expected, entry, result["effect"])]
            cells += [estimate_text(entry) if entry else ""]
        first = entries[0]
        cells.insert(2, number(first["detectable"]) if first else "")
        rows.append(f"| {claim} | {' | '.join(cells)} | {first['seeds'] if first else ''} |")
    return "\n".join(rows)


def answer(result: dict[str, Any]) -> str:
    """How many claims hold, in a sentence."""
    said = [
        outcome(expected, entry, result["effect"]).partition(",")[0].strip("*")
        for entry, (*_, expected) in zip(claimed(result, result["metric"]), CLAIMS, strict=True)
    ]
    plural = {"holds": "hold", "does not hold": "do not hold"}
    number_of = {one: said.count(one) for one in dict.fromkeys(said)}
    counts = [f"{n} {plural.get(one, one) if n > 1 else one}" for one, n in number_of.items()]
    return f"Of {len(CLAIMS)} claims: {', '.join(counts)}."


def widths(result: dict[str, Any]) -> str:
    """How wide the claims' intervals are, and how wide more networks would leave them."""
    entries = [entry for entry in claimed(result, result["metric"]) if entry]
    limits = [
        parts.estimate(entry["value"], entry["subjects"], result["folds"], MANY).interval
        for entry in entries
        if (parts := components_of(entry))
    ]
    if not limits:
        return ""
    now, least = ([width(interval) for interval in some] for some in (entries, limits))
    effect = result["effect"]
    wide = sum(w >= effect for w in least)
    limit = f"{wide} would stay wider: the spread between the {result['subjects']} subjects remains"
    return (
        f"These intervals are {number(min(now))} to {number(max(now))} wide, "
        f"{sum(w < effect for w in now)} of {len(now)} of them less than {number(effect)}. With "
        f"however many networks, {limit if wide else 'none would stay wider'}."
    )


def width(interval: Mapping[str, Any]) -> float:
    """Of an interval, its width."""
    return float(interval["high"] - interval["low"])


def write_page(results: dict[str, Any]) -> None:
    """Write norms.md and its plots."""
    first = results["phantom"]
    page = (HERE / "norms.template.md").read_text()
    waiting = [TITLES[name] for name in COMPARISONS if name not in results]
    seconds = sum(c.get("seconds", 0) for r in results.values() for c in r["cells"])
    page = page.format(
        short="\n".join(
            f"- {TITLES[name]}. {at_batch(results[name], size)}"
            for name in SHORT
            for size in (1, 2)
        ),
        tasks=only_of("age", "phantom", results),
        trained=sum(result["networks"][0] for result in results.values()),
        hours=f"{seconds / 3600:.1f}",
        waiting=f" Not begun yet: {'; '.join(waiting)}." if waiting else "",
        claims="\n\n".join(
            f"### {TITLES[name]}\n\n{plot_of(name, results[name])}\n\n{answer(results[name])}\n\n"
            f"{claims(results[name])}\n\n{widths(results[name])}"
            for name in CLAIMED_OF
        ),
        effect=number(first["effect"]),
        years=f"{results['age']['effect']:g}",
        plan=plan_table(first),
        dynamics=dynamics(first.get("dynamics")),
        rule=first["rule"],
        subjects=SUBJECTS - TRAINED_ON,
        trained_on=TRAINED_ON,
        sections="\n\n".join(section(name, result) for name, result in results.items()),
        commands="\n".join(commands()),
        version=first["version"],
    )
    (HERE / "norms.md").write_text(page)
    for name, result in results.items():
        if result["metric"]:
            plot = plots.against_batch(result, result["metric"])
            (HERE / f"norms-{name}.svg").write_text(plot + "\n")
    if first.get("dynamics", {}).get("sizes"):
        plot = plots.dynamics(first["dynamics"]["sizes"])
        (HERE / "norms-dynamics.svg").write_text(plot + "\n")


def only_of(real: str, synthetic: str, results: dict[str, Any]) -> str:
    """The norms, by batch size, that err more than the reference in one comparison alone."""
    said = []
    for size in (1, 2):
        verdicts = [
            {d["line"]: verdict(results[name], d) for d in rows if d["batch_size"] == size}
            for name, rows in ((name, results[name]["differences"]) for name in (real, synthetic))
        ]
        lines = [n for n, v in verdicts[0].items() if v == "worse" and verdicts[1][n] == "equal"]
        said.append(f"{', '.join(lines) or 'none'} at batch size {size}")
    return "; ".join(said)


def dynamics(measured: dict[str, Any] | None) -> str:
    """The figure of the training dynamics, and what holds of it."""
    if not measured or not measured["sizes"]:
        return "Not measured yet."
    sizes = measured["sizes"]
    rows = []
    for batch, lines in sizes.items():
        for line, entry in lines.items():
            ratios = entry["periods"]
            if line != WITHOUT and ratios:
                helped = [name for name, r in zip(THIRDS, ratios, strict=True) if r < 1]
                loss = [entry[kind].get(level) for kind, level in LEVELS]
                cells = [batch, line, *map(number, ratios), ", ".join(helped) or "none"]
                rows.append(f"| {' | '.join([*cells, *map(number, loss)])} |")
    thirds = " | ".join(f"{part} third" for part in THIRDS)
    head = [
        f"| batch size | norm | {thirds} | smoother in | test loss | with noise 1.001 | "
        "with dropout 0.5 |",
        "| --- |" + " --- |" * 8,
    ]
    held = [
        (f"{claim}: {', '.join(at) if (at := where(sizes, test)) else 'at none'}")
        for claim, test in DYNAMICS_CLAIMS
    ]
    return "\n\n".join(
        [
            "![smoothness by norm and batch size](norms-dynamics.svg)",
            f"What the GN+ authors report, and at which batch sizes of {', '.join(sizes)} it is so "
            "here:",
            "\n".join(f"- {one}." for one in held),
            "Effective beta-smoothness relative to the network without norms (below 1: smoother), "
            "median of the steps, and the test loss after training without and with disturbance; "
            "means of 3 seeds, without intervals. A constant prediction has a loss of 0.693: where "
            "both norms are near it, their difference says little.",
            "\n".join(head + rows),
        ]
    )


def where(sizes: Mapping[str, Any], test: Callable[[Any, Any], bool]) -> list[str]:
    """The batch sizes at which a test of GN and BN is passed."""
    pairs = {batch: (lines["group"], lines["batch"]) for batch, lines in sizes.items()}
    known = {batch: pair for batch, pair in pairs.items() if all(e["periods"] for e in pair)}
    return [batch for batch, pair in known.items() if test(*pair)]


def rise(entry: Mapping[str, Any], kind: str, level: str) -> float:
    """How much a disturbance in training adds to the test loss."""
    return float(entry[kind][level] - entry[kind]["0"])


def plan_table(result: dict[str, Any]) -> str:
    """The numbers of subjects that the differences need."""
    entries = sample_size.plan(result) if result["differences"] else []
    if not entries:
        return "With one seed so far, the variance between networks is unknown."
    names = list(entries[0])
    rows = ["| " + " | ".join(names) + " |", "| --- |" + " --- |" * (len(names) - 1)]
    for entry in entries:
        cells = ["no number" if value is None else str(value) for value in entry.values()]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


if __name__ == "__main__":
    if len(sys.argv) == 3:
        run(Path(sys.argv[2]), sys.argv[1], commands())
    if len(sys.argv) in (2, 3):
        before = json.loads((HERE / "norms.json").read_text())
        results = gather(Path(sys.argv[-1]), before)
        (HERE / "norms.json").write_text(json.dumps(results, indent=1) + "\n")
    elif len(sys.argv) > 3:
        sys.exit(__doc__)
    write_page(json.loads((HERE / "norms.json").read_text()))
    print(HERE / "norms.md")
