"""The sections of a model card on what was trained, on whom, and for what use."""

from collections.abc import Mapping
from typing import Any

from uncus import NOTICE
from uncus.data.text import shorten
from uncus.pipeline.model_card.evidence import Evidence
from uncus.pipeline.rendering.markdown import Block, Section, Table

USE = (
    "For research by people who know the study that the networks were trained on: to compare "
    "methods, to study groups, to find scans worth a second look in a study."
)
NOT_FOR = (
    "Not for diagnosis, screening, treatment decisions or patient care, and not for scans of "
    f"another domain than the one below. {NOTICE}"
)
SPACES = {"keep": "the scans' own (scanner or template)", "mni": "registered to ICBM152 (MNI)"}

TRY = "To try the software, and to see that a known atrophy is found: the scans are synthetic."
MANY = 20
"""Sites that are listed."""
KINDS = {
    True: "synthetic: phantoms",
    False: "people (not marked as synthetic)",
    None: "not recorded",
}


def use(evidence: Evidence) -> Section:
    """Intended use, and what is predicted."""
    target = evidence.card["target"]
    columns = ", ".join(target["columns"])
    predicted: Block = [f"{columns}, in the units of the cohort's table"]
    if not evidence.regression:
        predicted = [
            f"{label}: {columns} is {' or '.join(values)}"
            for label, values in target["classes"].items()
        ]
    shown = "What is predicted, from one T1-weighted scan:"
    why = TRY if evidence.synthetic else USE
    return Section("Intended use", [why, NOT_FOR, shown, predicted])


def data(evidence: Evidence) -> Section:
    """The cohort."""
    return Section("Training data", [Table(["fact", "value"], list(cohort(evidence).items()))])


def cohort(evidence: Evidence) -> dict[str, object]:
    """Title -> value: source, counts, ages, sexes, sites, scanners."""
    card = evidence.card
    training, domain = card["training"], card.get("domain", {})
    adapted, first = evidence.card.get("adapted"), evidence.source
    synthetic = adapted.get("synthetic") if adapted else evidence.synthetic
    rows: dict[str, object] = {
        "cohort": evidence.facts.get("cohort", "not recorded"),
        "kind": KINDS[synthetic],
        **counted(training, "labels seen of" if adapted else "scans labelled"),
    }
    if adapted:
        before = {"run": first.get("run", adapted["run"])}
        before |= {"cohort": first.get("cohort", "not recorded")}
        before |= {"kind": KINDS[first.get("synthetic")], **counted(first, "scans labelled")}
        rows = {f"adapted to: {name}": value for name, value in rows.items()}
        rows = {f"trained on: {name}": value for name, value in before.items()} | rows
    rows["sex"] = listing(training.get("sex", {}))
    rows["sites"] = listing(evidence.sites)
    for name, values in domain.get("scanner", {}).items():
        rows[name] = " or ".join(values)
    if "slab" in domain:
        rows["field of view"] = "slabs" if domain["slab"] else "whole heads or brains"
    if where := evidence.config.get("where"):
        rows["only scans where"] = where
    return rows


def counted(facts: Mapping[str, Any], labelled: str) -> dict[str, object]:
    """Subjects, scans, labels and ages of a training."""
    rows: dict[str, object] = {
        name: facts.get(name, "not recorded") for name in ("subjects", "scans")
    }
    rows |= {f"{labelled} {name}": count for name, count in facts.get("classes", {}).items()}
    age = facts.get("age_years")
    return rows | {"age in years": f"{age['min']:g} to {age['max']:g}" if age else "not recorded"}


def listing(counts: Mapping[str, Any]) -> str:
    """``F 61, M 59``, or that it is not recorded."""
    known = [f"{name or 'unknown'} {count}" for name, count in counts.items()]
    return shorten(known, MANY) or "not recorded"


def model(evidence: Evidence) -> Section:
    """Networks, training, versions."""
    card = evidence.card
    affine = card["grid"]["affine"]
    edges = [f"{sum(row[k] ** 2 for row in affine[:3]) ** 0.5:.4g}" for k in range(3)]
    shape = " × ".join(map(str, card["grid"]["shape"]))
    rows = {
        **evidence.facts,
        "space": SPACES[card["space"]],
        "grid": f"{shape} voxels of {' × '.join(edges)} mm",
        "made with": ", ".join(f"{name} {text}" for name, text in card["versions"].items()),
    }
    for shown_above in ("cohort", "subjects", "fingerprint of the cohort"):
        rows.pop(shown_above, None)
    return Section("Networks and training", [Table(["fact", "value"], list(rows.items()))])


def hashes(evidence: Evidence) -> Section:
    """What identifies the model, its cohort and its folds."""
    card = evidence.card
    rows = [[f"model/{name}", value] for name, value in evidence.sums.items()]
    rows += [[name, value] for name, value in card.get("results", {}).items()]
    rows += [["cohort (fingerprint)", card["cohort_fingerprint"]]]
    return Section("Hashes", ["SHA-256 of each file:", Table(["file", "SHA-256"], rows)])
