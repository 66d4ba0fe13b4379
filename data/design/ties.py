"""Whether a covariate goes with the class in a cohort, so that a network can answer by it alone."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

NOTABLE, LEVEL = 0.1, 0.01
"""Strength and p-value from which on a tie is warned of."""
FEW = 5.0
"""Expected subjects in a cell below which the p-value is by permutation."""
PERMUTATIONS = 9999


@dataclass(frozen=True)
class Tie:
    """How far a covariate tells the classes apart in a cohort, by itself.

    Attributes
    ----------
    measure: "AUC" of a number (0.5: not at all), "Cramér's V" of texts or of two values (0: not).
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
    """The tie of each covariate with the class, over N subjects, where it has one.

    Parameters
    ----------
    values: [N, P], NaN where missing.
    names: of the P covariates.
    labels: int [N], classes.
    """
    found = []
    for name, column in zip(names, np.asarray(values, dtype=float).T, strict=True):
        known = np.isfinite(column)
        found.append(tie(name, column[known], labels[known]))
    return [one for one in found if one]


def tie(name: str, values: NDArray[Any], labels: NDArray[Any]) -> Tie | None:
    """The tie of numbers or texts ``values`` [N] with classes ``labels``, int [N].

    None where there is one value, or one class, only. Tests of ranks and of counts, since those of
    means say nothing where a class has one value only. Of more than two classes, an AUC is the one
    furthest from 0.5 of a class against the rest.
    """
    from scipy import stats

    present, distinct = np.unique(labels), np.unique(values)
    if len(present) < 2 or len(distinct) < 2:
        return None
    if values.dtype == object or len(distinct) == 2:
        counts = np.array(
            [[np.sum((labels == k) & (values == v)) for v in distinct] for k in present]
        )
        few = stats.contingency.expected_freq(counts).min() < FEW
        rng = np.random.default_rng(0)
        method = stats.PermutationMethod(n_resamples=PERMUTATIONS, rng=rng) if few else None
        p = float(stats.chi2_contingency(counts, correction=False, method=method).pvalue)
        value = float(stats.contingency.association(counts, "cramer"))
        return Tie(name, "Cramér's V", value, p, "chi-squared test")
    groups = [values[labels == k] for k in present]
    rest = [values[labels != k] for k in present]
    # Of two classes the second, as everywhere.
    areas = [
        float(stats.mannwhitneyu(here, there).statistic) / (len(here) * len(there))
        for here, there in zip(groups, rest, strict=True)
    ][-1 if len(present) == 2 else 0 :]
    if len(present) == 2:
        p, test = float(stats.mannwhitneyu(*groups).pvalue), "Mann-Whitney test"
    else:
        p, test = float(stats.kruskal(*groups).pvalue), "Kruskal-Wallis test"
    return Tie(name, "AUC", max(areas, key=lambda area: abs(area - 0.5)), p, test)
