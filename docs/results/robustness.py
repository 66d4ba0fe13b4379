"""Measures how norms, and adversarial training, stand up to disturbed scans; writes robustness.md.

    python docs/results/robustness.py [WORK]

WORK is a folder for the cohorts and the runs; what is there is kept, scan by scan. Without it the
page is written again.
"""

import json
import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from uncus.data import files
from uncus.data.prepared_cohort import MANIFEST, PreparedCohort
from uncus.data.transforms.disturbances import DISTURBANCES
from uncus.pipeline.audit.finding import holm
from uncus.pipeline.cli import main
from uncus.pipeline.evaluate import Evaluate
from uncus.pipeline.evaluation.bootstrap import interval
from uncus.pipeline.evaluation.metrics import Array
from uncus.pipeline.robustness.judges import ATTACKS, UNDISTURBED, key, levels
from uncus.pipeline.robustness.measurement import measured, outputs, pooled
from uncus.pipeline.robustness.page import curves
from uncus.pipeline.robustness.summary import verdict
from uncus.pipeline.robustness.trial import Trial
from uncus.pipeline.runs import Run

HERE = Path(__file__).parent
EPS = 0.05
"""Of adversarial training."""
DRAWS = 4000
SURE = 0.05
"""Significance after Holm's correction for all comparisons of the page."""
SOURCE = "--subjects 200 --spacing 8"
TESTED = "--subjects 100 --first 2000 --spacing 8"
DISTURBED = 60
"""Subjects of these, drawn at random: all would take an hour of one core."""
TRAINING = (
    "--target diagnosis --classes CN=CN AD=AD --backbone resnet10 --width 8 --dropout 0 "
    "--batch-size 4 --folds 1 --validation 0 --keep last --epochs 20 --lr 0.002 --recipe none "
    "--accelerator cpu"
)
COMMANDS = (
    f"uncus phantom source {SOURCE}",
    f"uncus phantom others {TESTED}",
    "uncus prepare source cohort --spacing 8",
    f"uncus train cohort RUN {TRAINING}",
    "uncus prepare others tested --like RUN",
    f"uncus evaluate RUN --on tested --out OUT --robust --robust-subjects {DISTURBED}",
)
HARD = f"--adversarial {EPS:g}"
RUNS = {
    "group": "--norm group --groups 4",
    "batch": "--norm batch",
    "group+adversarial": f"--norm group --groups 4 {HARD}",
    "instance": "--norm instance",
    "layer": "--norm layer",
    "batch_group": "--norm batch_group",
    "group_plus": "--norm group_plus --groups 4",
    "group+ws": "--norm group --groups 4 --weight-standardization",
    "batch+adversarial": f"--norm batch {HARD}",
    "frn": "--norm frn",
}
INCONCLUSIVE = "inconclusive"
SAID = {
    INCONCLUSIVE: "does not differ conclusively from that without",
    "less lost": "is significantly smaller",
    "more lost": "is significantly larger",
}
TO = {"disturbed": "Loss of AUC on disturbed", "attacked": "Loss of AUC on attacked"}
KINDS = {"disturbed": tuple(DISTURBANCES), "attacked": tuple(ATTACKS)}


def against(name: str) -> str:
    """The run that another is compared with; "" for the reference."""
    plain = name.removesuffix("+adversarial")
    return plain if plain != name else "group" * (name != "group")


def command(line: str) -> None:
    """Run a command of uncus."""
    print("$ uncus", line, flush=True)
    if main(shlex.split(line)):
        sys.exit("the command failed")


def prepared(work: Path, name: str, phantom: str, how: str = "--spacing 8") -> Path:
    """A cohort of phantoms."""
    source, cohort = work / f"phantom-{name}", work / "cohorts" / f"phantom-{name}"
    if not (source / "participants.tsv").exists():
        command(f"phantom {source} {phantom} --workers 1")
    if not (cohort / MANIFEST).exists():
        command(f"prepare {source} {cohort} {how} --workers 1")
    return cohort


def made(work: Path, name: str) -> tuple[Run, Evaluate]:
    """A run, and its evaluation on disturbed scans of other phantoms; made where it is not yet."""
    cohort = prepared(work, "source", SOURCE)
    run = Run(work / "runs" / "phantom" / name)
    if not run.is_sealed():
        resume = " --resume" * run.config_path.exists()
        command(f"train {cohort} {run.path} {TRAINING} {RUNS[name]}{resume}")
    tested = prepared(work, "tested", TESTED, f"--like {run.path}")
    out = work / "robust" / run.path.name
    if not Run(out).robustness_path.exists():
        command(
            f"evaluate {run.path} --on {tested} --out {out} --robust --robust-subjects {DISTURBED}"
        )
    return run, Evaluate(run.path, on=tested, out=out)


def changes(run: Run, verb: Evaluate) -> dict[str, Array]:
    """For each kind and each disturbance: the AUC's mean change over the levels, [1 + DRAWS]; and
    the AUC itself, undisturbed."""
    assert verb.on and verb.out
    trial = Trial.other(run, PreparedCohort.open(verb.on), verb.predictions(run))
    trial = trial.some(DISTURBED, verb.seed)
    found = outputs(trial, Run(verb.out), torch.device("cpu"))
    plain = pooled(trial, found[UNDISTURBED])

    def value(what: str) -> Array:
        return measured(trial, pooled(trial, found[what]), plain, DRAWS, 0)["value"]

    before = value(UNDISTURBED)
    parts = {
        name: np.mean([value(key(name, level)) for level in some], axis=0) - before
        for name, some in levels().items()
    }
    kinds = {kind: np.mean([parts[name] for name in some], axis=0) for kind, some in KINDS.items()}
    return {"auc": before, **parts, **kinds}


def compared(here: Array, there: Array) -> dict[str, Any]:
    """A difference with its interval and p-value: twice the smaller share of resamples beyond 0."""
    difference = here - there
    beyond = min((difference[1:] <= 0).mean(), (difference[1:] >= 0).mean())
    return {**interval(difference), "p": min(1.0, 2 * max(float(beyond), 1 / DRAWS))}


def measure(work: Path) -> None:
    """Measure every run; the page is written after each."""
    path = HERE / "robustness.json"
    result: dict[str, Any] = {"runs": {}, "differences": {}}
    drawn: dict[str, dict[str, Array]] = {}
    for name in RUNS:
        run, verb = made(work, name)
        assert verb.out
        found = Run(verb.out).robustness()
        assert found
        drawn[name] = changes(run, verb)
        summary = {what: interval(values) for what, values in drawn[name].items()}
        kept = ("metric", "name", "lower_is_better", "regression", "plain", "disturbances")
        kept += ("scans", "subjects", "networks", "version")
        result["runs"][name] = {**{k: found[k] for k in kept}, "changes": summary}
        if other := against(name):
            result["differences"][name] = {
                what: compared(drawn[name][what], drawn[other][what]) for what in ("auc", *KINDS)
            }
        files.write_json(path, result)
        write_page(result)


def verdicts(result: dict[str, Any]) -> dict[tuple[str, str], str]:
    """(run, kind) -> whether it loses more or less than what it is compared with."""
    pairs = [(name, kind) for name in result["differences"] for kind in KINDS]
    entries = [result["differences"][name][kind] for name, kind in pairs]
    adjusted = holm([entry["p"] for entry in entries])
    return {
        pair: INCONCLUSIVE if p >= SURE else "less lost" if entry["value"] > 0 else "more lost"
        for pair, entry, p in zip(pairs, entries, adjusted, strict=True)
    }


def span(value: dict[str, Any]) -> str:
    """``-0.03 (-0.05 to -0.01)``."""
    return f"{value['value']:.3f} ({value['low']:.3f} to {value['high']:.3f})"


def listed(names: list[str]) -> str:
    """Names, or none."""
    return ", ".join(names) if names else "none"


def holds(result: dict[str, Any]) -> str:
    """The first paragraph: what holds."""
    known, runs = verdicts(result), result["runs"]
    norms = [name for name in result["differences"] if against(name) == "group" and name in NORMS]
    parts = []
    for kind in KINDS:
        findings = [
            f"{listed([n for n in norms if known[n, kind] == f'{word} lost'])} "
            f"lose{'s' * (count == 1)} significantly {word}"
            for word in ("more", "less")
            if (count := sum(known[n, kind] == f"{word} lost" for n in norms))
        ]
        rest = sum(known[n, kind] == INCONCLUSIVE for n in norms)
        if rest:
            findings.append(f"no conclusive difference for {rest} norm{'s' * (rest > 1)}")
        parts.append(f"{TO[kind]} scans, compared with group norm: {'; '.join(findings)}.")
    for name in (n for n in result["differences"] if n not in NORMS):
        one = result["differences"][name]
        said = [f"on {kind} scans {SAID[known[name, kind]]}, {span(one[kind])}" for kind in KINDS]
        parts.append(
            f"With adversarial training (eps {EPS:g}) of {against(name)} norm the loss of AUC "
            f"{'; '.join(said)} (difference of the changes, above 0 where less is lost); the AUC "
            f"of undisturbed scans differs by {span(one['auc'])}."
        )
    plain = [one for name, one in runs.items() if name in NORMS]
    order = sorted(
        levels(), key=lambda what: np.mean([one["changes"][what]["value"] for one in plain])
    )
    titles = {n: one["title"] for n, one in plain[0]["disturbances"].items()}
    worst = ", ".join(
        f"{titles[what]} ({np.mean([one['changes'][what]['value'] for one in plain]):.2f})"
        for what in order[:4]
    )
    parts.append(f"Averaged over norms, most AUC is lost by: {worst}.")
    return " ".join(parts)


NORMS = tuple(name for name in RUNS if not name.endswith("adversarial"))


def table(result: dict[str, Any]) -> str:
    """Runs as rows: the AUC, what is lost, and the comparisons."""
    known = verdicts(result)
    head = ("run", "AUC", "disturbed: change", "attacked: change", "compared with", "difference")
    rows = [f"| {' | '.join(head)} |"]
    rows.append("| --- " * 6 + "|")
    for name, one in result["runs"].items():
        cells = [name, span(one["plain"]), *(span(one["changes"][kind]) for kind in KINDS)]
        cells.append(against(name))
        found = result["differences"].get(name)
        cells.append(
            "; ".join(f"{kind} {span(found[kind])}: {known[name, kind]}" for kind in KINDS)
            if found
            else ""
        )
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows)


def losses(result: dict[str, Any]) -> str:
    """Disturbances as rows, runs as columns: the mildest level of a loss."""
    runs = result["runs"]
    rows = ["| | " + " | ".join(runs) + " |", "| --- |" + " --- |" * len(runs)]
    first = next(iter(runs.values()))
    for name, one in first["disturbances"].items():
        cells = []
        for run in runs.values():
            how, row = verdict(run, name)
            lost = f"{row['level']:g} {one['unit']}"
            cells.append({"lost": lost, "kept": "–"}.get(how, "?"))
        tried = f"{one['levels'][-1]['level']:g} {one['unit']}"
        rows.append(f"| {one['title']}, up to {tried} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def write_page(result: dict[str, Any]) -> None:
    """Write robustness.md and its figure."""
    runs = result["runs"]
    first = next(iter(runs.values()))
    left = [name for name in RUNS if name not in runs]
    page = (HERE / "robustness.template.md").read_text()
    page = page.format(
        holds=holds(result),
        scans=first["scans"],
        left=f" Not measured yet: {listed(left)}." if left else "",
        table=table(result),
        losses=losses(result),
        commands="\n".join(f"    {line}" for line in COMMANDS),
        runs="\n".join(f"- {name}: `{options}`" for name, options in RUNS.items()),
        draws=DRAWS,
        comparisons=len(result["differences"]) * len(KINDS),
        version=first["version"],
    )
    (HERE / "robustness.md").write_text(page)
    (HERE / "robustness.svg").write_text(curves(runs) + "\n")


if __name__ == "__main__":
    if len(sys.argv) > 2:
        sys.exit(__doc__)
    if len(sys.argv) == 2:
        measure(Path(sys.argv[1]))
    write_page(json.loads((HERE / "robustness.json").read_text()))
    print(HERE / "robustness.md")
