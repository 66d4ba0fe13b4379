"""Who is in a cohort: one person under two names, in two parts, with two labels, seen before."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from uncus.data.design.splits import Splits
from uncus.data.tables import clean, find_column, read_column
from uncus.data.text import shorten
from uncus.pipeline.audit.evidence import Evidence
from uncus.pipeline.audit.finding import Finding
from uncus.pipeline.audit.perceptual_hash import LEAST, matches, similarity
from uncus.pipeline.training.pretraining import training_data

YOUNGER = 0.5
"""Years by which a later session may state a lower age."""


@dataclass(frozen=True)
class Likeness:
    """The scans of a cohort, and of a pre-training after them, compared by their images.

    Attributes
    ----------
    names: subject of each scan; of the pre-training's, too.
    own: how many of them are of the cohort itself.
    alike: correlations [N, 2 N], see uncus.pipeline.audit.perceptual_hash.
    """

    names: list[str]
    own: int
    alike: NDArray[np.float32]

    @cached_property
    def pairs(self) -> list[tuple[int, int, float]]:
        """Scans with the same anatomy, and how alike they are."""
        return [(i, j, float(max(self.both(i, j)))) for i, j in matches(self.alike)]

    def both(self, i: int, j: int) -> tuple[float, float]:
        """How alike two scans are, and how alike one and the mirror image of the other."""
        return self.alike[i, j], self.alike[i, j + len(self.alike)]

    @property
    def mirrored(self) -> list[tuple[str, str]]:
        """Names whose scans show the same anatomy with left and right exchanged."""
        some = [(i, j) for i, j, _ in self.pairs if self.both(i, j)[1] > self.both(i, j)[0]]
        return [ordered(self.names[i], self.names[j]) for i, j in some]

    @property
    def mismatches(self) -> list[tuple[int, int]]:
        """Scans of one name that do not show the same anatomy."""
        return [
            (i, j)
            for i in range(self.own)
            for j in range(i + 1, self.own)
            if self.names[i] == self.names[j] and self.alike[i, j] < LEAST
        ]

    @classmethod
    def of(cls, evidence: Evidence) -> "Likeness":
        """Compare all images; none where there are none."""
        parts = [part for part in (evidence.images, evidence.earlier) if part]
        if not evidence.images:
            return cls([], 0, np.zeros((0, 0), np.float32))
        signatures = [facts.signature for part in parts for facts in part.facts]
        names = [name for part in parts for name in part.names]
        return cls(names, len(evidence.images.rows), similarity(np.array(signatures)))


def check(evidence: Evidence) -> list[Finding]:
    """All findings about identity."""
    likeness = Likeness.of(evidence)
    return [
        same_person(evidence, likeness),
        parts(evidence),
        sessions(evidence),
        conflicts(evidence, likeness),
        *pretraining(evidence, likeness),
    ]


def same_person(evidence: Evidence, likeness: Likeness) -> Finding:
    """Whether two names have the same voxels or the same anatomy."""
    title = "One person under two names"
    pairs = {pair: 1.0 for pair in equal_voxels(evidence)}
    if evidence.images is None and not pairs:
        return Finding("duplicates", title, "not checked", unseen(evidence))
    for i, j, value in likeness.pairs:
        if j < likeness.own and likeness.names[i] != likeness.names[j]:
            pairs.setdefault(ordered(likeness.names[i], likeness.names[j]), value)
    details = {"pairs": [[*pair, round(value, 3)] for pair, value in pairs.items()]}
    if not pairs:
        how = "no two names have scans of the same anatomy"
        return Finding("duplicates", title, "passed", f"Of {len(likeness.names)} scans {how}.")
    split = sorted(pair for pair in pairs if crosses(evidence, *pair))
    where = f"; in different parts of a fold: {pairs_text(split)}" if split else ""
    if mirrored := sorted(pairs.keys() & set(likeness.mirrored)):
        where += f"; one is the mirror image of the other: {pairs_text(mirrored)}"
    return Finding(
        "duplicates",
        title,
        "fault",
        f"{len(pairs)} pair{'s' * (len(pairs) > 1)} of names with the same brain: "
        f"{pairs_text(pairs)}{where}. Give both the "
        "same participant_id, or leave one out, and train again.",
        {**details, "in_two_parts": [list(pair) for pair in split]},
    )


def equal_voxels(evidence: Evidence) -> list[tuple[str, str]]:
    """Pairs of names with bit-identical images."""
    if "voxel_hash" not in evidence.scans:
        return []
    groups = evidence.scans.groupby("voxel_hash")["participant_id"].unique()
    return [
        ordered(str(names[0]), str(other))
        for voxels, names in groups.items()
        for other in names[1:]
        if clean(voxels)
    ]


def parts(evidence: Evidence) -> Finding:
    """Whether a subject was both trained and tested on in a fold."""
    title = "Subjects in two parts"
    run = evidence.run
    if run is None or evidence.splits is None:
        return Finding("parts", title, "not checked", "A cohort has no parts yet; audit a run.")
    predictions = run.predictions()
    both = set[str]()
    for fold in range(evidence.splits.folds):
        trained = trained_on(evidence.splits, fold)
        tested = predictions.loc[predictions["fold"] == fold, "participant_id"]
        both |= trained & set(map(str, tested))
    if both:
        text = f"{shorten(sorted(both))} were trained and tested on in the same fold."
        return Finding("parts", title, "fault", text, {"subjects": sorted(both)})
    count = len(evidence.splits.frame)
    text = (
        f"All scans of each of {count} subjects are in one part of every fold, and every "
        "prediction is by networks that were not trained on its subject."
    )
    return Finding("parts", title, "passed", text, {"subjects": count})


def sessions(evidence: Evidence) -> Finding:
    """Whether subjects have several scans, which are no independent cases."""
    counts = evidence.scans["participant_id"].value_counts()
    several = counts[counts > 1]
    title = "Repeated sessions"
    details = {"subjects": len(counts), "with_several": len(several), "scans": int(counts.sum())}
    if not len(several):
        return Finding("sessions", title, "passed", "Every subject has one scan.", details)
    text = (
        f"{len(several)} of {len(counts)} subjects have several scans, up to {several.max()}. "
        "Folds and intervals are by subject, so that they are not counted as independent."
    )
    return Finding("sessions", title, "note", text, details)


def conflicts(evidence: Evidence, likeness: Likeness) -> Finding:
    """Whether what is stated of a person differs between scans of that person."""
    title = "Conflicting labels"
    scans = evidence.scans
    found: list[str] = []
    changed = 0
    labels = evidence.labels
    sex, age = (find_column(scans, [name]) for name in ("sex", "age"))
    ages = read_column(scans[age]) if age else None
    for name, rows in scans.groupby("participant_id", sort=False).indices.items():
        if sex and len(cells := {clean(scans[sex].iloc[r]) for r in rows} - {""}) > 1:
            found.append(f"{name} is of sex {' and '.join(sorted(cells))}")
        if ages is not None and "session_id" in scans:
            some = [ages[r] for r in sorted(rows, key=lambda r: scans["session_id"].iloc[r])]
            known = [value for value in some if np.isfinite(value)]
            if any(b < a - YOUNGER for a, b in pairwise(known)):
                found.append(f"{name} becomes younger")
        if labels is not None and evidence.classes:
            changed += len({int(labels[r]) for r in rows} - {-1}) > 1
    if labels is not None and evidence.classes and likeness.own == len(scans):
        for i, j, _ in likeness.pairs:
            if j < likeness.own and likeness.names[i] != likeness.names[j]:
                one, two = int(labels[i]), int(labels[j])
                if min(one, two) >= 0 and one != two:
                    classes = f"{evidence.classes[one]} and {evidence.classes[two]}"
                    both = f"{likeness.names[i]} and {likeness.names[j]}"
                    found.append(f"{both} show the same brain, labelled {classes}")
    mismatched = sorted({likeness.names[i] for i, j in likeness.mismatches})
    details = {"conflicts": found, "changing_class": changed, "mismatched": mismatched}
    if found:
        text = f"{'; '.join(found[:5])}{' ...' * (len(found) > 5)}."
        return Finding("conflicts", title, "fault", text, details)
    notes = []
    if mismatched:
        notes.append(
            f"Scans of {shorten(mismatched)} look like those of different people: look them up."
        )
    if changed:
        notes.append(
            f"{changed} subjects change class between sessions; each scan keeps its class."
        )
    if notes:
        return Finding("conflicts", title, "note", " ".join(notes), details)
    text = "No person is stated to be of two classes, two sexes or falling age."
    return Finding("conflicts", title, "passed", text, details)


def pretraining(evidence: Evidence, likeness: Likeness) -> list[Finding]:
    """Whether test subjects were seen in the pre-training, by name, voxels or anatomy."""
    title = "Overlap with the pre-training"
    run = evidence.run
    if run is None or evidence.splits is None:
        return []
    start = run.config.get("init_from")
    if not start:
        text = "The weights started at random: there was no pre-training."
        return [Finding("pretraining", title, "passed", text)]
    if not run.pretraining.config_path.exists() and str(start).rpartition(".")[2] in FILES:
        text = f"The weights started from {start}; whom they were trained on is not known here."
        return [Finding("pretraining", title, "not checked", text)]
    seen: set[tuple[str, str]] = set()
    for fold in range(evidence.splits.folds):
        tested = evidence.splits.subjects(fold, "test") | evidence.splits.subjects(fold, "holdout")
        before = training_data(run, fold)
        trained = trained_on(evidence.splits, fold)
        seen |= {(name, name) for name in tested & before.subjects - trained}
        rows = evidence.scans[evidence.scans["participant_id"].isin(tested)]
        copies = rows.loc[rows["voxel_hash"].isin(before.voxels), "participant_id"]
        seen |= {(str(name), str(name)) for name in copies}
    if evidence.earlier:
        known = set(evidence.splits.frame["participant_id"])
        for i, j, _ in likeness.pairs:
            if i < likeness.own <= j and likeness.names[i] in known:
                seen.add((likeness.names[i], likeness.names[j]))
    if seen:
        text = (
            f"{len(seen)} tested subjects were in the pre-training: {pairs_text(seen)} (here = "
            "there). Their predictions are too good; leave them out of one of both."
        )
        return [Finding("pretraining", title, "fault", text, {"pairs": sorted(seen)})]
    how = "names, voxels and anatomy" if evidence.earlier else "names and voxels"
    text = f"No tested subject is in the pre-training, by {how}."
    return [Finding("pretraining", title, "passed", text)]


def trained_on(splits: Splits, fold: int) -> frozenset[str]:
    """Training and validation subjects of a fold."""
    return splits.subjects(fold, "train") | splits.subjects(fold, "validation")


FILES = ("safetensors", "pth", "pt", "ckpt", "tar")


def crosses(evidence: Evidence, one: str, two: str) -> bool:
    """Whether two subjects of a run are in different parts of a fold."""
    if evidence.run is None or evidence.splits is None:
        return False
    folds = (evidence.splits.parts(fold) for fold in range(evidence.splits.folds))
    return any(parts.get(one, "") != parts.get(two, "") for parts in folds)


def ordered(one: str, two: str) -> tuple[str, str]:
    """A pair, the same in either order."""
    return (one, two) if one <= two else (two, one)


def pairs_text(pairs: Iterable[tuple[str, str]]) -> str:
    """Pairs as ``a = b, c = d and 3 more``."""
    return shorten([f"{one} = {two}" for one, two in pairs])


def unseen(evidence: Evidence) -> str:
    """Why images were not looked at."""
    return f"{evidence.missing[:1].upper()}{evidence.missing[1:]}."
