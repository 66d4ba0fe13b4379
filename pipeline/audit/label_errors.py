"""Labels that the images contradict; and shuffled labels, which nothing must predict."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from uncus.data.text import shorten
from uncus.pipeline.audit.evidence import Evidence
from uncus.pipeline.audit.finding import Finding, Test
from uncus.pipeline.audit.perceptual_hash import LATTICE
from uncus.pipeline.audit.probes import (
    LEAST,
    Scored,
    crossed,
    model_scores,
    out_of_fold,
    varying,
)
from uncus.pipeline.rendering.numbers import number

SHUFFLES = 20
STRONG = 0.7
"""AUC at least, surely, of what contradicts a label."""
UNLIKELY = 0.1
"""Probability of a label below which it is in doubt."""


def check(evidence: Evidence) -> tuple[list[Finding], list[Test]]:
    """Label errors, by the network or by a regression on the images; and shuffled labels."""
    if not evidence.classes or evidence.splits is None:
        text = "There are no classes, or no folds."
        return [Finding("label-errors", "Label errors", "not checked", text)], []
    y = np.asarray(evidence.labels)[evidence.firsts].astype(int)
    enough = evidence.fewest >= LEAST
    x = anatomy(evidence) if evidence.images and enough else None
    if x is not None and not x.shape[1]:
        x = None
    scored = model_scores(evidence)
    by = "the network"
    if scored is None and x is not None:
        scored, by = out_of_fold(evidence, x), "a regression on the images"
    findings = []
    if scored is None or not scored.separable():
        text = "There are too few predictions to compare labels with."
        findings.append(Finding("label-errors", "Label errors", "not checked", text))
    elif scored.auc()["low"] < STRONG:
        text = f"{by[:1].upper()}{by[1:]} tells the classes too badly to doubt a label."
        findings.append(Finding("label-errors", "Label errors", "not checked", text))
    else:
        findings.append(doubtful(evidence, scored, by))
    if x is None:
        text = f"It needs images that differ, and {LEAST} tested subjects of each class."
        findings.append(Finding("shuffled", "Shuffled labels", "not checked", text))
        return findings, []
    return findings, [shuffled(evidence, x, y)]


def doubtful(evidence: Evidence, scored: Scored, by: str) -> Finding:
    """Labels that another class contradicts, by confident learning.

    A label is in doubt where the out-of-fold probability of another class reaches the mean that
    this class has among its own scans, and that of the label is below 0.1 (Northcutt, Jiang and
    Chuang, Journal of Artificial Intelligence Research 70, 2021).
    """
    p, y = scored.scores, scored.labels
    usual = np.array([p[y == k, k].mean() if (y == k).any() else 1.0 for k in range(p.shape[1])])
    other = (p >= usual) & (np.arange(p.shape[1]) != y[:, None])
    own = p[np.arange(len(y)), y]
    found = np.flatnonzero(other.any(axis=1) & (own < UNLIKELY))
    found = found[np.argsort(own[found], kind="stable")]
    rows: list[dict[str, Any]] = [
        {
            "participant_id": str(evidence.subjects[scored.rows[k]]),
            "label": evidence.classes[y[k]],
            "probability": round(float(own[k]), 4),
            "loss": round(float(-np.log(max(own[k], 1e-6))), 3),
        }
        for k in found
    ]
    details = {"by": by, "scans": rows}
    if not rows:
        text = f"No label is contradicted by {by} with confidence."
        return Finding("label-errors", "Label errors", "passed", text, details)
    listed = [f"{row['participant_id']} ({row['label']}, {row['probability']:.2f})" for row in rows]
    text = (
        f"{len(rows)} of {len(y)} labels are contradicted by {by}, out of fold: {shorten(listed)}. "
        "Look them up: they may be wrong, or hard cases."
    )
    return Finding("label-errors", "Label errors", "note", text, details)


def shuffled(evidence: Evidence, x: NDArray[np.float64], y: NDArray[np.intp]) -> Test:
    """A regression on the images with shuffled labels, on the same folds: chance, or a leak."""
    rng = np.random.default_rng(0)
    reached, mixed = np.empty(SHUFFLES), y.copy()
    for k in range(SHUFFLES):
        for some in (evidence.tested, ~evidence.tested):  # as many of each class stay tested
            mixed[some] = rng.permutation(y[some])
        reached[k] = crossed(evidence, x, mixed).auc()["value"]
    p = float(stats.ttest_1samp(reached, 0.5, alternative="greater").pvalue)
    if len(evidence.classes) > 2:
        p = 1.0  # the best of several classes is above chance by choice
    low, high = np.quantile(reached, [0.025, 0.975])
    shown = f"mean AUC {number(float(reached.mean()))} ({number(low)} to {number(high)})"
    return Test(
        "shuffled",
        "Shuffled labels",
        p,
        fault=f"With shuffled labels a regression on the images still reaches {shown}: what is "
        "tested was seen in training",
        passed=f"With shuffled labels a regression on the images is near chance: {shown}",
        details={"auc": [round(float(value), 4) for value in reached]},
    )


def anatomy(evidence: Evidence) -> NDArray[np.float64]:
    """The inside of each first scan's brain, a row a subject."""
    assert evidence.images is not None
    signatures = np.array([facts.signature for facts in evidence.images.facts])[evidence.firsts]
    # Means of 2 x 2 x 2 points: of a slab, single planes may be empty.
    x, y, z = (size // 2 for size in LATTICE)
    pooled = signatures.astype(float).reshape(-1, x, 2, y, 2, z, 2).mean(axis=(2, 4, 6))
    return varying(pooled.reshape(len(pooled), -1))
