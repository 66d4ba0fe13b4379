"""The training scans most similar to a new scan.

Similarity is the distance of features: the means over the last feature map of the run's first
network, each feature divided by its standard deviation over the training scans. The run contains
the features, label, age and sex of each training scan, and no names; its model folder does not.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load

from uncus.data import files
from uncus.data.errors import BadInput
from uncus.pipeline.runs import Run

COUNT = 5

Features = NDArray[np.float32]


@dataclass(frozen=True)
class Neighbours:
    """Features of the training scans.

    Parameters
    ----------
    scaled: float32 [N, C], each feature divided by its standard deviation.
    spread: float32 [C], the standard deviations.
    subjects: for each scan its "label" (or values), and age and sex where known.
    usual: the median distance between a training scan and its nearest neighbour.
    """

    scaled: Features
    spread: Features
    subjects: list[dict[str, Any]]
    usual: float

    @classmethod
    def read(cls, run: Run) -> "Neighbours | None":
        """Read a run's; None where they were taken away. Raises BadInput for damaged files."""
        path, table = map(run.sealed, (run.neighbour_features_path, run.neighbours_path))
        if not (path and table):
            return None
        try:
            tensors = load(path.read_bytes())
            scaled, spread = tensors["scaled"], tensors["spread"]
            subjects = files.read_json(table)
            usual = float(tensors["usual"][0])
        except Exception as error:
            raise BadInput(path, f"cannot be read ({error})", "copy the model again") from error
        if len(subjects) != len(scaled):
            raise BadInput(path, "does not match its table", "copy the model again")
        return cls(scaled, spread, subjects, usual)

    def nearest(self, features: Features, count: int = COUNT) -> list[dict[str, Any]]:
        """The training scans nearest to ``features`` [C], nearest first.

        ``distance`` is in units of the usual distance between neighbours: at 1, the new scan is as
        close to the training scans as they are to each other.
        """
        distances = np.linalg.norm(self.scaled - features / self.spread, axis=1)
        order = np.argsort(distances, kind="stable")[:count]
        return [
            {**self.subjects[k], "distance": round(float(distances[k]) / self.usual, 3)}
            for k in order
        ]


def features(feature_map: torch.Tensor) -> Features:
    """Mean over a last feature map [1, C, x, y, z]: float32 [C]."""
    means: Features = feature_map.mean(dim=(2, 3, 4))[0].float().cpu().numpy()
    return means
