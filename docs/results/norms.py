"""Runs the commands behind norms.md and writes it from the comparisons that they leave.

    python docs/results/norms.py SOURCE WORK

SOURCE is the BIDS-like tree of OASIS-1 slabs, WORK a folder for cohorts and runs. A broken run goes
on where it stopped; ``--write`` only writes the page anew from finished comparisons. UNCUS_EPOCHS
takes other numbers of epochs for age, dementia and the phantom, such as 6,6,12.
"""

import json
import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

from uncus.pipeline.cli import main
from uncus.pipeline.comparison import page

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
BESIDES = {
    "groups": f"{TASKS['age']} --norms group --groups 1 2 4 8 16 --batch-sizes 2 --seeds 3 "
    f"{TRAINING}",
    "carried": f"{TASKS['dementia']} --transfer age --norms group batch --groups 8 "
    f"--batch-sizes 1 2 8 --seeds 1 {FIVE}",
}
TITLES = {
    "age": "Age on OASIS-1 (MAE in years)",
    "dementia": "Dementia on OASIS-1 (CDR above 0, people aged 60 and over)",
    "phantom": "The phantom cohort",
    "groups": "How many groups: age at batch 2",
    "carried": "From age to dementia, in five folds: from scratch, tuned, tuned with frozen norms",
}


def commands() -> tuple[str, ...]:
    """Every command, in order."""
    grid = f"--norms {' '.join(NORMS)} --batch-sizes 1 2 4 8 16 --seeds 3 --groups 8"
    shared = f"--jobs {JOBS} {NETWORK}"
    compared = [
        f"uncus compare WORK/{'phantom-' * (task == 'phantom')}cohort WORK/{task} {options} "
        f"--epochs {epochs} {grid} {TRAINING} {shared}" + ("" if task == "phantom" else f" {SLAB}")
        for (task, options), epochs in zip(TASKS.items(), EPOCHS, strict=True)
    ]
    besides = [
        f"uncus compare WORK/cohort WORK/{name} {options} --epochs {EPOCHS[0]} {shared} {SLAB}"
        for name, options in BESIDES.items()
    ]
    return (
        "uncus prepare SOURCE WORK/cohort --spacing 4 1 4",
        "uncus phantom WORK/phantom-source --subjects 80 --spacing 4",
        "uncus prepare WORK/phantom-source WORK/phantom-cohort --spacing 6",
        *compared,
        *besides,
    )


def run(source: str, work: str) -> None:
    """Run every command; comparisons go on by themselves, the rest is skipped where it is done."""
    for command in commands():
        words = [w.replace("SOURCE", source).replace("WORK", work) for w in shlex.split(command)]
        made = Path(words[2] if words[1] == "phantom" else words[3])
        if words[1] == "phantom" and (made / "participants.tsv").exists():
            continue
        print("$", shlex.join(words), flush=True)
        if main(words[1:]) != 0:
            sys.exit("it failed")


def table(found: dict[str, Any], metric: str) -> str:
    """Norms as rows, batch sizes as columns."""
    sizes = found["batch_sizes"]
    rows = [
        "| norm | " + " | ".join(f"batch {size}" for size in sizes) + " |",
        "| --- |" + " --- |" * len(sizes),
    ]
    for line in dict.fromkeys(cell["line"] for cell in found["cells"]):
        cells = []
        for size in sizes:
            cell = page.at(found, line, size)
            done = cell is not None and cell["status"] == "done"
            cells.append(page.spoken(cell["metrics"][metric]) if done else "cannot")
        rows.append(f"| {line} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def part(task: str, found: dict[str, Any]) -> str:
    """The section of one task: picture, table, and what it says."""
    metric = found["metric"]
    seconds = sum(cell.get("seconds", 0) for cell in found["cells"])
    lines = [
        f"## {TITLES[task]}",
        f"{found['scans']} scans of {found['subjects']} people tested, {found['seeds']} "
        f"seed{'s' * (found['seeds'] > 1)}. "
        f"Saying the same of everybody reaches {found['chance'][metric]:.3f}. The epochs took "
        f"{seconds / JOBS / 60:.0f} minutes, two networks at a time.",
        f"![{metric} against batch size](norms-{task}.svg)",
        table(found, metric),
        *(f"- {page.at_batch(found, size)}" for size in found["batch_sizes"]),
    ]
    if falls := page.from_large_to_small(found):
        lines += ["From the largest batch to the smallest:", *(f"- {told}" for told in falls)]
    if "auc" in found["metrics"]:
        lines += ["AUC:", table(found, "auc")]
    return "\n\n".join(lines).replace("\n\n- ", "\n- ")


def learnt(found: dict[str, Any]) -> bool:
    """Whether GN is beyond chance at any batch size; where not, nothing can be compared."""
    metric = found["metric"]
    spans = [cell["metrics"][metric] for cell in found["cells"] if cell["line"] == "group"]
    return any(not span["low"] <= found["chance"][metric] <= span["high"] for span in spans)


def verdicts(found: dict[str, dict[str, Any]]) -> str:
    """The papers' claims beside what came out, task by task."""
    claims = {
        "BN falls at batch 1 (GN paper: the smaller the batch, the more)": ("batch", 1, "worse"),
        "BN falls at batch 2 (GN paper)": ("batch", 2, "worse"),
        "BGN is above GN at batch 2 (BGN paper)": ("batch_group", 2, "better"),
        "GN+ is above GN at batch 2 (GN+ paper)": ("group_plus", 2, "better"),
        "WS helps GN at batch 1 (WS paper)": ("group+ws", 1, "better"),
    }
    rows = ["| claim | " + " | ".join(found) + " |", "| --- |" + " --- |" * len(found)]
    for claim, (line, size, wanted) in claims.items():
        cells = []
        for one in found.values():
            if not learnt(one):
                cells.append("nothing was learnt")
                continue
            some = [d for d in one["differences"] if (d["line"], d["batch_size"]) == (line, size)]
            if not some:
                cells.append("not measured")
                continue
            judged = page.verdict(one, some[0])
            held = {wanted: "holds", "": "cannot be told"}.get(judged, "the contrary")
            cells.append(f"{held}: {page.spoken(some[0][one['metric']])}")
        rows.append(f"| {claim} | " + " | ".join(cells) + " |")
    cells = []
    for one in found.values():
        if not learnt(one):
            cells.append("nothing was learnt")
            continue
        falls = [f for f in one["falls"] if f["line"] == "group"]
        entry = min(falls, key=lambda f: f["batch_size"])
        flat = page.verdict(one, entry) != "worse"
        told = page.spoken(entry[one["metric"]])
        cells.append(f"{'no fall beyond chance' if flat else 'the contrary'}: {told}")
    rows.append("| GN is no worse at batch 1 than at 16 (GN paper) | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def write_page(work: Path) -> tuple[str, dict[str, Any]]:
    """The page, and the figures in it."""
    found = {task: json.loads((work / task / "compare.json").read_text()) for task in TITLES}
    text = (
        (HERE / "norms.template.md")
        .read_text()
        .format(
            rule=found["age"]["rule"],
            verdicts=verdicts({task: found[task] for task in TASKS}),
            parts="\n\n".join(part(task, one) for task, one in found.items()),
            commands="\n".join(commands()),
            version=found["age"]["version"],
        )
    )
    return text, found


if __name__ == "__main__":
    arguments = [a for a in sys.argv[1:] if a != "--write"]
    if len(arguments) != 2:
        sys.exit(__doc__)
    if "--write" not in sys.argv:
        run(*arguments)
    work = Path(arguments[1])
    text, figures = write_page(work)
    for task, one in figures.items():
        shutil.copy(work / task / f"{one['metric']}.svg", HERE / f"norms-{task}.svg")
    (HERE / "norms.md").write_text(text)
    (HERE / "norms.json").write_text(json.dumps(figures, indent=1) + "\n")
    print(HERE / "norms.md")
