"""``MODEL_CARD.md``: written at the end of training, and again whenever the evidence changes.

Every number in it is from a file of the run.
"""

import json
from dataclasses import replace
from typing import Any

from uncus import NOTICE
from uncus.data import files
from uncus.data.text import listed
from uncus.pipeline.evaluation.report_text import row_title
from uncus.pipeline.model_card import claim, data, results
from uncus.pipeline.model_card.evidence import Evidence
from uncus.pipeline.model_card.warnings import warnings
from uncus.pipeline.rendering.markdown import Section, block_text, escape, render
from uncus.pipeline.runs import Run
from uncus.pipeline.trust.domain import synthetic_warning

SECTIONS = (
    data.use,
    data.data,
    data.model,
    results.results,
    results.adjusted,
    results.calibration,
    results.robustness,
    results.domain,
    results.audit,
    results.saliency,
    results.limits,
    claim.claim,
    data.hashes,
)
JUDGED = {
    "report": "the report",
    "external": "a report on another cohort",
    "audit": "the audit",
    "robustness": "the robustness",
}
"""What is written after the training, and is in no seal -> its name for people."""
UNEXPECTED = (AttributeError, IndexError, KeyError, TypeError, ValueError)
"""Raised by JSON of another form."""


def write(run: Run) -> None:
    """Write the card of a finished run; not of a model folder alone, which has no place for it."""
    if run.path != run.model_folder:
        files.write_text(run.model_card_path, whole(Evidence.of(run)))


def whole(evidence: Evidence) -> str:
    """Header and text, without what is damaged, which is named."""
    try:
        return header(evidence) + text(evidence)
    except UNEXPECTED:
        damaged = [name for name in JUDGED if not renders(evidence, name)]
        less: dict[str, Any] = {name: {} for name in damaged}
        problems = tuple(f"{JUDGED[name]} is damaged; make it again" for name in damaged)
        evidence = replace(evidence, **less, problems=evidence.problems + problems)
        return header(evidence) + text(evidence)


def renders(evidence: Evidence, name: str) -> bool:
    """Whether the card can be made of this file alone, of those in ``JUDGED``."""
    others: dict[str, Any] = {other: {} for other in JUDGED if other != name}
    alone = replace(evidence, **others)
    try:
        return bool(header(alone) + text(alone))
    except UNEXPECTED:
        return False


def text(evidence: Evidence) -> str:
    """The card in Markdown: what must be known first, then section by section."""
    top = block_text(warnings(evidence))
    sections: list[Section] = [section(evidence) for section in SECTIONS]
    parts = [f"# {escape(title(evidence))}", f"**{escape(NOTICE)}**", top, render(sections)]
    return "\n\n".join(part for part in parts if part)


def title(evidence: Evidence) -> str:
    """``run: CN or AD from a T1-weighted scan``."""
    target = evidence.card["target"]
    known = listed(target["columns"]) if evidence.regression else " or ".join(target["classes"])
    return f"{evidence.name}: {known} from a T1-weighted scan"


def header(evidence: Evidence) -> str:
    """The YAML header that the Hugging Face Hub reads; its values are JSON, which is YAML."""
    task = "image-regression" if evidence.regression else "image-classification"
    known: dict[str, Any] = {
        "library_name": "uncus",
        "tags": ["mri", "t1-weighted", "neuroimaging", "research-use-only"],
    }
    if not evidence.regression:  # the Hub has no tag for a number from an image
        known["pipeline_tag"] = task
    if synthetic_warning(evidence.card):
        known["tags"].append("synthetic-data")
    if report := evidence.report:
        measured = [
            {"type": metric, "name": row_title(metric, report), "value": value["value"]}
            for metric, value in report["metrics"].items()
            if value["value"] is not None
        ]
        cohort = evidence.facts.get("cohort", "cohort")
        result = {
            "task": {"type": task},
            "dataset": {"type": cohort, "name": f"{cohort}, out of fold"},
            "metrics": measured,
        }
        known["model-index"] = [{"name": evidence.name, "results": [result]}]
    lines = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in known.items()]
    return "\n".join(["---", *lines, "---", "", ""])
