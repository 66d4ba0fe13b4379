"""Which differences between cells there are, in a family of comparisons."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from uncus.pipeline.comparison.crossed import (
    Components,
    Estimate,
    adjusted,
    components,
    estimate,
)
from uncus.pipeline.evaluation.bootstrap import LEVEL, plain
from uncus.pipeline.evaluation.metrics import Array
from uncus.pipeline.rendering.numbers import number

ALPHA = 1 - LEVEL
Verdict = Literal["worse", "better", "equal", "inconclusive"]


def compared(
    mine: Mapping[int, Array], theirs: Mapping[int, Array], folds: int, share: bool = False
) -> dict[str, Any]:
    """The paired difference of two cells' pseudovalues (seed -> [subjects]), for compare.json."""
    seeds = sorted(mine.keys() & theirs.keys())
    values = np.stack([mine[seed] - theirs[seed] for seed in seeds])
    found, parts = estimate(values, share), components(values, folds)
    return {
        **found.interval,
        "error": plain(found.error),
        "freedom": plain(found.freedom),
        "seeds": len(seeds),
        "subjects": values.shape[1],
        "components": None if parts is None else vars(parts),
    }


def estimate_of(entry: Mapping[str, Any]) -> Estimate:
    """The estimate of an entry by ``compared``."""
    numbers = (entry[name] for name in ("value", "error", "freedom"))
    return Estimate(*(np.nan if number is None else number for number in numbers))


def components_of(entry: Mapping[str, Any]) -> Components | None:
    """The components of an entry by ``compared``; None where they are unknown."""
    parts = entry.get("components")
    return Components(**parts) if parts else None


def judged(
    family: Sequence[Mapping[str, Any]], effect: float, lower_is_better: bool
) -> list[dict[str, Any]]:
    """The entries of a family by ``compared``, each with its verdict.

    Two hypotheses of each are tested: that there is no difference, and that it is ``effect`` or
    more, in either direction (equivalence; Schuirmann 1987, J Pharmacokinet Biopharm 15:657). One
    of the two at most is true, so as many as there are entries can be in the family, for which p
    is corrected (``crossed.adjusted``). One seed decides nothing: how networks vary is unknown.

    Returns
    -------
    the entries with ``verdict``; ``small``: the difference is below ``effect``; ``p`` and
    ``p_equal``, corrected; ``detectable``: the smallest difference that would have been found with
    a power of 0.8 at the family's strictest level.
    """
    found = [estimate_of(entry) for entry in family]
    p = [one.p for one in found] + [one.p_equal(effect) for one in found]
    known = [entry["seeds"] > 1 for entry in family] * 2
    p = [q if k and np.isfinite(q) else 1.0 for q, k in zip(p, known, strict=True)]
    p = adjusted(p, len(family))
    result = []
    for k, (entry, one) in enumerate(zip(family, found, strict=True)):
        differs, small = p[k] < ALPHA, p[len(family) + k] < ALPHA
        verdict: Verdict = "equal" if small else "inconclusive"
        if differs:
            verdict = "better" if (one.value < 0) == lower_is_better else "worse"
        result.append(
            {
                **entry,
                "verdict": verdict,
                "small": small,
                "p": p[k],
                "p_equal": p[len(family) + k],
                "detectable": plain(one.detectable(ALPHA / len(family))),
            }
        )
    return result


def spoken(entry: Mapping[str, Any], effect: float) -> str:
    """The verdict of an entry in words."""
    if entry["verdict"] == "equal":
        return f"equal within {number(effect)}"
    less = f", by less than {number(effect)}" if entry["small"] else ""
    return f"{entry['verdict']}{less}"
