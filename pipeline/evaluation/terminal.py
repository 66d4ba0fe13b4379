"""An evaluation as tables on the terminal."""

from collections.abc import Mapping
from typing import Any

from uncus.pipeline.evaluation import metrics, reliability
from uncus.pipeline.evaluation.report_text import (
    against_table,
    against_title,
    headline,
    row_title,
    unadjusted,
)
from uncus.pipeline.rendering.numbers import estimate_text, interval_text, number


def show(name: str, report: Mapping[str, Any]) -> None:
    """Print the table of metrics, the holdout, the folds and test-retest."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    where = f"on {report['external']['cohort']}" if "external" in report else "out of fold"
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=160)  # no wrapping in files and pipes
    console.print(Text(f"{headline(report)}. {unadjusted(report)}".strip()), soft_wrap=True)
    console.print(terminal_table(f"{name}: {where}", report))
    if report.get("holdout"):
        console.print(terminal_table(f"{name}: holdout", report["holdout"]))
    if other := report.get("against"):
        grid = Table(title=Text(against_title(other)))
        head, rows = against_table(other)
        for name in head:
            grid.add_column(Text(name), no_wrap=not name, justify="right" if name else "left")
        for row in rows:
            grid.add_row(*map(Text, row))
        console.print(grid)
    within = report["within_folds"]
    if within and len(report["folds"]) > 1:
        folds = "  ".join(
            f"{row['tested']} {number(row['score'])}" if "tested" in row else number(row["score"])
            for row in report["folds"]
        )
        mean = f"{number(within['mean'])}, SD {number(within['sd'])}"
        console.print(f"{metrics.title(within['metric'])} within folds: {folds}  (mean {mean})")
    for line in reliability.lines(report):
        console.print(Text(line), soft_wrap=True)
    for warning in report["warnings"]:
        console.print(Text(f"warning: {warning}"), soft_wrap=True)
    for what, result in (report["test_retest"] or {"of": {}})["of"].items():
        icc = estimate_text(result["icc"])
        console.print(
            f"test-retest of {what}, {result['n']} subjects: ICC(2,1) {icc}, "
            f"mean absolute difference {estimate_text(result['mean_absolute_difference'])}"
        )


def terminal_table(title: str, part: Mapping[str, Any]) -> Any:
    """The table of metrics for the terminal."""
    from rich.table import Table
    from rich.text import Text

    counts = part["counts"]
    grid = Table(title=Text(f"{title}, {counts['scans']} scans of {counts['subjects']} subjects"))
    grid.add_column("", no_wrap=True)
    columns = {"model": part["metrics"], **part["baselines"]}
    for name in columns:
        grid.add_column(Text(name), justify="right", style="bold" if name == "model" else "")
    for metric in part["metrics"]:
        entries = (values[metric] for values in columns.values())
        cells = [
            f"{number(entry['value'])}\n[dim]{interval_text(entry, 2)}[/dim]" for entry in entries
        ]
        grid.add_row(Text(row_title(metric, part)), *cells)
    return grid
