"""Where a volume lies among those of cognitively normal people of the same age.

The curves are NiChart's, of volumes by DLMUSE (``centiles.tsv``; licence and changes in
``centiles.LICENSE``): for women and men, and for both with volumes normed by the intracranial
volume, as volume / intracranial volume * ``NORMED_ML``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from uncus.data.tables import read_table

SOURCE = "NiChart's reference of cognitively normal people, volumes by DLMUSE (SBIA licence)"
LEVELS = (5, 25, 50, 75, 95)
"""Centiles of the curves; beyond the outer ones, a volume has no number of its own."""
NORMED_ML = 1430.0
"""Intracranial volume to which NiChart norms, ml."""
TABLES = {"F": "female", "M": "male", "": "icv_normed"}
"""Sex -> table; "" for both sexes, with normed volumes."""
DLMUSE_REGIONS = {
    "left hippocampus": "Hippocampus_L",
    "right hippocampus": "Hippocampus_R",
    "left amygdala": "Amygdala_L",
    "right amygdala": "Amygdala_R",
    "left lateral ventricle": "LateralVentricle_L",
    "right lateral ventricle": "LateralVentricle_R",
    "brain": "TotalBrain",
}
"""Our region -> DLMUSE's name."""


@dataclass(frozen=True, eq=False)
class Curves:
    """The centiles of one region's volume over age.

    Parameters
    ----------
    ages: [A] years, ascending.
    volumes: [A, 5] ml, one column for each of ``LEVELS``.
    """

    ages: NDArray[np.float64]
    volumes: NDArray[np.float64]

    def covers(self, age: float) -> bool:
        """Whether the curves have this age."""
        return bool(self.ages[0] <= age <= self.ages[-1])

    def centile(self, age: float, ml: float) -> float:
        """The centile of a volume, from 5 (or less) to 95 (or more).

        Linear between ages, and between the curves on the scale of the normal distribution's
        quantiles.
        """
        assert self.covers(age)
        row = [np.interp(age, self.ages, column) for column in self.volumes.T]
        return float(100 * ndtr(np.interp(ml, row, ndtri(np.array(LEVELS) / 100))))


@lru_cache(maxsize=1)
def load_curves() -> Mapping[tuple[str, str], Curves]:
    """(sex, our region) -> curves; the sex is a key of ``TABLES``."""
    frame = read_table(Path(__file__).with_name("centiles.tsv"))
    tables, regions = (frame.pop(name).to_numpy() for name in ("table", "region"))
    numbers, curves = frame.to_numpy(float), {}
    for sex, table in TABLES.items():
        for region, name in DLMUSE_REGIONS.items():
            rows = numbers[(tables == table) & (regions == name)]
            curves[sex, region] = Curves(rows[:, 0], rows[:, 1:])
    return curves
