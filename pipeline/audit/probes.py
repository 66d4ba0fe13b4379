"""Shortcut probes: what predicts the class without looking at the brain's anatomy.

Each probe is a logistic regression on a few features, on the folds of the run. Site, voxel size,
head position, the scanner's units and what lies outside the brain know nothing of a disease: where
they tell the class, the cohort is at fault. Age, sex, the outline of the brain and its histogram do
change with disease: the network should be ahead of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from uncus.data.cohorts.scanner_columns import SITES
from uncus.data.tables import clean, find_column, read_column
from uncus.pipeline.audit import delong
from uncus.pipeline.audit.association import MACHINES
from uncus.pipeline.audit.evidence import Evidence
from uncus.pipeline.audit.finding import Finding, Test
from uncus.pipeline.evaluation.baselines import MAX_LEVELS, features
from uncus.pipeline.rendering.numbers import estimate_text

Floats = NDArray[np.float64]

COMPONENTS = 10
"""Principal components of a probe with more features than this."""
LEAST = 10
"""Tested subjects of each class below which no probe is made."""
BEHIND = 0.05
"""Significance at which the network is ahead of a probe."""
FIELDS: Mapping[str, tuple[str, ...]] = {"age+sex": ("age", "sex"), "site": (*SITES, *MACHINES)}
INNOCENT: Mapping[str, str] = {
    "voxel size": "voxels",
    "head position": "position",
    "intensity units": "brightness",
    "outside the brain": "scalp",
}
"""Probes that know nothing of a disease -> the measure of uncus.pipeline.audit.image_facts."""
ANATOMICAL: Mapping[str, str] = {"brain mask": "shape", "histogram": "histogram"}


@dataclass(frozen=True)
class Scored:
    """Out-of-fold scores of the subjects that were tested.

    Attributes
    ----------
    labels: int [N].
    scores: float [N, K], the probability of each class.
    rows: int [N], their scans.
    """

    labels: NDArray[np.intp]
    scores: Floats
    rows: NDArray[np.intp]

    def separable(self) -> list[int]:
        """The classes with two subjects or more, and as many others; of two classes the second."""
        counts = np.bincount(self.labels, minlength=self.scores.shape[1])
        some = [k for k, n in enumerate(counts) if min(n, len(self.labels) - n) > 1]
        return some if len(counts) > 2 else some[1:]

    def clearest(self) -> int:
        """The class that is separated best from the rest; of two classes the second."""
        return max(
            self.separable(),
            key=lambda k: delong.auc(self.labels == k, self.scores[:, k])["value"],
        )

    def auc(self) -> dict[str, float]:
        """Of that class, with its interval."""
        k = self.clearest()
        return delong.auc(self.labels == k, self.scores[:, k])

    def p(self) -> float:
        """That no class is separated better than by chance (Mann-Whitney, times the classes)."""
        k, many = self.clearest(), self.scores.shape[1]
        here, there = (self.scores[one, k] for one in (self.labels == k, self.labels != k))
        p = float(stats.mannwhitneyu(here, there, alternative="greater").pvalue)
        return min(1.0, p * (many if many > 2 else 1))


def check(evidence: Evidence) -> tuple[list[Finding], list[Test]]:
    """Probe by probe; nothing where there are no classes or too few subjects."""
    title = "Shortcuts"
    if not evidence.classes or evidence.splits is None:
        text = "Probes need classes" + (" and folds." if evidence.classes else ".")
        return [Finding("probes", title, "not checked", text)], []
    if (fewest := evidence.fewest) < LEAST:
        text = f"A class has {fewest} tested subjects; a probe needs {LEAST} of each."
        return [Finding("probes", title, "not checked", text)], []
    findings, tests = [], []
    model = model_scores(evidence)
    for name in FIELDS:
        x = field_features(evidence, name)
        findings.append(anatomical(evidence, name, x, model))
    for name, measure in {**INNOCENT, **ANATOMICAL}.items():
        found = image_features(evidence, measure)
        if isinstance(found, str):
            findings.append(Finding(key(name), heading(name), "not checked", found))
        elif not found.shape[1]:
            text = nothing(name)
            findings.append(Finding(key(name), heading(name), "passed", text))
        elif name in INNOCENT:
            tests.append(innocent(evidence, name, found, model))
        else:
            findings.append(anatomical(evidence, name, found, model))
    return findings, tests


def innocent(evidence: Evidence, name: str, x: Floats, model: Scored | None) -> Test:
    """A probe that should tell nothing."""
    scored = out_of_fold(evidence, x)
    found = scored.auc()
    ahead, details = compared(scored, model)
    return Test(
        key(name),
        heading(name),
        scored.p(),
        fault=f"{name.capitalize()} alone predicts the class, AUC {estimate_text(found)}{ahead}: "
        "the classes were scanned differently, and a network can use that",
        passed=f"{name.capitalize()} alone is not shown to predict the class, "
        f"AUC {estimate_text(found)}{ahead}",
        details={"auc": found, **details},
    )


def anatomical(evidence: Evidence, name: str, x: Floats | None, model: Scored | None) -> Finding:
    """A probe that a disease may change: known of, and compared with the network."""
    if x is None:
        text = f"The table has no {name.replace('+', ' or ')}."
        return Finding(key(name), heading(name), "not checked", text)
    if not x.shape[1]:
        return Finding(key(name), heading(name), "passed", nothing(name))
    scored = out_of_fold(evidence, x)
    found = scored.auc()
    ahead, details = compared(scored, model)
    tells = found["low"] > 0.5
    if not details:
        behind = tells
    else:
        behind = not (details["model_minus_probe"]["value"] > 0 and ahead_of(details))
    text = f"{name.capitalize()} alone: AUC {estimate_text(found)}{ahead}."
    if behind and details:
        text += " The network is not shown to see more than this."
    elif tells and name in ANATOMICAL:
        text += " Atrophy changes it too, so that this is no fault by itself."
    return Finding(
        key(name), heading(name), "note" if behind else "passed", text, {"auc": found, **details}
    )


def ahead_of(details: Mapping[str, Any]) -> bool:
    """Whether the network is significantly ahead."""
    return bool(details["model_minus_probe"]["p"] < BEHIND)


def compared(scored: Scored, model: Scored | None) -> tuple[str, dict[str, dict[str, float]]]:
    """The network minus the probe on the same subjects, by DeLong's test, if these are enough."""
    if model is None:
        return "", {}
    common = np.intersect1d(scored.rows, model.rows)
    one, two = (np.searchsorted(part.rows, common) for part in (model, scored))
    k = scored.clearest()
    positive = scored.labels[two] == k
    if min(positive.sum(), (~positive).sum()) < 2:
        return "", {}
    found = delong.difference(positive, model.scores[one, k], scored.scores[two, k])
    text = f"; network minus this {estimate_text(found)}"
    return text, {"model_minus_probe": found}


def out_of_fold(evidence: Evidence, x: Floats) -> Scored:
    """Scores of each tested subject by a regression on the training subjects of its fold.

    Parameters
    ----------
    x: float [N, F], a row per scan of ``evidence.firsts``; NaN for missing.
    """
    y = np.asarray(evidence.labels)[evidence.firsts].astype(int)
    return crossed(evidence, x, y)


def crossed(evidence: Evidence, x: Floats, y: NDArray[np.intp]) -> Scored:
    """As :func:`out_of_fold`, with labels of their own."""
    from sklearn.decomposition import PCA
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    assert evidence.splits is not None
    names = evidence.subjects[evidence.firsts]
    scores = np.zeros((len(y), len(evidence.classes)))
    tested = np.zeros(len(y))
    for fold in range(evidence.splits.folds):
        parts = evidence.splits.parts(fold)
        train, test = (
            np.array([parts.get(name) in some for name in names])
            for some in (("train", "validation"), ("test",))
        )
        if len(np.unique(y[train])) < 2 or not test.any():
            continue
        steps: list[Any] = [SimpleImputer(keep_empty_features=True), StandardScaler()]
        if x.shape[1] > COMPONENTS:
            most = min(COMPONENTS, int(train.sum()) - 1)
            steps += [PCA(most, svd_solver="full"), StandardScaler()]
        fitted = make_pipeline(*steps, LogisticRegression(max_iter=1000)).fit(x[train], y[train])
        columns = fitted[-1].classes_
        scores[np.ix_(test, columns)] += fitted.predict_proba(x[test])
        tested += test
    done = np.flatnonzero(tested)
    return Scored(y[done], scores[done] / tested[done, None], evidence.firsts[done])


def field_features(evidence: Evidence, name: str) -> Floats | None:
    """Columns of the table as numbers, standardized over all (which tells nothing of labels)."""
    assert evidence.target is not None
    found = [find_column(evidence.scans, [column]) for column in FIELDS[name]]
    columns = [c for c in dict.fromkeys(found) if c and c not in evidence.target.columns]
    cells = evidence.scans[columns].map(clean)
    if name == "site":  # its number is a name
        cells = cells.map(lambda cell: cell and f"is {cell}")
    cells = cells[
        [
            c
            for c in columns
            if 1 <= cells[c].replace("", np.nan).nunique() <= MAX_LEVELS
            or read_column(cells[c]) is not None
        ]
    ]
    if not len(cells.columns):
        return None
    everyone = np.ones(len(cells), bool)
    return varying(features(cells, list(cells.columns), everyone)[evidence.firsts])


def image_features(evidence: Evidence, measure: str) -> Floats | str:
    """A measure of every first scan, or why it is not known."""
    if evidence.images is None:
        return f"{evidence.missing[:1].upper()}{evidence.missing[1:]}."
    rows = [getattr(facts, measure) for facts in evidence.images.facts]
    if any(row is None for row in rows):
        return "The cohort was prepared before this was kept; prepare it again."
    sizes = {len(row) for row in rows}
    if len(sizes) > 1:
        return "Some scans are heads and some are brains."
    return varying(np.array(rows, float).reshape(len(rows), -1)[evidence.firsts])


def varying(x: Floats) -> Floats:
    """The columns that are not the same for all."""
    spread = np.nanstd(x, axis=0) if x.size else np.zeros(x.shape[1])
    return x[:, spread > 1e-6 * (1 + np.abs(np.nan_to_num(np.nanmean(x, axis=0))))]


def model_scores(evidence: Evidence) -> Scored | None:
    """The network's out-of-fold probabilities, the mean over a subject's scans."""
    if evidence.outputs is None or not len(evidence.outputs.rows):
        return None
    names = evidence.outputs.subjects
    values = evidence.outputs.values["model"]
    rows = [row for row in evidence.firsts if (names == evidence.subjects[row]).any()]
    means = [values[names == evidence.subjects[row]].mean(axis=0) for row in rows]
    labels = np.asarray(evidence.labels)[rows].astype(int)
    return Scored(labels, np.array(means), np.array(rows))


def key(name: str) -> str:
    """A probe's name for programs."""
    return "probe-" + name.replace(" ", "-").replace("+", "-")


def heading(name: str) -> str:
    """A probe's title."""
    return f"Shortcut: {name}"


def nothing(name: str) -> str:
    """Why a probe has nothing to go by."""
    if name == "outside the brain":
        return "The prepared volumes are 0 outside the brain: a network can see nothing there."
    return f"{name.capitalize()} is the same for all subjects."
