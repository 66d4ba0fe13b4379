"""From the volumes of a segmentation to those of DLMUSE, by whose volumes the centiles are defined.

What one tool calls hippocampus is larger than what another does. Where both have segmented the same
people, a line is fitted to each region, left and right together: DLMUSE = slope * ours + intercept.
The lines are kept in ``corrections.json`` beside this file, by the segmentation's ``method``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uncus.data.files import read_json, write_json

PATH = Path(__file__).with_name("corrections.json")
MIN_R = 0.85
"""Least correlation with DLMUSE's volumes for which a centile means something."""
Volumes = Mapping[str, float]
"""Region -> ml, of one person."""


@dataclass(frozen=True)
class Correction:
    """A line for one region, and how well it holds for people that it was not fitted to.

    Parameters
    ----------
    slope, intercept: DLMUSE's ml = slope * ours + intercept (ml).
    people: number of people.
    r: Pearson's correlation of both volumes.
    error: mean absolute difference after the correction, as a share of DLMUSE's volume, each
        person corrected by the line of the others.
    """

    slope: float
    intercept: float
    people: int
    r: float
    error: float

    @property
    def reliable(self) -> bool:
        """Whether the volume follows DLMUSE's closely enough for a centile."""
        return self.r >= MIN_R and self.slope > 0

    def to_dlmuse(self, ml: float) -> float:
        """Our volume as DLMUSE's."""
        return self.slope * ml + self.intercept

    def from_dlmuse(self, ml: NDArray[np.float64]) -> NDArray[np.float64]:
        """DLMUSE's volumes as ours."""
        return (ml - self.intercept) / self.slope


Corrections = Mapping[str, Correction]
"""Structure, as named by :func:`structure`, -> its line."""


def structure(region: str) -> str:
    """A region without its side: left and right have one line."""
    return region.removeprefix("left ").removeprefix("right ")


def fit(ours: Sequence[Volumes], dlmuse: Sequence[Volumes]) -> dict[str, Correction]:
    """Fit a line to every structure that both have, in the same people, at least three."""
    points: dict[str, list[tuple[int, float, float]]] = {}
    for person, (one, other) in enumerate(zip(ours, dlmuse, strict=True)):
        for region in one.keys() & other.keys():
            points.setdefault(structure(region), []).append((person, one[region], other[region]))
    return {name: _line(np.array(sorted(found))) for name, found in sorted(points.items())}


def _line(points: NDArray[np.float64]) -> Correction:
    """The line through ``points`` [N, 3] of person, our ml and DLMUSE's."""
    person, ours, dlmuse = points.T
    slope, intercept = np.polyfit(ours, dlmuse, 1)
    predicted = np.empty_like(dlmuse)
    for one in np.unique(person):
        others = person != one
        predicted[~others] = np.polyval(np.polyfit(ours[others], dlmuse[others], 1), ours[~others])
    return Correction(
        slope=float(slope),
        intercept=float(intercept),
        people=len(np.unique(person)),
        r=float(np.corrcoef(ours, dlmuse)[0, 1]),
        error=float((np.abs(predicted - dlmuse) / dlmuse).mean()),
    )


def save(method: str, corrections: Corrections, path: Path = PATH) -> None:
    """Keep the lines of a segmentation; those of others stay."""
    known: dict[str, Any] = read_json(path) if path.is_file() else {}
    write_json(path, known | {method: {name: asdict(line) for name, line in corrections.items()}})


@lru_cache(maxsize=4)
def load(method: str, path: Path = PATH) -> Corrections:
    """The lines of a segmentation; empty if none were measured."""
    known: dict[str, Any] = read_json(path) if path.is_file() else {}
    return {name: Correction(**line) for name, line in known.get(method, {}).items()}
