"""The scanner planted behind adapt.md, the runs that meet it, and what each adaptation recovers.

Used by adapt.py.
"""

import json
import shlex
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
from scipy import ndimage

from uncus.data import files
from uncus.data.prepared_cohort import PreparedCohort
from uncus.data.tables import read_table, write_table
from uncus.pipeline.adaptation.choice import choose
from uncus.pipeline.adaptation.norms import with_statistics
from uncus.pipeline.adaptation.plan import Plan, plan
from uncus.pipeline.adaptation.registry import ADAPTATIONS
from uncus.pipeline.cli import main
from uncus.pipeline.comparison.crossed import estimate, pseudovalues
from uncus.pipeline.evaluation.external import ExternalScans
from uncus.pipeline.evaluation.metrics import auc
from uncus.pipeline.runs import Run
from uncus.pipeline.training.member import test_predictions

RESULTS = Path(__file__).with_name("adapt.json")
SCANNER = {"gamma": 0.4, "bias": (0.3, 0.4, -0.3), "noise": 0.02, "blur": 2.0}
"""The planted scanner: contrast ``x ** gamma``, the slopes of the log bias field from -1 to 1 along
each axis, Rician noise as a share of the brightest tissue, and the blur's standard deviation (mm).
By what it costs a network with group norm on other subjects: 0.2 of AUC."""
NORMS = ("group", "batch", "instance", "layer", "batch_group", "group_plus", "group+ws")
BLIND = ("statistics", "coral", "calibration", "entropy", "pseudo", "dann")
SEEING = ("head", "prototypes", "head+norms", "network", "joint")
ROWS = (
    [("joint", 10), ("network", 10)],
    [("statistics", 0), ("coral", 0), ("calibration", 0), ("entropy", 0)],
    [("head", 10), ("prototypes", 10), ("head+norms", 10)],
    [(method, labels) for method in ("joint", "network") for labels in (20, 5, 1)],
    [("pseudo", 0), ("dann", 0), ("auto", 0)],
    [(method, labels) for method in ("head", "prototypes") for labels in (20, 5, 1)],
    [("head+norms", labels) for labels in (20, 5, 1)],
    [("auto", 10)],
)
"""Method and labels a class, the most telling first; each part for all norms before the next."""
CHOSEN = "joint"
"""The method with 10 labels a class that did best on other phantoms; its row is the headline."""
SEEDS, MORE_SEEDS = 3, 8
"""Networks of a norm, each adapted with its own halves of the site and its own labels; and those
that the headline is judged by."""
TRAINING = (
    "--backbone resnet10 --width 8 --dropout 0 --batch-size 4 --folds 1 --validation 0 "
    "--keep last --epochs 20 --lr 0.002 --recipe none --accelerator cpu"
)
FLAT = "--augment.rotate 0 5 0 --augment.translate 3 0 3 --augment.scale 0.05 0 0.05"
PHANTOM: dict[str, Any] = {
    "data": "phantom",
    "norms": NORMS,
    "train": f"--target diagnosis --classes CN=CN AD=AD {TRAINING} --seeds {MORE_SEEDS}",
    "positive": "AD",
    "spacing": "8",
}
TASKS: dict[str, dict[str, Any]] = {
    "phantom-more": {
        **PHANTOM,
        "title": f"Phantoms of 8 mm, CN against AD: the headline, {MORE_SEEDS} networks a norm",
        "rows": ([(CHOSEN, 10)],),
        "seeds": MORE_SEEDS,
        "most": 10,
    },
    "phantom": {
        **PHANTOM,
        "title": "Phantoms of 8 mm, CN against AD: every method",
        "rows": ROWS,
        "seeds": SEEDS,
        "most": 20,
    },
    "slab": {
        "data": "slab",
        "norms": ("group", "batch", "instance", "group_plus"),
        "train": f"--target group --classes young=young old=old {TRAINING} --seeds {SEEDS} {FLAT}",
        "positive": "old",
        "spacing": "4 1 4",
        "title": "OASIS-1 slabs, under 45 years against 60 and over",
        "rows": ROWS[:3],
        "seeds": SEEDS,
        "most": 20,
    },
}
"""Data, training and what is measured; ``most`` is the largest number of labels a class."""


def planted(image: np.ndarray, spacing: np.ndarray, seed: int) -> np.ndarray:
    """A scan [X, Y, Z] as the other scanner would have stored it: int16, background 0."""
    inside = image > 0
    sigma = SCANNER["blur"] / spacing
    share = ndimage.gaussian_filter(inside.astype(np.float32), sigma)
    signal = np.where(inside, image / np.percentile(image[inside], 99), 0)
    x = ndimage.gaussian_filter(signal, sigma) / np.maximum(share, 1e-6)
    x = np.clip(x, 0, None) ** SCANNER["gamma"]
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in image.shape), indexing="ij")
    x = x * np.exp(sum(slope * axis for slope, axis in zip(SCANNER["bias"], axes, strict=True)))
    noise = np.random.default_rng(seed).standard_normal((2, *image.shape)) * SCANNER["noise"]
    x = np.hypot(x + noise[0], noise[1])
    return np.where(inside, np.clip(np.rint(1000 * x), 1, 32767), 0).astype(np.int16)


def rescan(source: Path, out: Path) -> None:
    """A BIDS dataset with every scan by the other scanner; the table is written last."""
    for seed, path in enumerate(sorted(source.rglob("*_T1w.nii.gz"))):
        scan = nib.load(path)
        image = np.asanyarray(scan.dataobj, dtype=np.float32)
        # Never under the brain's 0 of the background, whatever the scale.
        array = planted(image, np.array(scan.header.get_zooms()[:3]), seed)
        header = scan.header.copy()
        header.set_data_dtype(np.int16)
        header.set_slope_inter(1, 0)
        to = out / path.relative_to(source)
        to.parent.mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(array, scan.affine, header), to)
    for name in ("dataset_description.json", "participants.tsv"):
        shutil.copy(source / name, out / name)


def halve(slab: Path, work: Path) -> None:
    """The first scans of young and of old subjects, every second subject to either site."""
    table = read_table(slab / "participants.tsv")
    ages = pd.to_numeric(table["age"])
    table["group"] = np.where(ages < 45, "young", np.where(ages >= 60, "old", ""))
    table = table[table["group"] != ""].drop_duplicates("participant_id").sort_values("age")
    for name, some in (("slab-source", table[::2]), ("slab-site", table[1::2])):
        for path in some["filename"]:
            to = work / name / path
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(slab / path, to)
        description = '{"Name": "slabs", "BIDSVersion": "1.9.0"}'
        (work / name / "dataset_description.json").write_text(description)
        write_table(work / name / "participants.tsv", some)


def command(line: str, done: bool) -> None:
    """Run a command of uncus unless it is done."""
    if not done:
        print("$ uncus", line, flush=True)
        if main(shlex.split(line)):
            sys.exit("the command failed")


def datasets(data: str, work: Path, slab: Path | None) -> None:
    """Source, site and site by the other scanner, as BIDS datasets."""
    if data == "phantom":
        for name, options in (
            ("source", "--subjects 200"),
            ("site", "--subjects 400 --first 5000"),
        ):
            out = work / f"{data}-{name}"
            done = (out / "participants.tsv").exists()
            command(f"phantom {out} {options} --spacing 8 --workers 1", done)
    elif slab and not (work / f"{data}-site" / "participants.tsv").exists():
        halve(slab, work)
    if not (work / f"{data}-rescanned" / "participants.tsv").exists():
        rescan(work / f"{data}-site", work / f"{data}-rescanned")


def prepare(task: str, name: str, work: Path, options: str) -> Path:
    """A dataset as a cohort."""
    data = f"{TASKS[task]['data']}-{name}"
    out = work / "cohorts" / data
    done = (out / "manifest.json").exists()
    command(f"prepare {work / data} {out} {options} --workers 1", done)
    return out


def train(task: str, norm: str, work: Path) -> Run:
    """The source's run with a norm."""
    run = Run(work / "runs" / TASKS[task]["data"] / norm)
    name, _, standardized = norm.partition("+")
    cohort = prepare(task, "source", work, f"--spacing {TASKS[task]['spacing']}")
    line = f"train {cohort} {run.path} {TASKS[task]['train']}"
    line += f" --norm {name}" + " --weight-standardization" * bool(standardized)
    line += " --groups 4" * (name in ("group", "group_plus"))
    command(line + " --resume" * run.config_path.exists(), run.is_sealed())
    return run


def planned(task: str, run: Run, name: str, labels: int, seed: int, work: Path) -> Plan:
    """The adaptation of a run's network of a ``seed`` to a cohort."""
    cohort = prepare(task, name, work, f"--like {run.path}")
    scans = ExternalScans(PreparedCohort.open(cohort))
    todo = plan(run, scans, labels, seed, "cpu", None, False)
    return replace(todo, members=tuple(m for m in todo.members if m.seed == seed))


def scores(todo: Plan, method: str, positive: str) -> pd.DataFrame:
    """participant_id -> truth and score of every tested subject."""
    tables = []
    for member in todo.members:
        network = todo.network(member)
        ADAPTATIONS[method].apply(network, todo.site(member))
        tables.append(test_predictions(network, member, todo.task))
    table = pd.concat(tables).set_index("participant_id")
    return pd.DataFrame({"true": table["true"] == positive, "score": table[f"p_{positive}"]})


def choice(todo: Plan) -> str:
    """The method that ``auto`` chooses."""
    first = todo.members[0]
    return choose(lambda: todo.network(first), todo.site(first), todo.subjects(first))[0]


def measure(
    before: list[pd.DataFrame], after: list[pd.DataFrame], at_home: list[pd.DataFrame]
) -> dict[str, Any]:
    """AUC before and after and by the source's scanner, one table a seed, on the same subjects.

    Intervals are over subjects and seeds, crossed. ``half`` is what is gained beyond half of the
    loss.
    """
    names = before[0].index
    for some in (*before, *after, *at_home):
        names = names.intersection(some.index)
    true = before[0].loc[names, "true"].to_numpy(bool)

    def by_seed(tables: list[pd.DataFrame]) -> np.ndarray:
        each = [table.loc[names, "score"].to_numpy() for table in tables]
        return np.stack(
            [
                pseudovalues(
                    lambda weights, score=score: {"auc": auc(true, score, weights)},
                    names.to_numpy(str),
                )["auc"]
                for score in each
            ]
        )

    home, old, new = by_seed(at_home), by_seed(before), by_seed(after)
    found = {"home": home, "before": old, "after": new, "lost": home - old, "gained": new - old}
    found |= {"half": new - (home + old) / 2}
    means = {name: estimate(values).interval.items() for name, values in found.items()}
    return {"subjects": len(names)} | {
        name: {key: round(float(value), 4) for key, value in mean} for name, mean in means.items()
    }


def run(work: Path, slab: Path | None) -> None:
    """Measure every row that adapt.json lacks."""
    result: dict[str, Any] = {"rows": []}
    if RESULTS.exists():
        result = json.loads(RESULTS.read_text())
    result["scanner"] = SCANNER
    known = {(row["task"], row["norm"], row["method"], row["labels"]) for row in result["rows"]}
    for task, options in TASKS.items():
        if options["data"] == "slab" and not slab:
            continue
        datasets(options["data"], work, slab)
        for part in options["rows"]:
            for norm in options["norms"]:
                source = train(task, norm, work)
                todo = [one for one in part if (task, norm, *one) not in known]
                for row in rows(task, source, todo, work) if todo else ():
                    result["rows"].append({"task": task, "norm": norm, **row})
                    files.write_json(RESULTS, result)
                    print(result["rows"][-1], flush=True)


def rows(
    task: str, source: Run, todo: list[tuple[str, int]], work: Path
) -> Iterator[dict[str, Any]]:
    """The rows of a run, one for each method and number of labels that it can be adapted by."""
    options = TASKS[task]
    positive, seeds, labelled = options["positive"], range(options["seeds"]), options["most"]
    # Whoever may be labelled is in no row's test: all rows are of the same subjects.
    most = [planned(task, source, "rescanned", labelled, seed, work) for seed in seeds]
    shown = frozenset().union(*(one.shown for one in most))
    home, before = (
        [
            scores(planned(task, source, name, 0, seed, work), "none", positive).drop(
                shown, errors="ignore"
            )
            for seed in seeds
        ]
        for name in ("site", "rescanned")
    )
    for method, labels in todo:
        if method == "statistics" and not with_statistics(most[0].network(most[0].members[0])):
            continue
        started, after, chose = time.process_time(), [], []
        for seed in seeds:
            plans = planned(task, source, "rescanned", labels, seed, work)
            chose.append(choice(plans) if method == "auto" else method)
            after.append(scores(plans, chose[-1], positive))
        row = {"method": method, "labels": labels}
        row |= {"chose": chose} if method == "auto" else {}
        row |= measure(before, after, home)
        yield row | {"seconds": round(time.process_time() - started, 1)}
