"""What the networks of a run were trained on, before the run was adapted to any site."""

from pathlib import Path
from typing import Any

import numpy as np

from uncus.data import files
from uncus.data.design.covariates import columns
from uncus.data.design.targets import class_indices
from uncus.data.errors import BadInput
from uncus.data.scan_dataset import ScanDataset
from uncus.pipeline.adaptation.site import Array
from uncus.pipeline.audit.evidence import images_of
from uncus.pipeline.runs import Run

Scans = dict[int, ScanDataset]


def source_facts(run: Run) -> dict[str, Any]:
    """What the card of a run that is adapted to a site says of the first training."""
    card = run.card
    if "adapted" in card:
        return dict(card["adapted"].get("source", {}))
    kept = ("subjects", "scans", "classes", "age_years")
    facts = {name: card["training"][name] for name in kept if name in card["training"]}
    if "synthetic" in card.get("domain", {}):
        facts["synthetic"] = card["domain"]["synthetic"]
    if run.config_path.exists():
        facts["cohort"] = Path(str(run.config.get("cohort", ""))).name or "not recorded"
    return {"run": run.path.resolve().name, "fingerprint": card["cohort_fingerprint"], **facts}


def shares(run: Run) -> Array:
    """The share of each class in the first training; none is 0, and all are alike if not known."""
    known = source_facts(run).get("classes", {})
    counts = np.array([max(known.get(name, 1), 1) for name in run.target.names], dtype=float)
    return np.asarray(counts / counts.sum())


def source_scans(run: Run, path: Path | None, needed: bool) -> Scans:
    """Fold -> the labelled scans that its networks were trained on, empty where not at hand.

    Those of the first training: a site that ``run`` was adapted to is not among them.

    Parameters
    ----------
    path: the cohort of the first training, where it was moved.

    Raises
    ------
    BadInput: they are ``needed`` and not at hand, or ``path`` is another cohort.
    """
    found, why, remedy = at_hand(run, path)
    if needed and why:
        cause = f"its training scans are not at hand: {why}"
        raise BadInput(run.path, cause, f"{remedy}, or choose another method")
    return found


def at_hand(run: Run, path: Path | None) -> tuple[Scans, str, str]:
    """The scans of :func:`source_scans`, or why there are none, and what to do."""
    if not run.scans_path.exists():
        lacks = f"it is a model without its run, whose {run.scans_path.name} says which they are"
        return {}, lacks, "name the whole run"
    if "adapted" in run.card:
        before = adapted_from(run)
        if before is None:
            name = run.card["adapted"]["run"]
            return {}, f"the run {name} that it was adapted from has gone", "put that one back"
        found, why, remedy = at_hand(before, path)
        folds = sorted(found)
        own = sorted({int(member["fold"]) for member in run.card["members"]}) if found else []
        return {fold: found[folds[fold % len(folds)]] for fold in own}, why, remedy
    scans, splits = run.scans(), run.splits()
    images, why = images_of(run, scans, path)
    if images is None:
        return {}, why, "name its cohort with --source"
    labels = class_indices(scans, run.target)
    known = columns(scans, tuple(run.card.get("covariates", {})))
    found = {}
    for fold in range(splits.folds):
        used = scans["participant_id"].isin(splits.subjects(fold, "train")).to_numpy()
        rows = np.flatnonzero(used & (labels >= 0))
        if not len(rows):
            return {}, f"no training scan of fold {fold} is labelled", "name another run"
        found[fold] = ScanDataset(
            images.cohort.volumes, np.asarray(images.rows)[rows].tolist(), labels[rows], known[rows]
        )
    return found, "", ""


def adapted_from(run: Run) -> Run | None:
    """The run that ``run`` was adapted from, where it still is, unchanged."""
    start = str(run.config.get("init_from") or "")
    before = Run(Path(start))
    if not start or not before.card_path.is_file():
        return None
    same = files.sha256(before.card_path) == run.card["adapted"]["card_sha256"]
    return before if same else None
