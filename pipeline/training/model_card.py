"""The model card: what the networks are, what they were made from, for whom.

``model/card.json`` is all that a prediction reads besides weights and reference.
"""

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
from safetensors.numpy import save

from uncus import NOTICE
from uncus.data import files
from uncus.data.design import covariates
from uncus.data.prepared_cohort import PreparedCohort
from uncus.data.quality_control import Reference
from uncus.pipeline import config, environment
from uncus.pipeline.runs import SCHEMA, Member, Run
from uncus.pipeline.training import neighbours
from uncus.pipeline.training.task import Task


def write(run: Run, cohort: PreparedCohort, task: Task, members: tuple[Member, ...]) -> None:
    """Write the card and the reference, then seal the model folder."""
    reference, judged = fit_reference(cohort, task).state()
    whole = save(reference)  # save_file's own error on a full disk is not an OSError
    path = run.reference_path
    files.write_atomically(path, lambda temporary: temporary.write_bytes(whole))
    card = {
        "schema": SCHEMA,
        "notice": NOTICE,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": environment.versions(),
        "target": {
            "columns": list(task.target.columns),
            "classes": {name: list(values) for name, values in task.target.classes.items()},
            "regression": task.target.regression,
        },
        "model": config.to_dict(task.model),
        "members": [describe(run, member, task) for member in members],
        "covariates": known(task),
        "flip_average": task.flip_average,
        "space": cohort.space,
        "grid": cohort.grid.as_dict(),
        "reference": judged,
        "cohort_fingerprint": cohort.fingerprint,
        "training": training(task),
        "init_from": str(task.init_from.path) if task.init_from else None,
    }
    files.write_json(run.card_path, card)
    neighbours.write(run, cohort, task, members[0])
    run.seal()


def fit_reference(cohort: PreparedCohort, task: Task) -> Reference:
    """What the scans look like that the networks may be asked about: never a holdout scan."""
    rows = task.rows(0, "train", "validation", "test")
    positions = task.table.index[rows].to_numpy()
    return Reference.fit(cohort.volumes[positions], cohort.contacts[positions])


def known(task: Task) -> dict[str, dict[str, float]]:
    """What a prediction takes besides the scan, with the training people's values of it."""
    rows = task.rows(0, "train", "validation", "test")
    return covariates.ranges(task.covariates[rows], task.covariate_names)


def describe(run: Run, member: Member, task: Task) -> dict[str, Any]:
    """One member: its file, and for a regression what turns its output into units."""
    entry: dict[str, Any] = {
        "file": run.weights(member).name,
        "fold": member.fold,
        "seed": member.seed,
        "sha256": files.sha256(run.weights(member)),
    }
    if task.target.regression:
        mean, spread = task.standardization(member.fold)
        entry |= {"mean": mean.tolist(), "std": spread.tolist()}
    return entry


def training(task: Task) -> dict[str, Any]:
    """Who the networks were trained on: counts, ages, sexes, classes, and the scans' hashes."""
    table = task.table.iloc[task.rows(0, "train", "validation", "test")]
    facts: dict[str, Any] = {
        "subjects": int(table["participant_id"].nunique()),
        "scans": len(table),
        "folds": task.splits.folds,
        "voxel_hashes": sorted(table["voxel_hash"]),
    }
    if "age" in table:
        age = pd.to_numeric(table["age"], errors="coerce").dropna()
        if len(age):
            facts["age_years"] = {"min": float(age.min()), "max": float(age.max())}
    if "sex" in table:
        facts["sex"] = table["sex"].value_counts().to_dict()
    if task.target.is_classification:
        labels = task.labels[task.rows(0, "train", "validation", "test")]
        counts = np.bincount(labels, minlength=len(task.target.names)).tolist()
        facts["classes"] = dict(zip(task.target.names, counts, strict=True))
    return facts
