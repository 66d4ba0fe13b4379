"""The model card: what the networks predict, and how and on whom they were trained.

A prediction needs ``model/card.json``, the weights and the reference.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from uncus import NOTICE
from uncus.data import files
from uncus.data.design import covariates
from uncus.data.design.ties import Tie, ties
from uncus.data.quality_control import Reference
from uncus.data.tables import find_column, read_column
from uncus.data.transforms.custom import recorded
from uncus.data.transforms.path import scan_pipeline
from uncus.pipeline import config, environment
from uncus.pipeline.run_files.certificate import Certificate
from uncus.pipeline.run_files.training_scans import TrainingScans
from uncus.pipeline.runs import SCHEMA, Member, Run
from uncus.pipeline.training.domain import fit_domain, started_on_phantoms
from uncus.pipeline.training.task import Task
from uncus.pipeline.trust.brain_age import BrainAge
from uncus.pipeline.trust.out_of_fold import OutOfFold
from uncus.pipeline.trust.reliability import Reliability


def write(
    run: Run, task: Task, members: tuple[Member, ...], reliability: Reliability | None = None
) -> None:
    """Write the reference, what is known of training subjects, and the card; seal the model.

    ``reliability`` is by default fitted to the run's predictions of its test scans.
    """
    cohort = task.cohort
    reference = fit_reference(task)
    images, state = reference.state()
    content = save(images)  # save_file's own error on a full disk is not an OSError
    files.write_atomically(run.reference_path, lambda path: path.write_bytes(content))
    domain = fit_domain(run, task, members)
    if domain.networks:
        stored = save(domain.tensors())
        files.write_atomically(run.domain_path, lambda path: path.write_bytes(stored))
    used = task.rows(0, "train", "validation", "test")
    known = TrainingScans.of(task.table["voxel_hash"].iloc[used])
    files.write_json(run.training_scans_path, known.as_dict())
    out_of_fold = OutOfFold.of(run.predictions(), task.target)
    brain_age = BrainAge.fit(out_of_fold)
    weights = {run.weights(one).name: files.sha256(run.weights(one)) for one in members}
    certificate = Certificate.of(cohort.fingerprint, run.splits_path, weights)
    files.write_json(run.certificate_path, certificate.as_dict())
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
        "covariates": covariate_facts(task),
        "flip_average": task.flip_average,
        "space": cohort.space,
        "grid": cohort.grid.as_dict(),
        "pipeline": scan_pipeline(cohort.space, cohort.grid, reference).describe(),
        "reference": state,
        "domain": dict(domain.known),
        "cohort_fingerprint": cohort.fingerprint,
        "training": training(task),
        "results": {p.name: files.sha256(p) for p in (*run.results, *run.about_subjects)},
        "init_from": started_from(task),
        "certificate": certificate.public(),
        **(reliability or Reliability.fit(out_of_fold)).as_card(),
        **({"brain_age": brain_age.as_card()} if brain_age else {}),
        **({"adapted": dict(task.adapted)} if task.adapted else {}),
    }
    files.write_json(run.card_path, card)
    run.seal()


def started_from(task: Task) -> str | None:
    """The name of the run or the file that the weights started from."""
    if task.init_from is None:
        return None
    path = task.init_from if isinstance(task.init_from, Path) else task.init_from.path
    return path.resolve().name


def fit_reference(task: Task) -> Reference:
    """Statistics of all scans but the holdout, which new scans are compared with."""
    rows = task.rows(0, "train", "validation", "test")
    positions = task.table.index[rows].to_numpy()
    return Reference.fit(task.cohort.volumes[positions], task.cohort.contacts[positions])


def covariate_facts(task: Task) -> dict[str, dict[str, Any]]:
    """The covariates that a prediction requires: range over the subjects, tie with the class."""
    rows = task.rows(0, "train", "validation", "test")
    facts = covariates.ranges(task.covariates[rows], task.covariate_names)
    found = {name: {"tie": tie.as_dict()} for name, tie in covariate_ties(task).items()}
    if task.adapted and isinstance(task.init_from, Run):  # what the networks learned first
        for name, known in task.init_from.card.get("covariates", {}).items():
            found |= {name: {"tie": known["tie"]}} if "tie" in known else {}
    return {name: {**known, **found.get(name, {})} for name, known in facts.items()}


def covariate_ties(task: Task) -> dict[str, Tie]:
    """Covariate -> its tie with the class, over the subjects that are not held out."""
    if not task.target.is_classification:
        return {}
    rows = task.rows(0, "train", "validation", "test")
    first = rows[~task.table["participant_id"].iloc[rows].duplicated().to_numpy()]
    found = ties(task.covariates[first], task.covariate_names, task.labels[first])
    return {tie.covariate: tie for tie in found}


def describe(run: Run, member: Member, task: Task) -> dict[str, Any]:
    """A member's weights; for a regression, mean and standard deviation of its targets."""
    entry: dict[str, Any] = {
        "file": run.weights(member).name,
        "fold": member.fold,
        "seed": member.seed,
        "sha256": files.sha256(run.weights(member)),
    }
    if task.target.regression:
        mean, std = task.standardization(member.fold)
        entry |= {"mean": mean.tolist(), "std": std.tolist()}
    return entry


def training(task: Task) -> dict[str, Any]:
    """The subjects that the networks were trained on: counts, ages, sexes, classes."""
    table = task.table.iloc[task.rows(0, "train", "validation", "test")]
    facts: dict[str, Any] = {
        "subjects": int(table["participant_id"].nunique()),
        "scans": len(table),
        "folds": task.splits.folds,
    }
    if started_on_phantoms(task):
        facts["started_on_phantoms"] = True
    if task.optimization.adversarial:
        facts["adversarial"] = task.optimization.adversarial
    if task.transforms:
        facts["transforms"] = recorded(task.transforms)
    ages, sexes = (find_column(table, [name]) for name in ("age", "sex"))
    age = read_column(table[ages]) if ages else None
    if age is not None and np.isfinite(age).any():
        facts["age_years"] = {"min": float(np.nanmin(age)), "max": float(np.nanmax(age))}
    if sexes:
        facts["sex"] = table[sexes].value_counts().to_dict()
    if task.target.is_classification:
        labels = task.labels[task.rows(0, "train", "validation", "test")]
        counts = np.bincount(labels[labels >= 0], minlength=len(task.target.names)).tolist()
        facts["classes"] = dict(zip(task.target.names, counts, strict=True))
    return facts
