"""Whether a covariate goes with the class in a cohort, so that a network can answer by it alone."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

NOTABLE, LEVEL = 0.1, 0.01
"""Strength and p-value from which on a tie is warned of."""


@dataclass(frozen=True)
class Tie:
    """How far a covariate tells the classes apart in a cohort, by itself.

    Attributes
    ----------
    measure: "AUC" of a number (0.5: not at all), "Cramér's V" of one with two values (0: not).
    value, p, test: of the measure, and of a test over subjects.
    """

    covariate: str
    measure: str
    value: float
    p: float
    test: str

    @property
    def strength(self) -> float:
        """From 0 to 1: Cramér's V, or the rank-biserial correlation ``|2 AUC - 1|``."""
        return self.value if self.measure != "AUC" else abs(2 * self.value - 1)

    @property
    def warning(self) -> str:
        """What to know of it; "" where it is weak or could be by chance."""
        if self.strength < NOTABLE or self.p >= LEVEL:
            return ""
        chance = "p < 0.001" if self.p < 0.001 else f"p = {self.p:.3f}"
        return (
            f"covariate {self.covariate} goes with the class in the training cohort "
            f"({self.measure} {self.value:.2f}, {self.test}, {chance}): the network can answer by "
            "it without a sign of disease, and will fail where it goes with the class otherwise; "
            "go by the AUC adjusted for it"
        )

    def as_dict(self) -> dict[str, Any]:
        """For a file."""
        return {**asdict(self), "warning": self.warning}


def ties(values: NDArray[np.float32], names: Sequence[str], labels: NDArray[Any]) -> list[Tie]:
    """The tie of each covariate with the class, over N subjects.

    Of more than two classes, an AUC is the one furthest from 0.5 of a class against the rest.

    Parameters
    ----------
    values: [N, P], NaN where missing.
    names: of the P covariates; those with one value, or known in one class only, have no tie.
    labels: int [N], classes.
    """
    from scipy import stats

    found = []
    for name, column in zip(names, np.asarray(values, dtype=float).T, strict=True):
        x, y = column[np.isfinite(column)], labels[np.isfinite(column)]
        present, distinct = np.unique(y), np.unique(x)
        if len(present) < 2 or len(distinct) < 2:
            continue
        if len(distinct) == 2:
            counts = np.array([[np.sum((y == k) & (x == v)) for v in distinct] for k in present])
            value = float(stats.contingency.association(counts, "cramer"))
            p = float(stats.chi2_contingency(counts, correction=False).pvalue)
            found.append(Tie(name, "Cramér's V", value, p, "chi-squared test"))
            continue
        groups = [x[y == k] for k in present]
        rest = [x[y != k] for k in present]
        # Of two classes the second, as everywhere.
        areas = [
            float(stats.mannwhitneyu(here, there).statistic) / (len(here) * len(there))
            for here, there in zip(groups, rest, strict=True)
        ][-1 if len(present) == 2 else 0 :]
        if len(present) == 2:
            p, test = float(stats.mannwhitneyu(*groups).pvalue), "Mann-Whitney test"
        else:
            p, test = float(stats.kruskal(*groups).pvalue), "Kruskal-Wallis test"
        found.append(Tie(name, "AUC", max(areas, key=lambda area: abs(area - 0.5)), p, test))
    return found
