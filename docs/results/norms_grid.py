"""The comparisons behind norms.md: their commands, and what is trained of them so far.

Used by norms.py.
"""

import json
import os
import shlex
import sys
from pathlib import Path
from typing import Any

import pandas as pd

from uncus.pipeline.cli import main

MAIN = ("group", "batch", "group+ws", "batch_group", "group_plus", "layer", "instance")
FURTHER = ("frn", "batch_channel", "positional")
SUBJECTS, TRAINED_ON = 1300, 300
TRAINING = "--validation 0 --keep last --weight-decay 0.05 --base-batch 2 --groups 4 --dropout 0"
SMALL = "--backbone resnet10 --width 8 --lr 0.002"
PHANTOM = (
    "--target diagnosis --classes CN=CN AD=AD --splits WORK/phantom-splits.tsv --epochs 20 "
    "--augment.rotate 0 --augment.scale 0 --augment.bias 0 --augment.translate 6 " + TRAINING
)
SLAB = (
    f"--folds 5 --epochs 10 {TRAINING} {SMALL} --stem-pool "
    "--augment.rotate 0 5 0 --augment.translate 3 0 3 --augment.scale 0.05 0 0.05"
)
SIZES, CLAIMED_SIZES = (1, 2, 4, 8, 16, 32), (1, 2, 8, 32)


def cells(norms: tuple[str, ...], sizes: tuple[int, ...]) -> tuple[str, ...]:
    """Names of the grid's cells."""
    return tuple(f"{norm}-b{batch}" for norm in norms for batch in sizes)


ALL = cells(MAIN, CLAIMED_SIZES)
AGE_CLAIMED = cells(MAIN[:5], (1, 2)) + cells(("group", "batch", *MAIN[4:]), (32,))
PHANTOM_CLAIMED = (*cells(MAIN[:4], (1, 2)), "group_plus-b2", "group-b32")
"""The cells that claims are about; in the phantom those at batch sizes 1 and 2."""
REST = cells(("group", *FURTHER), SIZES) + cells(MAIN[1:], (4, 16))
DYNAMICS = "--dynamics --dynamics-steps 400 --dynamics-batches 1 2 8"
DEEPER = "--norms group batch --batch-sizes 1 2 32"
STARTS = "--transfer age --norms group batch --batch-sizes 1 2 8"
COMPARISONS = {
    "age": (
        "cohort",
        f"--target age --regression --stratify cdr --effect 1 {SLAB} --norms {' '.join(MAIN)} "
        "--batch-sizes 1 2 8 32",
    ),
    "phantom": (
        "phantom-cohort",
        f"{PHANTOM} {SMALL} --norms {' '.join(MAIN)} --batch-sizes 1 2 8 32 {DYNAMICS}",
    ),
    "phantom-further": (
        "phantom-cohort",
        f"{PHANTOM} {SMALL} --norms {' '.join(MAIN + FURTHER)} --batch-sizes 1 2 4 8 16 32",
    ),
    "phantom-starts": ("phantom-cohort", f"{PHANTOM} {SMALL} {STARTS}"),
    "phantom-resnet18": (
        "phantom-cohort",
        f"{PHANTOM} {SMALL.replace('resnet10', 'resnet18')} {DEEPER}",
    ),
    "phantom-densenet": (
        "phantom-cohort",
        f"{PHANTOM} --backbone densenet121 --width 8 --lr 0.002 {DEEPER}",
    ),
    "dementia-starts": (
        "cohort",
        f'--target cdr --classes CN=0 AD=0.5,1,2 --where "age >= 60" {SLAB} {STARTS}',
    ),
}
"""Name -> its cohort and options."""
STEPS: tuple[tuple[str, int, tuple[str, ...]], ...] = (
    ("age", 6, AGE_CLAIMED),
    ("age", 3, tuple(cell for cell in ALL if cell not in AGE_CLAIMED)),
    ("phantom", 16, PHANTOM_CLAIMED),
    ("phantom", 8, tuple(cell for cell in ALL if cell not in PHANTOM_CLAIMED)),
    ("phantom-further", 6, REST),
    ("phantom-starts", 3, ()),
    ("phantom-resnet18", 3, ()),
    ("phantom-densenet", 3, ()),
    ("dementia-starts", 2, ()),
)
"""Comparison, seeds and cells (none: all) in the order of training."""


def compare(name: str, seeds: int, further: str = "") -> str:
    """The command of a comparison."""
    cohort, options = COMPARISONS[name]
    return f"uncus compare WORK/{cohort} WORK/{name} {options} --seeds {seeds} {further}".strip()


def commands() -> tuple[str, ...]:
    """Every command, in order."""
    return (
        f"uncus phantom WORK/phantom-source --subjects {SUBJECTS} --spacing 6 --registered "
        "--overlap 0.1",
        "uncus prepare WORK/phantom-source WORK/phantom-cohort --spacing 8",
        "uncus prepare SOURCE WORK/cohort --spacing 4 1 4",
        *(
            compare(name, seeds, f"--only {' '.join(some)}" * bool(some))
            for name, seeds, some in STEPS
        ),
    )


def run(work: Path, source: str = "", all_commands: tuple[str, ...] = ()) -> None:
    """Run the commands; a phantom source that exists is kept."""
    for command in all_commands:
        words = [
            w.replace("SOURCE", source).replace("WORK", str(work)) for w in shlex.split(command)
        ]
        if words[1] == "phantom" and (Path(words[2]) / "participants.tsv").exists():
            continue
        if words[1] == "compare":
            words += ["--jobs", os.environ.get("UNCUS_JOBS", "1")]
        print("$", shlex.join(words), flush=True)
        if main(words[1:]) != 0:
            sys.exit("the command failed")
        if words[1] == "phantom":
            write_splits(work)


def write_splits(work: Path) -> None:
    """The first subjects are trained on, all others tested."""
    ids = pd.read_csv(work / "phantom-source/participants.tsv", sep="\t")["participant_id"]
    parts = ["train"] * TRAINED_ON + ["test"] * (len(ids) - TRAINED_ON)
    splits = pd.DataFrame({"participant_id": ids, "fold-0": parts})
    splits.to_csv(work / "phantom-splits.tsv", sep="\t", index=False)


def networks(name: str, result: dict[str, Any]) -> int:
    """How many networks are planned, without those of a pre-training."""
    all_cells = [cell for cell in result["cells"] if cell["status"] != "cannot"]
    cells = (seeds * len(some or all_cells) for step, seeds, some in STEPS if step == name)
    return int(sum(cells) * result["folds"])


def gather(work: Path, known: dict[str, Any]) -> dict[str, Any]:
    """The results of what has begun in ``work``, or what is ``known`` if it has more networks."""
    results = dict(known)
    for name in COMPARISONS:
        if (work / name / "cells").exists():
            most = max(seeds for step, seeds, _ in STEPS if step == name)
            run(work, all_commands=(compare(name, most, "--so-far"),))
            found = json.loads((work / name / "compare.json").read_text())
            if name not in known or known[name]["networks"][0] <= found["networks"][0]:
                results[name] = found
    return {name: results[name] for name in COMPARISONS if name in results}
