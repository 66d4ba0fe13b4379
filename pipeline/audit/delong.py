"""AUC with DeLong's variance, and the difference of two AUCs on the same cases.

DeLong, DeLong and Clarke-Pearson, Biometrics 44, 1988; by midranks, after Sun and Xu, IEEE Signal
Processing Letters 21, 2014.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import stats

LEVEL = 0.95
Floats = NDArray[np.float64]


def placements(positive: NDArray[np.bool_], scores: Floats) -> tuple[Floats, Floats]:
    """For each positive the share of negatives below it, for each negative that of positives above.

    Ties count a half.
    """
    ranks = stats.rankdata(scores)
    above = ranks[positive] - stats.rankdata(scores[positive])
    below = ranks[~positive] - stats.rankdata(scores[~positive])
    return above / np.sum(~positive), 1 - below / np.sum(positive)


def auc(positive: NDArray[np.bool_], scores: Floats) -> dict[str, float]:
    """AUC, "value", with its 95% interval, "low" and "high", clipped to 0 and 1.

    Parameters
    ----------
    positive: bool [N], with both kinds.
    scores: float [N].
    """
    up, down = placements(positive, scores)
    value, half = float(up.mean()), stats.norm.isf((1 - LEVEL) / 2) * deviation(up, down)
    return {"value": value, "low": max(value - half, 0.0), "high": min(value + half, 1.0)}


def difference(positive: NDArray[np.bool_], one: Floats, two: Floats) -> dict[str, float]:
    """AUC of ``one`` minus that of ``two`` with its 95% interval and the two-sided "p"."""
    up_one, down_one = placements(positive, one)
    up_two, down_two = placements(positive, two)
    value = float(up_one.mean() - up_two.mean())
    sd = deviation(up_one - up_two, down_one - down_two)
    half = stats.norm.isf((1 - LEVEL) / 2) * sd
    p = 2 * stats.norm.sf(abs(value) / sd) if sd > 0 else float(value == 0)
    return {"value": value, "low": value - half, "high": value + half, "p": float(p)}


def deviation(up: Floats, down: Floats) -> float:
    """Standard deviation of a mean placement, of at least two cases of each kind."""
    if min(len(up), len(down)) < 2:
        return float("inf")
    return float(np.sqrt(up.var(ddof=1) / len(up) + down.var(ddof=1) / len(down)))
