"""Measures how far a run recovers from another scanner, and writes adapt.md from adapt.json.

    python docs/results/adapt.py [WORK [SLAB]]

WORK is a folder for cohorts and runs, SLAB the BIDS-like tree of OASIS-1 slabs. What is there, and
rows that adapt.json has, are kept; without WORK only the page is written again.
"""

import json
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Iterator
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
from uncus.models.norms import NORMS as NORMS_KNOWN
from uncus.pipeline.adaptation.choice import choose
from uncus.pipeline.adaptation.norms import with_statistics
from uncus.pipeline.adaptation.plan import Plan, plan
from uncus.pipeline.adaptation.registry import ADAPTATIONS
from uncus.pipeline.cli import main
from uncus.pipeline.comparison.crossed import estimate, pseudovalues
from uncus.pipeline.comparison.plots import MARKS, colors
from uncus.pipeline.evaluation.external import ExternalScans
from uncus.pipeline.evaluation.metrics import auc
from uncus.pipeline.rendering.svg import FAINT, figure, styled, svg
from uncus.pipeline.runs import Run
from uncus.pipeline.training.member import test_predictions

HERE = Path(__file__).parent
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
AUTO = ("auto", 0)
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
    path = HERE / "adapt.json"
    result: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"rows": []}
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
                    files.write_json(path, result)
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
    """Whether half of the loss is recovered; nothing can be where none is certain."""
    if row["lost"]["low"] <= 0:
        return "no certain loss"
    if row["half"]["low"] > 0:
        return "yes"
    if row["half"]["high"] < 0:
        return "no"
    return "yes, not certain" if row["half"]["value"] >= 0 else "no, not certain"


def share(row: dict[str, Any]) -> str:
    """The share of the loss recovered; of no certain loss there is none."""
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
            keeps = NORMS_KNOWN[norm.partition("+")[0]].running_statistics
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
        return f"{name} ({span(some[name][key])})"

    half = [n for n in norms if verdict(ten[n]).startswith("yes")]
    sure = [n for n in norms if verdict(ten[n]) == "yes"]
    recovered = "No norm loses AUC for certain, so there is nothing to recover."
    if certain := [n for n in norms if verdict(ten[n]) != "no certain loss"]:
        gaining = [n for n in certain if ten[n]["gained"]["low"] > 0]
        recovered = (
            f"Of {len(certain)} norms that lose AUC for certain, {len(gaining)} gain some back for "
            f"certain ({', '.join(gaining) or 'none'}). By the mean at least half of the loss is "
            f"recovered for {', '.join(half) or 'none'}, by the whole interval for "
            f"{', '.join(sure) or 'none'}."
        )
    least = min(norms, key=lambda n: first[n]["lost"]["value"])
    said = [
        f"{first[norms[0]]['subjects']} tested subjects, the same in every cell.\n",
        f"- Which norm travels best as it is: the highest AUC on scans of the other scanner has "
        f"{leading('before', first)}; {least} loses least ({span(first[least]['lost'], -1)}).",
        *without_labels(rows, blind, leading),
        f"- With 10 labels a class, `{CHOSEN}`: the highest AUC has {leading('after', ten)}. "
        + recovered,
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
        f"- Without labels the highest AUC has {leading('after', blind)}, by the best method of "
        f"each norm in these tests ({methods})."
    ]
    if auto := [row["gained"]["value"] for row in rows if (row["method"], row["labels"]) == AUTO]:
        said.append(
            f"- `auto`, which has to choose its method without labels, gains {min(auto):.2f} to "
            f"{max(auto):.2f} by norm."
        )
    return said


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
    write_page(json.loads((HERE / "adapt.json").read_text()))
    print(HERE / "adapt.md")
