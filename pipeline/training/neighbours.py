"""Write the features that `uncus.pipeline.prediction.neighbours` compares new scans with."""

from typing import Any

import numpy as np
import torch
from safetensors.numpy import save

from uncus.data import files
from uncus.data.cohorts.scans import clean
from uncus.data.prepared_cohort import PreparedCohort
from uncus.models.build import build_model
from uncus.models.weights import load_weights
from uncus.pipeline.prediction.neighbours import Features, features
from uncus.pipeline.progress_bars import track
from uncus.pipeline.runs import Member, Run
from uncus.pipeline.training.task import Task

SHOWN = ("age", "sex")


@torch.inference_mode()
def write(run: Run, cohort: PreparedCohort, task: Task, member: Member) -> None:
    """Put the features of all training scans by ``member``'s network into the model folder."""
    rows = task.rows(0, "train", "validation", "test")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = build_model(task.model)
    load_weights(network, run.weights(member))
    network = network.eval().to(device)
    positions = task.table.index[rows].to_numpy()
    found = []
    for position in track(positions, "features"):
        volume = np.asarray(cohort.volumes[position], np.float32)[None, None]
        found.append(features(network.features(torch.from_numpy(volume).to(device))))
    stacked = np.stack(found)
    spread = stacked.std(0)
    spread[spread < 1e-6 * max(1.0, float(np.abs(stacked).max()))] = np.inf  # says nothing
    scaled = stacked / spread
    usual = np.array([max(_usual(scaled), 1e-12)], np.float32)
    content = save({"scaled": scaled, "spread": spread, "usual": usual})
    files.write_atomically(run.neighbour_features_path, lambda path: path.write_bytes(content))
    files.write_json(run.neighbours_path, [person(task, int(row)) for row in rows])


def person(task: Task, row: int) -> dict[str, Any]:
    """What is told of a training scan: label or values, age and sex, no name."""
    if task.target.is_classification:
        told: dict[str, Any] = {"label": task.target.names[int(task.labels[row])]}
    else:
        told = {
            name: round(float(value), 4)
            for name, value in zip(task.target.names, task.labels[row], strict=True)
            if np.isfinite(value)
        }
    fields = task.table.iloc[row]
    return told | {name: cell for name in SHOWN if (cell := clean(fields.get(name, "")))}


def _usual(scaled: Features) -> float:
    """Median distance to the nearest other scan; one row at a time, for thousands of scans."""
    if len(scaled) < 2:
        return 1.0
    nearest = []
    for k, row in enumerate(scaled):
        distances = np.linalg.norm(scaled - row, axis=1)
        distances[k] = np.inf
        nearest.append(float(distances.min()))
    return float(np.median(nearest))
