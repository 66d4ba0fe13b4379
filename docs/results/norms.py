"""Writes norms.md from norms.json, or first runs the commands that measure it.

    python docs/results/norms.py [SOURCE WORK]

SOURCE is the BIDS-like dataset of OASIS-1 slabs, WORK a folder for cohorts and comparisons, which
continue where they were interrupted. UNCUS_EPOCHS sets the epochs of age, dementia and the phantom,
by default 6,6,12.
"""

import json
import os
import shlex
import sys
from pathlib import Path
from typing import Any

from uncus.pipeline.cli import main
from uncus.pipeline.comparison import plots
from uncus.pipeline.comparison.summary import at_batch, cell_at, from_large_to_small, verdict
from uncus.pipeline.evaluation.report_text import spoken

HERE = Path(__file__).parent
JOBS = 2
EPOCHS = os.environ.get("UNCUS_EPOCHS", "6,6,12").split(",")
NORMS = ("group", "batch", "instance", "layer", "batch_group", "group_plus", "group+ws")
NETWORK = "--backbone resnet10 --width 16 --stem-pool --dropout 0"
TRAINING = "--folds 1 --validation 0 --keep last --lr 0.002 --weight-decay 0.05 --base-batch 2"
SLAB = "--augment.rotate 0 5 0 --augment.translate 3 0 3 --augment.scale 0.05 0 0.05"
TASKS = {
    "age": "--target age --regression --stratify cdr",
    "dementia": '--target cdr --classes CN=0 AD=0.5,1,2 --where "age >= 60"',
    "phantom": "--target diagnosis --classes CN=CN AD=AD",
}
FIVE = TRAINING.replace("--folds 1", "--folds 5")
FURTHER = {
    "groups": f"{TASKS['age']} --norms group --groups 1 2 4 8 16 --batch-sizes 2 --seeds 3 "
    f"{TRAINING}",
    "carried": f"{TASKS['dementia']} --transfer age --norms group batch --groups 8 "
    f"--batch-sizes 1 2 8 --seeds 1 {FIVE}",
}
TITLES = {
    "age": "Age on OASIS-1 (MAE in years)",
    "dementia": "Dementia on OASIS-1 (CDR above 0, subjects aged 60 and over)",
    "phantom": "The phantom cohort",
    "groups": "Number of groups: age at batch size 2",
    "carried": "From age to dementia, in five folds: from scratch, tuned, tuned with frozen norms",
}


def commands() -> tuple[str, ...]:
    """Every command, in order."""
    grid = f"--norms {' '.join(NORMS)} --batch-sizes 1 2 4 8 16 --seeds 3 --groups 8"
    shared = f"--jobs {JOBS} {NETWORK}"
    tasks = [
        f"uncus compare WORK/{'phantom-' * (task == 'phantom')}cohort WORK/{task} {options} "
        f"--epochs {epochs} {grid} {TRAINING} {shared}" + ("" if task == "phantom" else f" {SLAB}")
        for (task, options), epochs in zip(TASKS.items(), EPOCHS, strict=True)
    ]
    further = [
        f"uncus compare WORK/cohort WORK/{name} {options} --epochs {EPOCHS[0]} {shared} {SLAB}"
        for name, options in FURTHER.items()
    ]
    return (
        "uncus prepare SOURCE WORK/cohort --spacing 4 1 4",
        "uncus phantom WORK/phantom-source --subjects 80 --spacing 4",
        "uncus prepare WORK/phantom-source WORK/phantom-cohort --spacing 6",
        *tasks,
        *further,
    )


def run(source: str, work: str) -> None:
    """Run every command; a phantom source that exists is kept."""
    for command in commands():
        words = [w.replace("SOURCE", source).replace("WORK", work) for w in shlex.split(command)]
        if words[1] == "phantom" and (Path(words[2]) / "participants.tsv").exists():
            continue
        print("$", shlex.join(words), flush=True)
        if main(words[1:]) != 0:
            sys.exit("the command failed")


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
            cells.append(spoken(cell["metrics"][metric]) if done else "not trainable")
        rows.append(f"| {line} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def section(task: str, result: dict[str, Any]) -> str:
    """The section of one task: plot, table and summary."""
    metric = result["metric"]
    seconds = sum(cell.get("seconds", 0) for cell in result["cells"])
    parts = [
        f"## {TITLES[task]}",
        f"Tested on {result['scans']} scans of {result['subjects']} subjects, with "
        f"{result['seeds']} seed{'s' * (result['seeds'] > 1)}. A constant prediction reaches "
        f"{result['chance'][metric]:.3f}. Training took {seconds / JOBS / 60:.0f} minutes, two "
        "networks at a time.",
        f"![{metric} against batch size](norms-{task}.svg)",
        table(result, metric),
        *(f"- {at_batch(result, size)}" for size in result["batch_sizes"]),
    ]
    if changes := from_large_to_small(result):
        parts += ["From the largest batch size to the smallest:", *(f"- {c}" for c in changes)]
    if "auc" in result["metrics"]:
        parts += ["AUC:", table(result, "auc")]
    return "\n\n".join(parts).replace("\n\n- ", "\n- ")


def is_learned(result: dict[str, Any]) -> bool:
    """Whether GN differs significantly from chance at any batch size."""
    metric = result["metric"]
    values = [cell["metrics"][metric] for cell in result["cells"] if cell["line"] == "group"]
    return any(not v["low"] <= result["chance"][metric] <= v["high"] for v in values)


def judge(result: dict[str, Any], line: str, size: int, expected: str) -> str:
    """The outcome of a claim that ``line`` is better or worse than GN at a batch size."""
    if not is_learned(result):
        return "nothing learned"
    entries = [d for d in result["differences"] if (d["line"], d["batch_size"]) == (line, size)]
    if not entries:
        return "not measured"
    outcomes = {expected: "confirmed", "": "not significant"}
    outcome = outcomes.get(verdict(result, entries[0]), "contradicted")
    return f"{outcome}: {spoken(entries[0][result['metric']])}"


def judge_group_norm(result: dict[str, Any]) -> str:
    """The outcome of the claim that GN is no worse at the smallest batch size."""
    if not is_learned(result):
        return "nothing learned"
    entries = [fall for fall in result["falls"] if fall["line"] == "group"]
    entry = min(entries, key=lambda fall: fall["batch_size"])
    worse = verdict(result, entry) == "worse"
    change = spoken(entry[result["metric"]])
    return f"{'contradicted' if worse else 'not significantly worse'}: {change}"


def claims(results: dict[str, dict[str, Any]]) -> str:
    """The papers' claims and the outcomes, task by task."""
    papers = {
        "BN is worse at batch size 1 (GN paper: more so, the smaller)": ("batch", 1, "worse"),
        "BN is worse at batch size 2 (GN paper)": ("batch", 2, "worse"),
        "BGN is better than GN at batch size 2 (BGN paper)": ("batch_group", 2, "better"),
        "GN+ is better than GN at batch size 2 (GN+ paper)": ("group_plus", 2, "better"),
        "WS improves GN at batch size 1 (WS paper)": ("group+ws", 1, "better"),
    }
    rows = ["| claim | " + " | ".join(results) + " |", "| --- |" + " --- |" * len(results)]
    for claim, parts in papers.items():
        outcomes = [judge(result, *parts) for result in results.values()]
        rows.append(f"| {claim} | " + " | ".join(outcomes) + " |")
    outcomes = [judge_group_norm(result) for result in results.values()]
    rows.append("| GN is no worse at 1 than at 16 (GN paper) | " + " | ".join(outcomes) + " |")
    return "\n".join(rows)


def write_page(results: dict[str, Any]) -> None:
    """Write norms.md and its plots."""
    page = (HERE / "norms.template.md").read_text()
    page = page.format(
        rule=results["age"]["rule"],
        claims=claims({task: results[task] for task in TASKS}),
        sections="\n\n".join(section(task, result) for task, result in results.items()),
        commands="\n".join(commands()),
        version=results["age"]["version"],
    )
    (HERE / "norms.md").write_text(page)
    for task, result in results.items():
        plot = plots.against_batch(result, result["metric"])
        (HERE / f"norms-{task}.svg").write_text(plot + "\n")


if __name__ == "__main__":
    if len(sys.argv) == 3:
        run(*sys.argv[1:])
        work = Path(sys.argv[2])
        figures = {task: json.loads((work / task / "compare.json").read_text()) for task in TITLES}
        (HERE / "norms.json").write_text(json.dumps(figures, indent=1) + "\n")
    elif len(sys.argv) > 1:
        sys.exit(__doc__)
    write_page(json.loads((HERE / "norms.json").read_text()))
    print(HERE / "norms.md")
