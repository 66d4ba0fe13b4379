"""From the measures of single scans to a verdict on each method.

A method passes a test where its maps do better than a reference on the same scans, by Wilcoxon's
signed-rank test (one-sided). No threshold is set by hand: the references are networks without
training, other trained networks of the run, and random order.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import wilcoxon

LEVEL = 0.05
FEWEST = 5
"""Scans with which the test can reach ``LEVEL``: p is at least 2^-n."""
Measured = Mapping[str, Any]


def judge(scans: Sequence[Measured]) -> dict[str, Any]:
    """The verdict on each method.

    Parameters
    ----------
    scans: of each scan, see :func:`uncus.pipeline.saliency.passport.measures.measure`.

    Returns
    -------
    ``methods``: method -> ``verdict`` (passed, failed, or not judged), ``reasons`` in words for the
    tests that it failed, and ``tests``. ``agreement``: mean similarity of the methods' maps.
    """
    names = list(scans[0]["methods"]) if scans else []
    pairs = sorted({pair for scan in scans for pair in scan["agreement"]})
    return {
        "methods": {name: judge_method(name, scans) for name in names},
        "agreement": {
            pair: mean([scan["agreement"][pair] for scan in scans if pair in scan["agreement"]])
            for pair in pairs
        },
        "random": {
            kind: curve([one[kind] for scan in scans for one in scan["random"]])
            for kind in ("deletion", "insertion")
        },
    }


def judge_method(name: str, scans: Sequence[Measured]) -> dict[str, Any]:
    """The tests of one method, and the verdict."""
    of_method = [(scan, scan["methods"][name]) for scan in scans]
    known = [(scan, own) for scan, own in of_method if own["structure"]]
    flat = len(of_method) - len(known)
    result: dict[str, Any] = {"scans": len(of_method), "without_structure": flat}
    if 2 * flat > len(of_method):
        where = "on all scans" if flat == len(of_method) else f"on {flat} of {len(of_method)} scans"
        reason = f"its map is the same everywhere in the brain {where}"
        return {"verdict": "failed", "reasons": [reason], "tests": {}, **result}
    tests = {
        test: paired(
            [values(scan, own) for scan, own in known if needs in own],
            failed,
        )
        for test, (needs, values, failed) in TESTS.items()
    }
    tests = {test: found for test, found in tests.items() if found["scans"]}
    judged = [found["passed"] for found in tests.values() if found["passed"] is not None]
    result |= {
        "verdict": "not judged" if not judged else "passed" if all(judged) else "failed",
        "reasons": [f["failed"] for f in tests.values() if f["passed"] is False],
        "tests": tests,
        "cascade": stages([own["cascade"] for _, own in known]),
    }
    own_values = [own for _, own in known]
    result["trained"] = means([own["trained"] for own in own_values])
    result["removal"] = {
        kind: curve([own["removal"][kind] for own in own_values])
        for kind in ("deletion", "insertion")
    }
    for kind in ("shuffled", "second", "lesion", "lesion_untrained", "captum"):
        if some := [own[kind] for own in own_values if kind in own]:
            result[kind] = {**means(some), "scans": len(some)}
    return result


Values = Callable[[Measured, Measured], tuple[float, float]]
TESTS: dict[str, tuple[str, Values, str]] = {
    "weights": (
        "cascade",
        lambda scan, own: (own["trained"]["spearman"], own["cascade"][-1]["spearman"]),
        "its maps are not shown to be more like those of another trained network, rank "
        "correlation {value:.2f}, than like those of an untrained one, {reference:.2f}",
    ),
    "labels": (
        "shuffled",
        lambda scan, own: (own["trained"]["spearman"], own["shuffled"]["spearman"]),
        "its maps are not shown to be more like those of a network trained on the true labels, "
        "rank correlation {value:.2f}, than like those of one trained on shuffled labels, "
        "{reference:.2f}",
    ),
    "order": (
        "removal",
        lambda scan, own: (own["removal"]["gain"], mean([r["gain"] for r in scan["random"]])),
        "removing and inserting what it marks is not shown to change the score more than random "
        "order does, by {value:.2f} and {reference:.2f}",
    ),
    "lesions": (
        "lesion",
        lambda scan, own: (own["lesion"]["auc"], own["lesion_untrained"]["auc"]),
        "it is not shown to find the known lesions better than maps of an untrained network, AUC "
        "{value:.2f} and {reference:.2f}",
    ),
}
"""Test -> the measure it needs, (value, reference) of a scan, and a failure in words."""


def paired(pairs: Sequence[tuple[float, float]], failed: str) -> dict[str, Any]:
    """Whether values exceed their references: means, p, and the verdict (None: too few scans)."""
    if not pairs:
        return {"scans": 0, "passed": None}
    values, references = np.array(pairs).T
    difference = values - references
    p = float(wilcoxon(difference, alternative="greater").pvalue) if difference.any() else 1.0
    facts = {"value": mean(values), "reference": mean(references), "scans": len(pairs), "p": p}
    return {
        **facts,
        "passed": p < LEVEL if len(pairs) >= FEWEST else None,
        "failed": failed.format(**facts) + f" (p = {p:.2f}, {len(pairs)} scans)",
    }


def mean(values: Any) -> float:
    """The mean, as JSON."""
    return round(float(np.mean(values)), 4)


def means(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of each key; {} for no rows."""
    return {key: mean([row[key] for row in rows]) for key in rows[0]} if rows else {}


def curve(rows: Sequence[Sequence[float]]) -> list[float]:
    """The mean of curves, point by point; [] for none."""
    return [mean(points) for points in zip(*rows, strict=True)]


def stages(cascades: Sequence[Sequence[Mapping[str, float]]]) -> list[dict[str, float]]:
    """The mean of each stage of a cascade."""
    return [means(rows) for rows in zip(*cascades, strict=True)]
