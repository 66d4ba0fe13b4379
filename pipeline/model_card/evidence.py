"""What the files of a run say of it, as far as they are there."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from uncus.data.cohorts.scanner_columns import SITES
from uncus.data.errors import BadInput
from uncus.data.tables import clean, find_column
from uncus.pipeline.evaluation.run_facts import run_facts
from uncus.pipeline.run_files.passport import Verdicts
from uncus.pipeline.runs import Run

Content = Mapping[str, Any]
PRIVATE = ("command",)
"""Facts that are not for a card: the command has paths of the machine."""


@dataclass(frozen=True)
class Evidence:
    """The content of a run's files; empty for what is not there.

    Attributes
    ----------
    sums: file of the model -> its SHA-256.
    facts: title -> value, how it was trained.
    config: the options of the training.
    sites: site -> its scans.
    external: another cohort -> the report on it.
    audit, robustness: what was found of this run, with these weights.
    problems: one line for each file that cannot be used.
    """

    name: str
    card: Content
    sums: Mapping[str, str]
    facts: Content = field(default_factory=dict)
    config: Content = field(default_factory=dict)
    sites: Mapping[str, int] = field(default_factory=dict)
    report: Content = field(default_factory=dict)
    external: Mapping[str, Content] = field(default_factory=dict)
    audit: Content = field(default_factory=dict)
    robustness: Content = field(default_factory=dict)
    passport: Content = field(default_factory=dict)
    verdicts: Verdicts = field(default_factory=Verdicts)
    problems: tuple[str, ...] = ()

    @classmethod
    def of(cls, run: Run) -> "Evidence":
        """Read a finished run; raises BadInput where its model is damaged."""
        problems: list[str] = []

        def known(read: Callable[[], Any], empty: Any) -> Any:
            try:
                return read()
            except (BadInput, OSError, ValueError) as error:
                problems.append(" ".join(str(error).split()))
                return empty

        def report(of: Run) -> Any:
            found = known(of.report, {}) if of.report_path.exists() else {}
            if found and (why := other_training(found, of, run)):
                problems.append(why)
                return {}
            return found

        facts = known(lambda: run_facts(run), {})
        verdicts = known(run.verdicts, Verdicts())
        found = known(run.audit, None) or {}
        if found and (why := other_weights(found, run, run.audit_path, "audit")):
            problems.append(why)
            found = {}
        robust = known(run.robustness, None) or {}
        if robust and (why := other_weights(robust, run, run.robustness_path, "evaluate")):
            problems.append(why)
            robust = {}
        return cls(
            name=run.path.resolve().name,
            card=run.card,
            sums=run.verify(),
            facts={title: value for title, value in facts.items() if title not in PRIVATE},
            config=known(lambda: run.config, {}) if run.config_path.exists() else {},
            sites=known(lambda: sites(run), {}) if run.scans_path.exists() else {},
            report=report(run),
            external={name: report(other) for name, other in run.externals().items()},
            audit=found,
            robustness=robust,
            passport=(known(run.passport, None) or {}) if verdicts.methods else {},
            verdicts=verdicts,
            problems=tuple(dict.fromkeys(one.replace(f"{run.path}/", "") for one in problems)),
        )

    @property
    def regression(self) -> bool:
        """Whether a number is predicted."""
        return bool(self.card["target"]["regression"])

    @property
    def source(self) -> Content:
        """What a run that was adapted to a site was trained on first; empty for others."""
        return dict(self.card.get("adapted", {}).get("source", {}))

    @property
    def synthetic(self) -> bool | None:
        """Whether the scans are phantoms; None where it is not known."""
        value = self.card.get("domain", {}).get("synthetic")
        return value if isinstance(value, bool) else None


def sites(run: Run) -> dict[str, int]:
    """Site -> its scans, from the table of the scans; empty without such a column."""
    scans = run.scans()
    column = find_column(scans, SITES)
    counted = () if column is None else scans[column].map(clean).value_counts().items()
    return {str(name): int(count) for name, count in counted}


def other_training(report: Content, of: Run, run: Run) -> str:
    """That a report is of another training than the run's; "" where it is of this one."""
    facts, made = report.get("run", {}), run.card["made"]
    if isinstance(facts, dict) and facts.get("made", made) == made:
        return ""
    return f"{of.report_path}: is about another training; evaluate the run again"


def other_weights(found: Content, run: Run, path: Path, verb: str) -> str:
    """That what ``verb`` found is of other weights than the run's; "" where it is of these."""
    hashes = found.get("hashes", {})
    sums = run.weights_sums().items()
    same = isinstance(hashes, dict) and all(hashes.get(name) == value for name, value in sums)
    return "" if same else f"{path}: is about other weights; {verb} the run again"
