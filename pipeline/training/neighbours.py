"""Writing the features that ``pipeline.prediction.neighbours`` compares new scans with."""

from typing import Any

import numpy as np
import torch
from safetensors.numpy import save

from uncus.data import files
from uncus.data.tables import clean
from uncus.models.build import build_model
from uncus.models.weights import load_weights
from uncus.pipeline.prediction.neighbours import Features, features
from uncus.pipeline.progress_bars import track
from uncus.pipeline.runs import Member, Run
from uncus.pipeline.training.task import Task

SHOWN = ("age", "sex")


@torch.inference_mode()
def write(run: Run, task: Task, member: Member) -> None:
    """Write the features of all scans but the holdout, by the network of ``member``."""
    rows = task.rows(0, "train", "validation", "test")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = build_model(task.model)
    load_weights(network, run.weights(member))
    network = network.eval().to(device)
    positions = task.table.index[rows].to_numpy()
    vectors = []
    for position in track(positions, "features"):
        volume = np.asarray(task.cohort.volumes[position], np.float32)[None, None]
        vectors.append(features(network.features(torch.from_numpy(volume).to(device))))
    stacked = np.stack(vectors)
    spread = stacked.std(0)
    spread[spread < 1e-6 * max(1.0, float(np.abs(stacked).max()))] = np.inf  # a dead channel
    scaled = stacked / spread
    usual = np.array([max(usual_distance(scaled), 1e-12)], np.float32)
    content = save({"scaled": scaled, "spread": spread, "usual": usual})
    files.write_atomically(run.neighbour_features_path, lambda path: path.write_bytes(content))
    files.write_json(run.neighbours_path, [describe(task, int(row)) for row in rows])


def describe(task: Task, row: int) -> dict[str, Any]:
    """What is stored of a scan: its label or values, age and sex, but no name."""
    if task.target.is_classification:
        stored: dict[str, Any] = {"label": task.target.names[int(task.labels[row])]}
    else:
        stored = {
            name: round(float(value), 4)
            for name, value in zip(task.target.names, task.labels[row], strict=True)
            if np.isfinite(value)
        }
    fields = task.table.iloc[row]
    columns = {str(name).lower(): cell for name, cell in fields.items()}
    return stored | {name: cell for name in SHOWN if (cell := clean(columns.get(name, "")))}


def usual_distance(scaled: Features) -> float:
    """Median distance to the nearest other scan, row by row to save memory."""
    if len(scaled) < 2:
        return 1.0
    nearest = []
    for k, row in enumerate(scaled):
        distances = np.linalg.norm(scaled - row, axis=1)
        distances[k] = np.inf
        nearest.append(float(distances.min()))
    return float(np.median(nearest))
