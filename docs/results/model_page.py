"""Write model.md and model.json from finished runs and from what was measured on whole heads."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from model_steps import ALL, PARTITIONS, People
from model_steps import table as step_table
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from uncus.data import files
from uncus.data.segmentation import slabs
from uncus.models.backbones import anatomy
from uncus.pipeline.builtin.catalog import FOLDER
from uncus.pipeline.runs import Run

HERE = Path(__file__).parent
MODELS = ("dementia", "anatomy")
FOLDERS = ("elderly-heads", "ixi-heads", "heads")
OLD, YOUNG = FOLDERS[:2]
LEAST_SHARE = 0.02
"""Of the map of the evidence: regions with less are not shown."""
METRICS = {
    "auc": "AUC",
    "auc_adjusted": "AUC adjusted for age and sex",
    "balanced_accuracy": "balanced accuracy",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
}
MEASURES = {
    "age": "age (years)",
    "nwbv": "normalized brain volume",
    "etiv": "intracranial volume (ml)",
    "hippocampus_left": "left hippocampus (mm³)",
    "hippocampus_right": "right hippocampus (mm³)",
}


def span(score: dict[str, float], digits: int = 3) -> str:
    """A value with its interval."""
    return f"{score['value']:.{digits}f} ({score['low']:.{digits}f} to {score['high']:.{digits}f})"


def hippocampi(run: Run) -> dict[str, float]:
    """AUC of measured hippocampi over intracranial volume, and the model's on the same scans."""
    table = run.scans()
    columns = ["hippocampus_left", "hippocampus_right", "etiv", "cdr"]
    numbers = table[columns].apply(pd.to_numeric, errors="coerce")
    names = table["participant_id"]
    share = (numbers["hippocampus_left"] + numbers["hippocampus_right"]) / numbers["etiv"]
    scores = run.predictions().groupby("participant_id")["p_AD"].mean().reindex(names).to_numpy()
    known = share.notna().to_numpy()
    ill = (numbers["cdr"] > 0).to_numpy()[known]
    return {
        "scans": int(known.sum()),
        "hippocampi": float(roc_auc_score(ill, -share[known])),
        "model": float(roc_auc_score(ill, scores[known])),
    }


def head_rows(folder: Path) -> list[dict[str, Any]]:
    """What was measured on each head, a row each."""
    rows = []
    for path in sorted(folder.rglob("*.json")):
        found = files.read_json(path)
        fields, measures = found["fields"], found["measures"]
        share = None
        if "icv" in fields:
            sides = [float(fields[f"hippocampus_{side}"]) for side in ("left", "right")]
            share = sum(sides) / float(fields["icv"])
        moves = [abs(p - found["p"]) for p in found["disturbed"].values()]
        rows.append(
            {
                "head": path.stem,
                "folder": path.parent.name,
                "age": float(fields["age"]) if "age" in fields else None,
                "p": found["p"],
                "p_without_age": found["p_without_age"],
                "predicted_age": measures["age"],
                "brain_age": found["brain_age"].get("value"),
                "hippocampi": share,
                "ratio": found["domain"]["dementia"]["distance"],
                "ratio_anatomy": found["domain"]["anatomy"]["distance"],
                "median_move": float(np.median(moves)) if moves else None,
                "largest_move": float(np.max(moves)) if moves else None,
            }
        )
    return rows


def structure_rows(people: People, folder: Path) -> list[dict[str, Any]]:
    """Each structure's share of the slab (mean, SD): OASIS-1's own slabs, and placed heads.

    Normal subjects, as old as the heads that they are compared with.
    """
    shares = people.parts[anatomy.TEMPERATURE].sum((2, 3))
    ages = people.number("age")
    own = {YOUNG: (ages < 52) & ~people.ill, OLD: (ages > 72) & ~people.ill}
    rows = []
    for label in anatomy.MEASURED:
        name = list(slabs.CLASSES)[label]
        row: dict[str, Any] = {"structure": name}
        for group, some in own.items():
            heads = [
                files.read_json(path)["structures"][name]
                for path in sorted((folder / group).glob("*.json"))
            ]
            slab = shares[some, ALL.index(label)]
            for key, values in (("slabs", slab), ("heads", np.array(heads))):
                row[f"{key} {group}"] = [float(values.mean()), float(values.std(ddof=1))]
        rows.append(row)
    return rows


def write_page(
    work: Path,
    differ: dict[str, float],
    shares: list[dict[str, Any]],
    people: People,
    steps: list[dict[str, Any]],
) -> None:
    """Write both files.

    Parameters
    ----------
    differ: what was subtracted from the log-odds and from brain age for whole heads.
    shares: of the map of the evidence, by region.
    people: the scans of the cohort.
    steps: a row a step, as model_steps.py measures them.
    """
    dementia, anatomy = (Run(work / name) for name in MODELS)
    reports = {run.path.name: run.report() for run in (dementia, anatomy)}
    lead, measured = reports["dementia"], reports["anatomy"]
    wider = {
        name: {
            part: limit / Run(work / name).card["domain"]["limits"][part]
            for part, limit in Run(FOLDER / name).card["domain"]["limits"].items()
        }
        for name in MODELS
    }
    rows = head_rows(work / "measured")
    for row in rows:
        row["inside"] = max(row["ratio"].values()) <= 1
    old = [row for row in rows if row["folder"] == OLD]
    young = [row for row in rows if row["folder"] != OLD and row["age"] is not None]
    shared = hippocampi(dementia)
    ranks = spearmanr([row["p"] for row in old], [row["hippocampi"] for row in old])
    ranks_without = spearmanr(
        [row["p_without_age"] for row in old], [row["hippocampi"] for row in old]
    )
    structures = structure_rows(people, work / "measured")
    facts = {
        "hippocampi": shared,
        "wider": wider,
        "offsets": differ,
        "heads": rows,
        "map": shares,
        "structures": structures,
        "steps": steps,
        "spearman": float(ranks.statistic),
        "spearman_without_age": float(ranks_without.statistic),
        "brain_age_mae_old": mean_error(old),
        "brain_age_mae_young": mean_error(young),
        "median_move": float(np.median([row["median_move"] for row in old])),
        "dementia": {k: lead[k] for k in ("metrics", "calibration", "conformal", "baselines")},
        "anatomy": {k: measured[k] for k in ("metrics", "test_retest")},
    }
    files.write_json(HERE / "model.json", facts)
    resnet = files.read_json(HERE / "oasis1.json")["scan"]["metrics"]
    columns = {"the model": lead["metrics"]} | lead["baselines"]
    table = [
        f"| {title} | " + " | ".join(span(one[key]) for one in columns.values()) + " |"
        for key, title in METRICS.items()
    ]
    retest = measured["test_retest"]["of"]
    measures = [
        f"| {title} | {span(measured['metrics'][f'mae_{name}'])} | "
        f"{span(measured['metrics'][f'r2_{name}'])} | {span(retest[name]['icc'])} |"
        for name, title in MEASURES.items()
    ]
    coverage = [
        f"| {name} | {one['scans']} | {span(one['covered'])} | {one['named']:.0%} | "
        f"{one['wrong']:.0%} |"
        for name, one in lead["conformal"]["of"].items()
    ]
    heads = [
        f"| {row['head']} | {number(row['age'], 0)} | {row['p']:.2f} | "
        f"{row['p_without_age']:.2f} | {number(row['brain_age'], 0)} | "
        f"{number(row['hippocampi'], 5)} | "
        f"{'inside' if row['inside'] else 'outside'} | {number(row['median_move'], 3)} |"
        for row in rows
    ]
    regions = [
        f"| {row['region']} | {row['share']:.1%} | {row['even']:.1%} | "
        f"{row['share'] / row['even']:.1f} | {round(100 * row['net'])}% |"
        for row in shares
        if row["share"] >= LEAST_SHARE
    ]
    text = (HERE / "model.template.md").read_text(encoding="utf-8")
    text = text.format(
        auc=span(lead["metrics"]["auc"]),
        adjusted=span(lead["metrics"]["auc_adjusted"]),
        resnet=f"{resnet['auc']['value']:.3f}",
        resnet_adjusted=f"{resnet['auc_adjusted']['value']:.3f}",
        columns=" | ".join(columns),
        rules=" | ".join("---" for _ in columns),
        rows="\n".join(table),
        shared_scans=shared["scans"],
        shared_hippocampi=f"{shared['hippocampi']:.3f}",
        shared_model=f"{shared['model']:.3f}",
        ece_before=span(lead["calibration"]["before"]["ece"]),
        ece=span(lead["calibration"]["after"]["ece"]),
        ece_chance=f"{lead['calibration']['perfect']['ece']:.3f}",
        coverage="\n".join(coverage),
        measures="\n".join(measures),
        heads="\n".join(heads),
        regions="\n".join(regions),
        structures="\n".join(map(structure_line, structures)),
        steps=step_table(steps),
        partitions=PARTITIONS,
        least_share=f"{LEAST_SHARE:.0%}",
        spearman=f"{facts['spearman']:.2f}",
        spearman_without=f"{facts['spearman_without_age']:.2f}",
        old_mae=f"{facts['brain_age_mae_old']:.1f}",
        aged=sum(row["brain_age"] is not None for row in old),
        predicted_mae=f"{np.mean([abs(row['predicted_age'] - row['age']) for row in old]):.1f}",
        young_mae=f"{facts['brain_age_mae_young']:.1f}",
        move=f"{facts['median_move']:.3f}",
        young_high=sum(row["p"] > 0.5 for row in young),
        young_count=len(young),
        wider=", ".join(
            f"{name}: {', '.join(f'{part} {value:.2f}' for part, value in found.items())}"
            for name, found in wider.items()
        ),
        offset=f"{differ['dementia']:.2f}",
        years=f"{differ['anatomy']:.1f}",
        inside=sum(row["inside"] for row in old),
        old_count=len(old),
    )
    (HERE / "model.md").write_text(text, encoding="utf-8")


def structure_line(row: dict[str, Any]) -> str:
    """A row of the table of structures, in thousandths of the slab."""
    cells = [
        f"{1000 * row[key][0]:.1f} ± {1000 * row[key][1]:.1f}" for key in row if key != "structure"
    ]
    return f"| {row['structure']} | {' | '.join(cells)} |"


def mean_error(rows: list[dict[str, Any]]) -> float:
    """Mean absolute difference of brain age and age, years, of the heads that get one."""
    known = [row for row in rows if row["brain_age"] is not None]
    return float(np.mean([abs(row["brain_age"] - row["age"]) for row in known]))


def number(value: float | None, digits: int) -> str:
    """A number that may be unknown."""
    return "" if value is None else f"{value:.{digits}f}"
