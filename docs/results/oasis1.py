"""Run the commands behind oasis1.md and write the page from their reports.

    python docs/results/oasis1.py SOURCE WORK

SOURCE is the BIDS-like tree of OASIS-1 slabs, WORK a folder for the cohort and the runs. An
interrupted run is resumed; ``--write`` only rewrites the page from finished runs.
"""

import json
import shlex
import sys
from pathlib import Path
from typing import Any

from uncus.data.files import read_json
from uncus.pipeline.cli import main
from uncus.pipeline.run_files.audit_summary import summary
from uncus.pipeline.runs import Run

HERE = Path(__file__).parent
JOBS = 1
NETWORK = "--backbone resnet10 --width 16 --stem-kernel 5 --norm group --groups 8"
COMMON = f"{NETWORK} --batch-size 2 --seeds 2 --seed 10 --keep last --flip-average --jobs {JOBS}"
# A slab of ten slices rotated or shifted out of its plane would mostly be cut off.
IN_PLANE = "--augment.rotate 0 5 0 --augment.translate 3 0 3 --augment.scale 0.05 0 0.05"
DEMENTIA = '--target cdr --classes CN=0 AD=0.5,1,2 --where "age >= 60"'
HEAD = f"--init-from WORK/age --epochs 0 --refit-head 0.1 {COMMON}"
TUNING = "--epochs 25 --lr 0.0007 --weight-decay 0.05 --dropout 0.2"
WHOLE = f"--covariates age {TUNING} {IN_PLANE} {COMMON}"
COMMANDS = (
    "uncus prepare SOURCE WORK/cohort --spacing 2 1 2",
    "uncus train WORK/cohort WORK/age --target age nwbv etiv --regression --stratify cdr "
    "--folds 5 --validation 0 --epochs 36 --lr 0.002 --weight-decay 0.05 --dropout 0 "
    f"{IN_PLANE} {COMMON}",
    "uncus evaluate WORK/age",
    f"uncus train WORK/cohort WORK/scan {DEMENTIA} {HEAD}",
    "uncus evaluate WORK/scan --baseline nwbv age",
    "uncus audit WORK/scan",
    "uncus explain --check WORK/scan",
    "uncus audit WORK/age",
    f"uncus train WORK/cohort WORK/aged {DEMENTIA} --covariates age {HEAD}",
    "uncus evaluate WORK/aged --baseline nwbv age",
    f"uncus train WORK/cohort WORK/dementia {DEMENTIA} --covariates age sex {HEAD}",
    "uncus evaluate WORK/dementia --baseline nwbv age",
    f"uncus train WORK/cohort WORK/whole {DEMENTIA} --init-from WORK/age {WHOLE}",
    "uncus evaluate WORK/whole --baseline nwbv age",
    f"uncus train WORK/cohort WORK/scratch {DEMENTIA} --splits WORK/age/splits.tsv {WHOLE}",
    "uncus evaluate WORK/scratch --baseline nwbv age",
)
STEPS = {
    "scratch": "dementia alone, no pre-training; age as a covariate",
    "whole": "pre-trained on age, nwbv, etiv; then the whole network; age as a covariate",
    "scan": "pre-trained likewise; then the head alone, from the scan alone",
    "aged": "the same, age as a covariate",
    "dementia": "the same, age and sex as covariates",
}
LEAD, GIVEN = "scan", "dementia"
"""The run that the page leads with, from the scan alone; and the one given age and sex besides."""
FIGURES = ("metrics", "baselines", "differences", "folds")
TRUST = ("calibration", "conformal")
METRICS = (
    ("auc_adjusted", "AUC adjusted for age and sex"),
    ("auc", "AUC"),
    ("balanced_accuracy_weighted", "weighted balanced accuracy"),
    ("balanced_accuracy", "balanced accuracy"),
    ("sensitivity", "sensitivity"),
    ("specificity", "specificity"),
    ("average_precision", "average precision"),
    ("brier", "Brier score"),
    ("ece", "ECE"),
)


def run(source: str, work: str) -> None:
    """Run every command."""
    for command in COMMANDS:
        words = [w.replace("SOURCE", source).replace("WORK", work) for w in shlex.split(command)]
        print("$", shlex.join(words), flush=True)
        done = words[1] == "train" and Run(Path(words[3])).is_sealed()
        begun = words[1] == "train" and Path(words[3]).exists()
        code = 0 if done else main([*words[1:], *["--resume"] * begun])
        if code > (words[1] == "audit"):  # 1: a fault was found
            sys.exit("the command failed")


def minutes(run: Path) -> float:
    """Duration of a run's epochs (minutes), with ``JOBS`` networks trained at a time."""
    curves = Run(run).training_curves().values()
    return sum(float(table["seconds"].sum()) for table in curves) / JOBS / 60


def span(score: dict[str, float]) -> str:
    """A value with its interval."""
    return f"{score['value']:.3f} ({score['low']:.3f} to {score['high']:.3f})"


def share(report: dict[str, Any]) -> str:
    """The part of the score's variance that age and sex explain, with its interval."""
    found = report["adjustment"]["explained"]
    return f"{found['value']:.0%} ({found['low']:.0%} to {found['high']:.0%})"


def calibration(report: dict[str, Any]) -> list[str]:
    """Rows of the table of calibration, and of the coverage of the conformal sets."""
    found, sets = report["calibration"], report["conformal"]["of"]
    return [
        *(
            f"| {title} | {span(found['before'][key])} | {span(found['after'][key])} | "
            f"{found['perfect'][key]:.3f} |"
            for key, title in METRICS
            if key in found["before"]
        ),
        "",
        "| class | scans | covered | one class named | another one named |",
        "| --- | --- | --- | --- | --- |",
        *(
            f"| {name} | {one['scans']} | {span(one['covered'])} | {one['named']:.0%} | "
            f"{one['wrong']:.0%} |"
            for name, one in sets.items()
        ),
    ]


def adjusted(report: dict[str, Any]) -> str:
    """The adjusted AUC with its interval."""
    return span(report["metrics"]["auc_adjusted"])


def findings(run: Run) -> list[str]:
    """The faults and notes of a run's audit."""
    audit = run.audit()
    assert audit is not None
    found = [one for one in audit["findings"] if one["status"] in ("fault", "note")]
    lines = [f"- {one['status']}, {one['title'].lower()}: {one['verdict']}" for one in found]
    return [f"{summary(audit['findings'])}.", "", *lines]


def passport(run: Run) -> list[str]:
    """The verdict on each saliency method."""
    methods = read_json(run.passport_path)["methods"]
    return [
        f"- {name.replace('_', ' ')}: {'; '.join([one['verdict'], *one['reasons']])}"
        for name, one in methods.items()
    ]


def page(work: Path) -> tuple[str, dict[str, Any]]:
    """The text of the page, and its figures."""
    reports = {name: Run(work / name).report() for name in ("age", *STEPS)}
    age, lead, given = (reports[name] for name in ("age", LEAD, GIVEN))
    duration = {name: minutes(work / name) for name in reports}
    environment = Run(work / LEAD).environment
    columns = {"network": lead["metrics"]} | lead["baselines"]
    steps = [
        f"| {what} | {adjusted(reports[name])} | {span(reports[name]['metrics']['auc'])} | "
        f"{share(reports[name])} | {duration[name]:.0f} |"
        for name, what in STEPS.items()
    ]
    ties = [covariate["tie"] for covariate in Run(work / GIVEN).card["covariates"].values()]
    rows = [
        f"| {title} | " + " | ".join(span(c[key]) if key in c else "" for c in columns.values())
        for key, title in METRICS
    ]
    retest = [
        f"| {what} | {agreement['n']} | {span(agreement['icc'])} | "
        f"{span(agreement['mean_absolute_difference'])} |"
        for what, agreement in age["test_retest"]["of"].items()
    ]
    regression = [
        f"| {name} | {span(age['metrics'][f'mae_{name}'])} | {span(age['metrics'][f'r2_{name}'])} |"
        for name in ("age", "nwbv", "etiv")
    ]
    folds = ", ".join(f"{row['score']:.3f}" for row in lead["folds"])
    template = (HERE / "oasis1.template.md").read_text()
    ahead = {name: span(found["auc_adjusted"]) for name, found in lead["differences"].items()}
    auc = lead["metrics"]["auc_adjusted"]
    text = template.format(
        people=lead["counts"]["subjects"],
        everybody=age["counts"]["subjects"],
        scans=age["counts"]["scans"],
        adjusted=adjusted(lead),
        adjusted_given=adjusted(given),
        auc=f"{lead['metrics']['auc']['value']:.3f}",
        auc_given=f"{given['metrics']['auc']['value']:.3f}",
        explained=share(lead),
        explained_given=share(given),
        ties="; ".join(
            f"{tie['covariate']} {tie['measure']} {tie['value']:.2f} ({tie['test']}, "
            f"p = {tie['p']:.2g})"
            for tie in ties
        ),
        ahead=ahead["age+sex"],
        ahead_nwbv=ahead["nwbv"],
        ahead_both=ahead["nwbv+age"],
        width=f"{auc['high'] - auc['low']:.2f}",
        only_both=f"{lead['baselines']['age+sex']['auc']['value']:.3f}",
        jobs=JOBS,
        mae=span(age["metrics"]["mae_age"]),
        commands="\n".join(COMMANDS),
        steps="\n".join(steps),
        columns=" | ".join(columns),
        rules=" | ".join("---" for _ in columns),
        rows=" |\n".join(rows) + " |",
        folds=folds,
        regression="\n".join(regression),
        retest="\n".join(retest),
        calibration="\n".join(calibration(lead)),
        audit="\n".join(findings(Run(work / LEAD))),
        audit_age="\n".join(findings(Run(work / "age"))),
        passport="\n".join(passport(Run(work / LEAD))),
        error_level=f"{lead['conformal']['error_level']:.0%}",
        pretraining=f"{duration['age']:.0f}",
        mean=f"{lead['within_folds']['mean']:.3f}",
        torch=environment["versions"]["torch"],
        uncus=environment["versions"]["uncus"],
    )
    figures = {
        **{
            name: {k: reports[name][k] for k in ("headline", "adjustment", *TRUST, *FIGURES)}
            for name in (LEAD, GIVEN)
        },
        "steps": {
            name: {k: reports[name]["metrics"][k] for k in ("auc_adjusted", "auc")}
            for name in STEPS
        },
        "ties": ties,
        "age": {k: age[k] for k in ("metrics", "test_retest")},
        "minutes": duration,
        "versions": environment["versions"],
    }
    return text, figures


if __name__ == "__main__":
    arguments = [a for a in sys.argv[1:] if a != "--write"]
    if len(arguments) != 2:
        sys.exit(__doc__)
    if "--write" not in sys.argv:
        run(*arguments)
    text, figures = page(Path(arguments[1]))
    (HERE / "oasis1.md").write_text(text)
    (HERE / "oasis1.json").write_text(json.dumps(figures, indent=1) + "\n")
    print(HERE / "oasis1.md")
