"""An evaluation as a page that needs nothing else: no network, no script, no other file."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from uncus import NOTICE
from uncus.pipeline.evaluate import Assessment
from uncus.pipeline.evaluation import metrics, plots
from uncus.pipeline.evaluation.report_text import (
    explain,
    main_of,
    meaning,
    number,
    span,
    spoken,
    summary,
    text,
)

CSS = """
:root { --ink:#22303a; --faint:#62717c; --rule:#e3e8eb; --tint:#f5f8f9; --model:#0b7285; }
* { box-sizing:border-box }
body { margin:0; background:#fbfcfc; color:var(--ink);
  font:15px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,Helvetica,Arial,sans-serif }
main { max-width:1060px; margin:0 auto; padding:32px 28px 56px }
h1 { font-size:25px; line-height:1.25; margin:0; font-weight:650; letter-spacing:-.01em }
h2 { font-size:17px; margin:38px 0 10px; font-weight:650 }
h3 { font-size:14px; margin:0 0 6px; font-weight:600 }
p { margin:8px 0; max-width:76ch } .faint { color:var(--faint) } small { font-size:13px }
.notice { display:inline-block; margin:10px 0 2px; padding:3px 11px; border-radius:4px;
  background:#fdf3e3; color:#7a4d09; font-weight:600; font-size:14px }
.lead { font-size:17px; margin-top:14px }
.lead b { color:var(--model) }
.scroll { overflow-x:auto }
table { border-collapse:collapse; font-variant-numeric:tabular-nums; background:#fff;
  border:1px solid var(--rule); border-radius:6px }
th,td { padding:6px 12px; text-align:right; white-space:nowrap; border-top:1px solid var(--rule) }
thead th { border-top:0; font-weight:600; background:var(--tint); vertical-align:bottom }
th:first-child,td:first-child { text-align:left }
tbody th { font-weight:500 }
td small { display:block; color:var(--faint); font-size:11.5px; line-height:1.3 }
td.model { background:#eef6f8; font-weight:600 } td.model small { font-weight:400 }
thead th.model { background:#dfeff2 }
.figures { display:grid; grid-template-columns:repeat(auto-fill,minmax(300px,1fr)); gap:14px }
.pairs { grid-template-columns:repeat(auto-fit,minmax(400px,1fr)) }
.tables { display:flex; flex-wrap:wrap; gap:22px; align-items:flex-start }
figure { margin:0; background:#fff; border:1px solid var(--rule); border-radius:6px;
  padding:14px 16px 10px }
figure.wide { grid-column:1/-1 }
@media (min-width:720px) { figure.double { grid-column:span 2 } }
figure svg { display:block; width:100%; height:auto; max-height:440px; margin:auto }
figcaption { color:var(--faint); font-size:13px; margin-top:6px }
.said { border-left:3px solid var(--model); padding:2px 0 2px 16px; margin:14px 0 }
footer { margin-top:40px; padding-top:14px; border-top:1px solid var(--rule);
  color:var(--faint); font-size:13px }
@media print { body { background:#fff } figure,table { break-inside:avoid } }
"""


def page(name: str, result: Assessment, curves: Mapping[str, pd.DataFrame]) -> str:
    """The page: what was found, the table, the plots, and what all this is and is not.

    Parameters
    ----------
    name: of the run.
    curves: network -> its metrics by epoch.
    """
    report = result.report
    target = report["target"]
    what = ", ".join(target["columns"])
    heading = f"Predicting {what}" if target["regression"] else " or ".join(report["names"])
    body = [
        f"<h1>{text(heading)} <span class=faint>· {text(name)}</span></h1>",
        f"<div class=notice>{text(NOTICE)}</div>",
        summary(report),
        "<h2>Measured out of fold</h2>",
        metrics_table(report),
        f"<p class=faint><small>{explain(report)}</small></p>",
        f"<div class=figures>{''.join(figures(result))}</div>",
        holdout(report),
        "<h2>Folds and groups</h2>",
        f"<div class=tables>{folds_table(report)}{groups_table(report)}</div>",
        retest(result),
    ]
    drawn = plots.training(curves)
    if drawn:
        caption = "One line a network. The score is the AUC, or minus the error in SDs."
        body += [
            "<h2>Training</h2>",
            f"<div class=figures>{card('', drawn, caption, 'wide')}</div>",
        ]
    body += ["<h2>What this is, and what it is not</h2>", meaning(report)]
    body.append(
        f"<footer>{text(NOTICE)} Made by uncus {text(report['version'])}; the same numbers are in "
        "report.json beside this page.</footer>"
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{text(name)} · uncus evaluation</title><style>{CSS}</style></head>"
        f"<body><main>{''.join(body)}</main></body></html>\n"
    )


def card(heading: str, drawn: str, caption: str, width: str = "") -> str:
    """One plot with its heading and caption."""
    top = f"<h3>{text(heading)}</h3>" if heading else ""
    kind = f" class={width}" if width else ""
    return f"<figure{kind}>{top}{drawn}<figcaption>{text(caption)}</figcaption></figure>"


def metrics_table(part: Mapping[str, Any]) -> str:
    """Metrics as rows; the model and the baselines as columns, with intervals."""
    columns = {"model": part["metrics"], **part["baselines"]}
    head = "".join(f"<th{mark(name)}>{text(name)}</th>" for name in columns)
    rows = []
    for metric in part["metrics"]:
        cells = []
        for name, found in columns.items():
            entry = found[metric]
            around = f"<small>{span(entry)}</small>" if span(entry) else ""
            cells.append(f"<td{mark(name)}>{number(entry['value'])}{around}</td>")
        hint = text(metrics.TITLES.get(metrics.base(metric), ("", ""))[1])
        rows.append(
            f'<tr><th scope=row title="{hint}">{text(metrics.title(metric))}</th>'
            f"{''.join(cells)}</tr>"
        )
    return (
        f"<div class=scroll><table><thead><tr><th></th>{head}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def mark(name: str) -> str:
    """The class of the model's column."""
    return " class=model" if name == "model" else ""


def figures(result: Assessment) -> list[str]:
    """The plots for the kind of target."""
    report, answers = result.report, result.answers
    names, metric = report["names"], main_of(report)
    rows = {"model": report["metrics"][metric]}
    rows |= {name: found[metric] for name, found in report["baselines"].items()}
    lead = card(
        "Model and baselines",
        plots.forest(rows, metrics.title(metric), 0.5 if metric == "auc" else None),
        "Value and 95% interval.",
        "double",
    )
    model = answers.said["model"]
    if report["target"]["regression"]:
        drawn = [
            card(name, plots.scatter(answers.labels[:, k], model[:, k], name), "Dashed: no error.")
            for k, name in enumerate(names)
        ]
        return [lead, *drawn]
    several = len(names) > 2
    cards = [
        card(
            "ROC",
            plots.roc(answers.labels, answers.said, names),
            "Each class against the rest." if several else "The model beside the baselines.",
        ),
        card(
            "Calibration",
            plots.calibration(answers.labels, model, names),
            "Ten bins; on the dashed line the probabilities are true to their word."
            + ("" if several else " Bars: 95% (Wilson)."),
        ),
        card(
            "Confusion",
            plots.confusion(report["confusion"], names),
            f"Scans, and the share of their row. Called {report['rule']}.",
        ),
    ]
    if not several:
        spread = plots.scores(answers.labels, model, names)
        cards.append(card("Scores", spread, "Dashed: where the call changes."))
    return [*cards, lead]


def holdout(report: Mapping[str, Any]) -> str:
    """The fixed test set, where there is one."""
    part = report.get("holdout")
    if not part:
        return ""
    counts = part["counts"]
    return (
        "<h2>The fixed test set</h2>"
        f"<p>{counts['scans']} scans of {counts['subjects']} people whom no network was trained "
        f"on; the mean answer of all networks.</p>{metrics_table(part)}"
    )


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A plain table; the first column is text."""
    top = "".join(f"<th>{text(cell)}</th>" for cell in head)
    body = "".join(
        f"<tr><th scope=row>{text(row[0])}</th>"
        + "".join(f"<td>{text(cell)}</td>" for cell in row[1:])
        + "</tr>"
        for row in rows
    )
    return (
        f"<div class=scroll><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def folds_table(report: Mapping[str, Any]) -> str:
    """The main metric within each fold, and its mean."""
    within = report["within_folds"]
    metric = metrics.title(within["metric"]) if within else ""
    rows: list[list[object]] = [
        [f"fold {row['fold']}", row["trained_subjects"], row["scans"], number(row["score"])]
        for row in report["folds"]
    ]
    if within and len(rows) > 1:
        rows.append(
            ["mean of folds (SD)", "", "", f"{number(within['mean'])} ({number(within['sd'])})"]
        )
    return table(["", "trained on", "tested", metric], rows)


def groups_table(report: Mapping[str, Any]) -> str:
    """The main metric by sex and age."""
    rows: list[list[object]] = []
    metric = ""
    for column, groups in report["subgroups"].items():
        for level, found in groups.items():
            metric = metrics.title(found["metric"])
            each = found.get("classes", {})
            score = "too few" if found["score"] is None else spoken(found["score"])
            counted = " + ".join(map(str, each.values())) if each else found["scans"]
            rows.append([f"{column} {level}", counted, score])
    if not rows:
        return ""
    names = report["names"]
    head = "scans" if report["target"]["regression"] else " + ".join(names)
    return table(["", head, metric], rows)


def retest(result: Assessment) -> str:
    """Test-retest: a table and a Bland-Altman plot for each class or column."""
    found = result.report["test_retest"]
    if not found:
        return ""
    prefix = "" if result.report["target"]["regression"] else "probability of "
    rows, drawn = [], []
    for name, entry in found["of"].items():
        low, high = (number(limit) for limit in entry["limits"])
        rows.append(
            [
                prefix + name,
                spoken(entry["icc"]),
                spoken(entry["mean_absolute_difference"]),
                number(entry["bias"]),
                f"{low} to {high}",
            ]
        )
        pairs = result.pairs[[f"{name}_1", f"{name}_2"]].to_numpy(dtype=float)
        figure = plots.bland_altman(pairs, entry, prefix + name)
        drawn.append(card(prefix + name, figure, "Lines: bias and 95% limits of agreement."))
    same = found.get("same_class")
    calls = "" if same is None else f" Both scans were given the same class in {same:.0%} of them."
    head = ["", "ICC(2,1)", "mean absolute difference", "bias", "limits of agreement"]
    return (
        "<h2>The same person scanned twice</h2>"
        f"<p>{found['subjects']} people have two sessions (the first two are compared), judged by "
        f"the same networks, which saw neither.{calls}</p>{table(head, rows)}"
        f'<div class="figures pairs" style="margin-top:16px">{"".join(drawn)}</div>'
    )
