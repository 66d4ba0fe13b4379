"""The domain of a run, from the scans it was trained on: see ``pipeline.trust.domain``."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from uncus.data.tables import find_column
from uncus.models.build import build_model
from uncus.models.weights import load_weights, trunk_hash
from uncus.pipeline.progress_bars import track
from uncus.pipeline.runs import Member, Run
from uncus.pipeline.training.task import Task
from uncus.pipeline.trust.domain import (
    FEWEST,
    PARTS,
    SCANNER,
    Domain,
    Gaussian,
    is_slab,
    limits,
    same_scanner,
    synthetic_warning,
)
from uncus.pipeline.trust.statistics import Vector, feature_statistics, image_statistics, spread

MOST = 300
"""Training scans that a network's distributions are fitted to."""
Statistics = dict[str, Vector]


def fit_domain(run: Run, task: Task, members: Sequence[Member]) -> Domain:
    """The domain of a run with all of its networks trained.

    A fold's distributions are fitted to its training scans, and its test scans give the distances
    of scans that the network was not trained on. Of several seeds, the first is used.
    """
    known = facts(task)
    first = [member for member in members if member.seed == members[0].seed]
    tested = [task.rows(member.fold, "test") for member in first]
    if too_few_tests(task):
        return Domain(known)
    images: dict[int, Statistics] = {}
    features: dict[tuple[str, int], Vector] = {}
    gaussians, distances = [], []
    for member, test in zip(first, tested, strict=True):
        train = task.rows(member.fold, "train")
        train = train[spread(len(train), MOST)]
        rows = statistics(run, task, member, np.concatenate([train, test]), images, features)
        gaussians.append({part: Gaussian.fit(rows[part][: len(train)]) for part in PARTS})
        distances.append(
            np.stack([gaussians[-1][part].distance(rows[part][len(train) :]) for part in PARTS], 1)
        )
    alarms = sum(
        int((own / limits(np.concatenate([*distances[:k], *distances[k + 1 :]])) > 1).any(1).sum())
        for k, own in enumerate(distances)
        if len(distances) > 1
    )
    every = np.concatenate(distances)
    found = dict(zip(PARTS, limits(every).tolist(), strict=True))
    known |= {"limits": found, "tested": len(every)}
    if len(distances) > 1:  # of one fold no other scans are left to measure it on
        known["false_alarms"] = alarms
    return Domain(known, gaussians)


def too_few_tests(task: Task) -> bool:
    """Whether so few scans are tested that no limits can be found."""
    tested = [task.rows(fold, "test") for fold in range(task.splits.folds)]
    return len(np.unique(np.concatenate(tested))) < FEWEST


def facts(task: Task) -> dict[str, Any]:
    """What is known of the training scans besides their voxels."""
    table = task.table.iloc[task.rows(0, "train", "validation", "test")]
    known: dict[str, Any] = {"scans": len(table), "scanner": {}}
    thin = is_slab(np.multiply(task.cohort.grid.shape, task.cohort.grid.spacing).tolist())
    # In space mni a thin grid is the same part of any placed head, whatever its field of view.
    if not (thin and task.cohort.space == "mni"):
        known["slab"] = thin
    if (synthetic := is_synthetic(task)) is not None:
        known["synthetic"] = synthetic
    for name, columns in SCANNER.items():
        if column := find_column(table, columns):
            values = sorted(set(map(same_scanner, table[column])) - {""})
            known["scanner"] |= {name: values} if values else {}
    return known


def is_synthetic(task: Task) -> bool | None:
    """Whether the scans are phantoms, at either site of an adaptation; None where not known."""
    own = task.cohort.synthetic
    if not task.adapted:
        return own
    before = task.init_from.card.get("domain", {}) if isinstance(task.init_from, Run) else {}
    flags = {own, before.get("synthetic")}
    return True if True in flags else None if None in flags else False


def started_on_phantoms(task: Task) -> bool:
    """Whether the weights that a training starts from are of one on phantoms."""
    return isinstance(task.init_from, Run) and bool(synthetic_warning(task.init_from.card))


def statistics(
    run: Run,
    task: Task,
    member: Member,
    rows: np.ndarray[Any, Any],
    images: dict[int, Statistics],
    features: dict[tuple[str, int], Vector],
) -> Statistics:
    """Part -> statistics [N, D] of the scans in ``rows``.

    ``images`` keeps those of the images, ``features`` those of the features by the trunk's hash:
    the members of a frozen trunk have the same.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = build_model(task.model)
    load_weights(network, run.weights(member))
    network = network.eval().to(device)
    trunk = trunk_hash(network)
    found: dict[str, list[Vector]] = {part: [] for part in PARTS}
    for position in track(task.table.index[rows].to_numpy(), "domain"):
        array = np.asarray(task.cohort.volumes[position], np.float32)
        if position not in images:
            images[position] = image_statistics(array)
        key = (trunk, int(position))
        if key not in features:
            volume = torch.from_numpy(array)[None, None].to(device)
            features[key] = feature_statistics(network, volume)
        for part, one in {**images[position], "features": features[key]}.items():
            found[part].append(one)
    return {part: np.stack(vectors) for part, vectors in found.items()}
