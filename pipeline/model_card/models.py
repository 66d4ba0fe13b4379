"""``uncus models``: the models that come with the package."""

import json
from dataclasses import dataclass
from typing import Annotated, Any

import tyro
from rich.console import Console
from rich.table import Table
from rich.text import Text

from uncus import NOTICE
from uncus.data import files
from uncus.pipeline.builtin.catalog import DEFAULT, built_in
from uncus.pipeline.model_card.summary import measured, trained_on
from uncus.pipeline.runs import Run


@dataclass(frozen=True)
class Models:
    """List the built-in models; each can be named in place of a RUN.

    Without a RUN, uncus predict, explain and app use the first one.
    """

    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False
    """Print JSON."""

    def run(self) -> int:
        """Print and return 0."""
        facts = [facts_of(name, run) for name, run in built_in().items()]
        if self.as_json:
            print(json.dumps({"models": facts, "notice": NOTICE}, indent=2))
            return 0
        show(facts)
        return 0


def facts_of(name: str, run: Run) -> dict[str, Any]:
    """What is known of a model, from its verified files.

    Raises
    ------
    BadInput: a file is damaged.
    """
    sums = run.verify()
    report = run.report() if run.report_path.exists() else {}
    return {
        "name": name,
        "default": name == DEFAULT,
        "answers": list(run.target.names),
        "trained_on": trained_on(run.card),
        "measured": measured(run),
        "metrics": report.get("metrics", {}),
        "bytes": sum((run.model_folder / file).stat().st_size for file in sums),
        "sha256": files.sha256(run.seal_path),
        "folder": str(run.path),
        "notice": NOTICE,
    }


def show(facts: list[dict[str, Any]]) -> None:
    """Print a table."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=160)  # no wrapping in files and pipes
    if not facts:
        print(f"This installation has no built-in model. {NOTICE}")
        return
    table = Table(title=Text("Built-in models"))
    for head in ("name", "answers", "trained on", "out of fold", "MB", "SHA-256 of SHA256SUMS"):
        table.add_column(head, justify="right" if head == "MB" else "left")
    for one in facts:
        cells = [
            one["name"],
            ", ".join(one["answers"]),
            one["trained_on"],
            one["measured"],
            f"{one['bytes'] / 1e6:.1f}",
            one["sha256"][:16],
        ]
        table.add_row(*map(Text, cells))
    console.print(table)
    print(NOTICE)
