"""An evaluation as a self-contained page: no network, no script, no other file."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from uncus.pipeline.evaluation import metrics, plots, reliability
from uncus.pipeline.evaluation.assessment import Assessment
from uncus.pipeline.evaluation.report_text import (
    against_table,
    against_title,
    caveats,
    explain,
    main_of,
    meaning,
    row_title,
    summary,
    title,
)
from uncus.pipeline.evaluation.run_facts import facts_table
from uncus.pipeline.evaluation.subgroups import FEW
from uncus.pipeline.rendering.html import card, document, notice, ribbon, table, text
from uncus.pipeline.rendering.numbers import Estimate, estimate_text, fixed, interval_text, number
from uncus.pipeline.trust.domain import SYNTHETIC


def page(name: str, result: Assessment, curves: Mapping[str, pd.DataFrame]) -> str:
    """The page: summary, metrics, plots, and limitations.

    Parameters
    ----------
    name: the run's name.
    curves: network -> its metrics by epoch.
    """
    report = result.report
    target = report["target"]
    what = ", ".join(target["columns"])
    heading = f"Predicting {what}" if target["regression"] else " or ".join(report["names"])
    body = [
        ribbon() if SYNTHETIC in report["warnings"] else "",
        f"<h1>{text(heading)} <span class=faint>· {text(name)}</span></h1>",
        notice(),
        summary(report),
        f"<h2>{text(title(report))}</h2>",
        metrics_table(report),
        f"<p class=faint><small>{explain(report)}</small></p>",
        caveats(report),
        f"<div class=figures>{''.join(figures(result))}</div>",
        reliability.section(report, result.nested),
        holdout(report),
        against(report),
        "<h2>Folds and subgroups</h2>",
        f"<div class=tables>{folds_table(report)}{groups_table(report)}</div>",
        retest(result),
    ]
    drawn = plots.training(curves)
    if drawn:
        caption = "One line per network. The score is the AUC, or minus the error in SDs."
        body += [
            "<h2>Training</h2>",
            f"<div class=figures>{card('', drawn, caption, 'wide')}</div>",
        ]
    body += [facts_table(report.get("run", {}))]
    body += ["<h2>Interpretation and limitations</h2>", meaning(report)]
    footer = (
        f"Made by uncus {report['version']}; report.json in the same folder contains the numbers."
    )
    return document(f"{name} · uncus evaluation", body, footer=footer)


def metrics_table(part: Mapping[str, Any]) -> str:
    """Metrics as rows; the model and the baselines as columns, with intervals."""
    columns = {"model": part["metrics"], **part["baselines"]}
    head = "".join(f"<th{mark(name)}>{text(name)}</th>" for name in columns)
    rows = []
    for metric in part["metrics"]:
        cells = []
        for name, values in columns.items():
            entry = values[metric]
            around = f"<small>{interval_text(entry)}</small>" if interval_text(entry) else ""
            cells.append(f"<td{mark(name)}>{number(entry['value'])}{around}</td>")
        hint = text(metrics.TITLES.get(metrics.base(metric), ("", ""))[1])
        rows.append(
            f'<tr><th scope=row title="{hint}">{text(row_title(metric, part))}</th>'
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
    report, outputs = result.report, result.outputs
    names, metric = report["names"], main_of(report)
    rows = {"model": report["metrics"][metric]}
    rows |= {name: values[metric] for name, values in report["baselines"].items()}
    lead = card(
        "Model and baselines",
        plots.forest(rows, metrics.title(metric), 0.5 if metric.startswith("auc") else None),
        "Value and 95% interval.",
        "double",
    )
    model = outputs.values["model"]
    if report["target"]["regression"]:
        drawn = [
            card(name, plots.scatter(outputs.labels[:, k], model[:, k], name), "Dashed: no error.")
            for k, name in enumerate(names)
        ]
        return [lead, *drawn]
    several, unmeasured = len(names) > 2, []
    if not result.nested:  # otherwise before and after, in a section of their own
        unmeasured = [reliability.diagram("Calibration", outputs.labels, model, names)]
    cards = [
        card(
            "ROC",
            plots.roc(outputs.labels, outputs.values, names),
            "Each class against the rest." if several else "Model and baselines.",
        ),
        *unmeasured,
        card(
            "Confusion",
            plots.confusion(report["confusion"], names),
            f"Scans, and their share of the row. Predicted: {report['rule']}.",
        ),
    ]
    if not several:
        spread = plots.scores(outputs.labels, model, names)
        cards.append(card("Scores", spread, "Dashed: the decision threshold."))
    return [*cards, lead]


def holdout(report: Mapping[str, Any]) -> str:
    """The holdout, if there is one."""
    part = report.get("holdout")
    if not part:
        return ""
    counts = part["counts"]
    return (
        "<h2>Holdout</h2>"
        f"<p>{counts['scans']} scans of {counts['subjects']} subjects that no network was trained "
        f"on; the mean output of all networks.</p>{metrics_table(part)}"
    )


def against(report: Mapping[str, Any]) -> str:
    """The comparison with another run, if there is one."""
    other = report.get("against")
    if not other:
        return ""
    return (
        f"<h2>{text(against_title(other))}</h2>{table(*against_table(other))}"
        "<p class=faint><small>Both runs on the same scans; the interval of a difference is from "
        "the same resamples of subjects for both.</small></p>"
    )


def folds_table(report: Mapping[str, Any]) -> str:
    """The main metric within each fold, and its mean."""
    within = report["within_folds"]
    metric = metrics.title(within["metric"]) if within else ""
    rows: list[list[object]] = [
        [
            row.get("tested", f"fold {row['fold']}"),
            row["trained_subjects"],
            row["scans"],
            number(row["score"]),
        ]
        for row in report["folds"]
    ]
    if within and len(rows) > 1:
        rows.append(
            ["mean of folds (SD)", "", "", f"{number(within['mean'])} ({number(within['sd'])})"]
        )
    return table(["", "training subjects", "test scans", metric], rows)


def groups_table(report: Mapping[str, Any]) -> str:
    """The metrics by sex, age, site and scanner."""
    rows: list[list[object]] = []
    every = [group for groups in report["subgroups"].values() for group in groups.values()]
    shown = list(dict.fromkeys(metric for group in every for metric in group["metrics"]))
    for column, groups in report["subgroups"].items():
        for level, group in groups.items():
            each, values = group.get("classes", {}), group["metrics"]
            counted = " + ".join(map(str, each.values())) if each else group["scans"]
            cells = [short(values[m]) if m in values else "too few" for m in shown]
            rows.append([f"{column} {level}{' *' if group['few'] else ''}", counted, *cells])
    if not rows:
        return ""
    head = "scans" if report["target"]["regression"] else " + ".join(report["names"])
    note = f"<p class=faint><small>* under {FEW} subjects of a class: uncertain</small></p>"
    few = any(group["few"] for group in every)
    return table(["", head, *map(metrics.title, shown)], rows) + note * few


def short(estimate: Estimate) -> str:
    """``0.80 (0.73 to 0.87)``: two decimals, for wide tables."""
    value, around = estimate["value"], interval_text(estimate, 2)
    if value is None or abs(value) >= 10:
        return estimate_text(estimate)
    return fixed(value, 2) + (f" ({around})" if around else "")


def retest(result: Assessment) -> str:
    """Test-retest: a table and a Bland-Altman plot for each class or column."""
    test_retest = result.report["test_retest"]
    if not test_retest:
        return ""
    prefix = "" if result.report["target"]["regression"] else "probability of "
    rows, drawn = [], []
    for name, entry in test_retest["of"].items():
        low, high = (number(limit) for limit in entry["limits"])
        rows.append(
            [
                prefix + name,
                estimate_text(entry["icc"]),
                estimate_text(entry["mean_absolute_difference"]),
                number(entry["bias"]),
                f"{low} to {high}",
            ]
        )
        pairs = result.pairs[[f"{name}_1", f"{name}_2"]].to_numpy(dtype=float)
        figure = plots.bland_altman(pairs, entry, prefix + name)
        drawn.append(card(prefix + name, figure, "Lines: bias and 95% limits of agreement."))
    same = test_retest.get("same_class")
    calls = (
        "" if same is None else f" Both scans have the same predicted class in {same:.0%} of them."
    )
    head = ["", "ICC(2,1)", "mean absolute difference", "bias", "limits of agreement"]
    return (
        "<h2>Test-retest</h2>"
        f"<p>{test_retest['subjects']} subjects have several sessions, of which the first two "
        f"are compared, by networks that were trained on neither.{calls}</p>{table(head, rows)}"
        f'<div class="figures pairs" style="margin-top:16px">{"".join(drawn)}</div>'
    )
