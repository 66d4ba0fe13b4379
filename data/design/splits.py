"""Who trains, who validates, who tests: folds by subject, and the guard against leakage."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from uncus.data.design.row_filter import select
from uncus.data.design.stratification import Array, describe_subjects, draw, is_classes, serpentine
from uncus.data.errors import BadInput
from uncus.data.tables import clean, need_column, read_table, write_table

PARTS = ("train", "validation", "test", "holdout")
TEST_FRACTION = 0.2  # of the subjects, where there is one split instead of folds


@dataclass(frozen=True, eq=False)
class Splits:
    """The part of every subject in every fold.

    Attributes
    ----------
    frame: one row a subject: participant_id ("sub-S"), fold-0, fold-1, ...; a cell is train,
        validation, test (of that fold) or holdout (tested by every fold, trained on by none).
    """

    frame: pd.DataFrame

    def __post_init__(self) -> None:
        check_frame(self.frame, "splits")

    @property
    def folds(self) -> int:
        """How many folds there are."""
        return len(self.frame.columns) - 1

    def parts(self, fold: int) -> dict[str, str]:
        """participant_id ("sub-S") -> its part in ``fold``."""
        ids, cells = self.frame["participant_id"], self.frame[f"fold-{fold}"]
        return dict(zip(map(str, ids), map(str, cells), strict=True))

    def subjects(self, fold: int, part: str) -> frozenset[str]:
        """The participant_ids ("sub-S") of a part (one of ``PARTS``) in ``fold``."""
        if part not in PARTS:
            raise BadInput(f"part {part!r}", "unknown", f"choose one of: {', '.join(PARTS)}")
        return frozenset(name for name, own in self.parts(fold).items() if own == part)

    def restricted(self, subjects: Collection[str]) -> "Splits":
        """The same folds for some of the subjects: how a second run shares a first one's folds."""
        chosen = self.frame["participant_id"].isin(set(subjects))
        return Splits(self.frame[chosen].reset_index(drop=True))

    def save(self, path: Path) -> None:
        """Write the frame as TSV, atomically."""
        write_table(path, self.frame)

    @classmethod
    def load(cls, path: Path) -> "Splits":
        """Read what ``save`` wrote, or the same made by hand.

        Raises
        ------
        BadInput: no such columns, a subject twice, an unknown part, a fold without train or test.
        """
        frame = read_table(path)
        check_frame(frame, path)
        return cls(frame)


def check_frame(frame: pd.DataFrame, subject: object) -> None:
    """Refuse a table that is not a table of splits.

    Raises
    ------
    BadInput: see ``Splits.load``.
    """
    need_column(frame, "participant_id", subject)
    folds = [f"fold-{k}" for k in range(len(frame.columns) - 1)]
    if not folds or list(frame.columns) != ["participant_id", *folds]:
        given = ", ".join(map(str, frame.columns))
        raise BadInput(subject, f"columns {given}", "name them participant_id, fold-0, fold-1, ...")
    twice = [name for name, count in Counter(frame["participant_id"]).items() if count > 1]
    if twice:
        raise BadInput(subject, f"{twice[0]} is there twice", "give each subject one row")
    fixed = frame[folds] == "holdout"
    for name in frame["participant_id"][fixed.any(axis=1) & ~fixed.all(axis=1)]:
        raise BadInput(
            subject, f"{name} is holdout in some folds only", "hold it out of all or none"
        )
    for fold in folds:
        for name, part in zip(frame["participant_id"], frame[fold], strict=True):
            if part not in PARTS:
                cause = f"{name} is {part!r} in {fold}"
                raise BadInput(subject, cause, f"write one of: {', '.join(PARTS)}")
        for part in ("train", "test"):
            tested = part == "test" and fixed.any(axis=None)
            if part not in set(frame[fold]) and not tested:
                raise BadInput(subject, f"{fold} has no {part} subject", f"put some into {part}")


def make_splits(
    table: pd.DataFrame,
    y: Array | None = None,
    folds: int = 5,
    seed: int = 0,
    validation: float = 0.15,
    holdout: Collection[str] = (),
    stratify: Sequence[str] = (),
) -> Splits:
    """Deal the subjects of ``table`` to folds, alike in class, sex and age.

    Subjects are put in serpentine order (by class, within it by sex, within that by age group, each
    second list reversed, at random within a group) and dealt to the folds in turn. Every run of
    neighbours, hence every class, every sex of a class and every age group of those, is then spread
    over the folds to within one subject, however small it is, and so are the folds themselves.
    Validation subjects are drawn from the rest of each fold at even distances in the same order.

    Parameters
    ----------
    table: one row a scan; participant_id, and sex and age (years) where there.
    y: int [N] classes (negative = not labelled, a group of its own), or float [N] or [N, K]
        values, of which the quintiles of the first column are taken; None for neither.
    folds: at least 2, each subject tested once; or 1: a single test part of 20%.
    seed: the same one gives the same splits, whatever the order of the rows.
    validation: the share of the subjects not tested, from 0 up to 0.5.
    holdout: participant_ids (with or without ``sub-``) tested by every fold, trained on by none;
        those that are not in ``table`` are passed over (``holdout_subjects`` checks the names).
    stratify: more columns to spread evenly, between class and sex; numbers with over ten different
        values by their quintiles.

    Raises
    ------
    BadInput: too few subjects for the folds, or a class that some fold could not train on.
    """
    if folds < 1 or not 0 <= validation <= 0.5:
        raise BadInput(
            "splits", f"folds {folds}, validation {validation}", "choose >= 1 and from 0 to 0.5"
        )
    people = describe_subjects(table, y, stratify)
    held = {name if name.startswith("sub-") else f"sub-{name}" for name in map(str, holdout)}
    if held and not held & set(people.index):
        raise BadInput("holdout", "none of its subjects are in the table", "check the names")
    free = people[~people.index.isin(held)]
    if len(free) < max(3, folds):
        raise BadInput(
            "splits", f"{len(free)} subjects for {folds} folds", "add scans or take fewer folds"
        )
    rng = np.random.default_rng(seed)
    order = serpentine(free, rng, folds)
    turn = rng.permutation(folds)
    tests: list[set[str]]
    if folds == 1:
        tests = [draw(order, free, TEST_FRACTION, rng)]
    else:
        tests = [set(order[turn[fold] :: folds]) for fold in range(folds)]
    frame = pd.DataFrame({"participant_id": list(people.index)}, dtype=object)
    for fold, test in enumerate(tests):
        rest = free[~free.index.isin(test)]
        part = dict.fromkeys(people.index, "train") | dict.fromkeys(test, "test")
        if validation > 0:
            chosen = draw(serpentine(rest, rng, folds), rest, validation, rng)
            part |= dict.fromkeys(chosen, "validation")
        part |= dict.fromkeys(set(people.index) & held, "holdout")
        trained = {group for name, group in free["group"].items() if part[str(name)] == "train"}
        for group in sorted(set(free["group"]) - trained):
            if group >= 0 and is_classes(y):
                few = int((free["group"] == group).sum())
                raise BadInput(
                    "splits",
                    f"class {group} has {few} subjects, so that fold {fold} cannot train on it",
                    "take fewer folds, add scans or merge classes",
                )
        frame[f"fold-{fold}"] = [part[name] for name in people.index]
    return Splits(frame.astype(object))


def holdout_subjects(source: str, table: pd.DataFrame) -> frozenset[str]:
    """The fixed test set that ``source`` names, as participant_ids ("sub-S") of ``table``.

    Parameters
    ----------
    source: a file (a table with a participant_id column, or text with one participant a line), or
        an expression over the columns as in ``--where``, such as ``site == 'B'``. All scans of a
        subject are held out when one fits.
    table: the whole cohort, before ``--where`` and missing labels took rows away.

    Raises
    ------
    BadInput: a participant that is not in the table, or no participant at all.
    """
    need_column(table, "participant_id", "table")
    path = Path(source)
    if not is_file(path):
        return frozenset(map(str, select(table, source)["participant_id"]))
    names = read_names(path)
    absent = sorted(names - set(table["participant_id"]))
    if absent or not names:
        cause = f"not in the cohort: {', '.join(absent)}" if absent else "names nobody"
        raise BadInput(path, cause, "name participants of the cohort")
    return frozenset(names)


def is_file(path: Path) -> bool:
    """Whether there is such a file; an expression may be too long for a name."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def read_names(path: Path) -> set[str]:
    """The participants that a table or a list names, each "sub-S"."""
    if path.suffix.lower() in {".tsv", ".csv"}:
        frame = read_table(path)
        need_column(frame, "participant_id", path)
        names: Iterator[str] = map(str, frame["participant_id"])
    else:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
        names = (line.partition("#")[0].strip() for line in lines)
    return {name if name.startswith("sub-") else f"sub-{name}" for name in names if clean(name)}


def check_leakage(splits: Splits, table: pd.DataFrame) -> None:
    """Refuse splits by which something tested was seen in training.

    Parameters
    ----------
    table: one row a scan: participant_id, session_id (or none), voxel_hash.

    Raises
    ------
    BadInput: a subject in two parts of one fold, or the same voxels under two subjects that are in
        different parts of one fold.
    """
    for column in ("participant_id", "voxel_hash"):
        need_column(table, column, "table")
    check_frame(splits.frame, "splits")
    known = set(splits.frame["participant_id"])
    owners: dict[str, list[str]] = {}
    for name, voxels in zip(table["participant_id"], table["voxel_hash"], strict=True):
        if name not in known:
            continue
        if not clean(voxels):
            raise BadInput(f"{name}", "no voxel_hash", "prepare the cohort again")
        owners.setdefault(str(voxels), []).append(str(name))
    shared = {voxels: sorted(set(names)) for voxels, names in owners.items() if len(set(names)) > 1}
    for fold in range(splits.folds):
        parts: Mapping[str, str] = splits.parts(fold)
        for names in shared.values():
            if len({parts[name] for name in names}) > 1:
                where = ", ".join(f"{name} ({parts[name]})" for name in names)
                raise BadInput(
                    "leakage",
                    f"the same voxels under several names in fold {fold}: {where}",
                    "keep one of them, or give both scans one participant_id",
                )
