"""The training scans that a network sees as most like a new one.

Likeness is the distance of features: the means over the last feature map of the run's first
network, each feature divided by its spread over the training scans. The features lie in the run's
model folder with label, age and sex of each scan, and without names.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load, save

from uncus.data import files
from uncus.data.cohorts.scans import clean
from uncus.data.errors import BadInput
from uncus.data.prepared_cohort import PreparedCohort
from uncus.models.build import build_model
from uncus.models.weights import load_weights
from uncus.pipeline.progress_bars import track
from uncus.pipeline.runs import Member, Run
from uncus.pipeline.training.member import Task

SHOWN = ("age", "sex")
COUNT = 5

Features = NDArray[np.float32]


@dataclass(frozen=True)
class Neighbours:
    """Features of the training scans.

    Parameters
    ----------
    scaled: float32 [N, C], each feature over its spread.
    spread: float32 [C].
    people: for each scan its "label" (or values), and age and sex where known.
    usual: the median distance between a training scan and the one nearest to it.
    """

    scaled: Features
    spread: Features
    people: list[dict[str, Any]]
    usual: float

    @classmethod
    def read(cls, run: Run) -> "Neighbours | None":
        """Those of a run; None where it was made without. Raises BadInput for damaged files."""
        path = run.neighbour_features_path
        if not path.exists():
            return None
        try:
            tensors = load(path.read_bytes())
            scaled, spread = tensors["scaled"], tensors["spread"]
            people = files.read_json(run.neighbours_path)
            usual = float(tensors["usual"][0])
        except Exception as error:
            raise BadInput(path, f"cannot be read ({error})", "copy the model again") from error
        if len(people) != len(scaled):
            raise BadInput(path, "fits not its table", "copy the model again")
        return cls(scaled, spread, people, usual)

    def nearest(self, features: Features, count: int = COUNT) -> list[dict[str, Any]]:
        """The scans nearest to ``features`` [C], nearest first.

        ``distance`` is in units of the usual distance between neighbours: at 1, the new scan lies
        among the training scans as they do among each other.
        """
        distances = np.linalg.norm(self.scaled - features / self.spread, axis=1)
        order = np.argsort(distances, kind="stable")[:count]
        return [
            {**self.people[k], "distance": round(float(distances[k]) / self.usual, 3)}
            for k in order
        ]


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


def features(feature_map: torch.Tensor) -> Features:
    """Means over a last feature map [1, C, x, y, z]: float32 [C]."""
    means: Features = feature_map.mean(dim=(2, 3, 4))[0].float().cpu().numpy()
    return means


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
