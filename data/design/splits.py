"""Cross-validation splits by subject, stratified, with a check for leakage."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from uncus.data.design.row_filter import select
from uncus.data.design.stratification import Array, describe_subjects, draw, is_classes, serpentine
from uncus.data.errors import BadInput
from uncus.data.files import read_text
from uncus.data.tables import clean, need_column, read_table, write_table
from uncus.data.text import shorten

PARTS = ("train", "validation", "test", "holdout")
TEST_FRACTION = 0.2  # of the subjects, for a single split


@dataclass(frozen=True, eq=False)
class Splits:
    """The part (train, validation, test or holdout) of every subject in every fold.

    Attributes
    ----------
    frame: one row per subject: participant_id ("sub-S"), fold-0, fold-1, ...; a cell is train,
        validation, test (in that fold) or holdout (tested in every fold, never in training).
    """

    frame: pd.DataFrame

    def __post_init__(self) -> None:
        check_frame(self.frame, "splits")

    @property
    def folds(self) -> int:
        """Number of folds."""
        return len(self.frame.columns) - 1

    def parts(self, fold: int) -> dict[str, str]:
        """participant_id ("sub-S") -> its part in ``fold``."""
        ids, cells = self.frame["participant_id"], self.frame[f"fold-{fold}"]
        return dict(zip(map(str, ids), map(str, cells), strict=True))

    def subjects(self, fold: int, part: str) -> frozenset[str]:
        """The participant_ids ("sub-S") of a part (one of ``PARTS``) in ``fold``."""
        if part not in PARTS:
            raise BadInput(f"part {part!r}", "unknown", f"choose one of: {', '.join(PARTS)}")
        return frozenset(name for name, value in self.parts(fold).items() if value == part)

    def restricted(self, subjects: Collection[str]) -> "Splits":
        """The same folds for some of the subjects, to reuse the folds of another run."""
        chosen = self.frame["participant_id"].isin(set(subjects))
        return Splits(self.frame[chosen].reset_index(drop=True))

    def save(self, path: Path) -> None:
        """Write the frame as TSV, atomically."""
        write_table(path, self.frame)

    @classmethod
    def load(cls, path: Path) -> "Splits":
        """Read a table that ``save`` wrote, or one made by hand.

        Raises
        ------
        BadInput: other columns, a duplicate subject, an unknown part, a fold without train or test.
        """
        frame = read_table(path)
        check_frame(frame, path)
        return cls(frame)


def check_frame(frame: pd.DataFrame, source: object) -> None:
    """Check a table of splits.

    Raises
    ------
    BadInput: see ``Splits.load``.
    """
    need_column(frame, "participant_id", source)
    folds = [f"fold-{k}" for k in range(len(frame.columns) - 1)]
    if not folds or list(frame.columns) != ["participant_id", *folds]:
        columns = ", ".join(map(str, frame.columns))
        raise BadInput(
            source, f"columns {columns}", "name them participant_id, fold-0, fold-1, ..."
        )
    duplicates = frame["participant_id"][frame["participant_id"].duplicated()]
    if len(duplicates):
        raise BadInput(
            source, f"duplicate subject {duplicates.iloc[0]}", "give each subject one row"
        )
    fixed = frame[folds] == "holdout"
    for name in frame["participant_id"][fixed.any(axis=1) & ~fixed.all(axis=1)]:
        raise BadInput(
            source, f"{name} is holdout in some folds only", "hold it out of all folds or none"
        )
    for fold in folds:
        for name, part in zip(frame["participant_id"], frame[fold], strict=True):
            if part not in PARTS:
                cause = f"{name} is {part!r} in {fold}"
                raise BadInput(source, cause, f"write one of: {', '.join(PARTS)}")
        for part in ("train", "test"):
            tested = part == "test" and fixed.any(axis=None)
            if part not in set(frame[fold]) and not tested:
                raise BadInput(
                    source, f"{fold} has no {part} subject", f"assign subjects to {part}"
                )


def make_splits(
    table: pd.DataFrame,
    y: Array | None = None,
    folds: int = 5,
    seed: int = 0,
    validation: float = 0.15,
    holdout: Collection[str] = (),
    stratify: Sequence[str] = (),
    tests: Sequence[Collection[str]] = (),
) -> Splits:
    """Assign the subjects of ``table`` to folds, stratified by class, sex and age.

    Subjects are sorted in serpentine order (by class, within it by sex, within that by age group,
    every second list reversed, at random within an age group) and assigned to folds in turn. The
    sizes of the folds, and in them of each class, each sex of a class and each age group of those,
    then differ by at most one subject. Validation subjects are drawn from the rest of each fold,
    evenly spaced in that order.

    Parameters
    ----------
    table: one row per scan: participant_id and, if known, sex and age (years).
    y: int [N] classes (negative: unlabelled, a separate group), or float [N] or [N, K] values, of
        which the quintiles of the first column are used; None for neither.
    folds: at least 2, so that each subject is tested once; or 1 for a single test part of 20%.
    seed: equal seeds give equal splits, regardless of the order of the rows.
    validation: fraction of the subjects not tested, from 0 to 0.5.
    holdout: participant_ids (with or without ``sub-``) that are tested in every fold and never
        trained on; names not in ``table`` are ignored (``holdout_subjects`` checks them).
    stratify: further columns to stratify by, between class and sex; over ten distinct numbers are
        binned by quintile.
    tests: the subjects that each fold tests, instead of assigning them; ``folds`` is their number.

    Raises
    ------
    BadInput: too few subjects for the folds, or a fold without training subjects of some class.
    """
    if folds < 1 or not 0 <= validation <= 0.5:
        raise BadInput(
            "splits",
            f"folds {folds}, validation {validation}",
            "use folds >= 1, validation 0 to 0.5",
        )
    subjects = describe_subjects(table, y, stratify)
    held = {name if name.startswith("sub-") else f"sub-{name}" for name in map(str, holdout)}
    if held and not held & set(subjects.index):
        raise BadInput("holdout", "none of its subjects are in the table", "check the names")
    free = subjects[~subjects.index.isin(held)]
    if len(free) < max(3, folds):
        raise BadInput(
            "splits", f"{len(free)} subjects for {folds} folds", "add scans or use fewer folds"
        )
    rng = np.random.default_rng(seed)
    order = serpentine(free, rng, folds)
    order_of_folds = rng.permutation(folds)
    if tests:
        tests = [set(test) & set(free.index) for test in tests]
    elif folds == 1:
        tests = [draw(order, free, TEST_FRACTION, rng)]
    else:
        tests = [set(order[order_of_folds[fold] :: folds]) for fold in range(folds)]
    frame = pd.DataFrame({"participant_id": list(subjects.index)}, dtype=object)
    for fold, test in enumerate(tests):
        rest = free[~free.index.isin(test)]
        part = dict.fromkeys(subjects.index, "train") | dict.fromkeys(test, "test")
        if validation > 0:
            chosen = draw(serpentine(rest, rng, folds), rest, validation, rng)
            part |= dict.fromkeys(chosen, "validation")
        part |= dict.fromkeys(set(subjects.index) & held, "holdout")
        trained = {group for name, group in free["group"].items() if part[str(name)] == "train"}
        for group in sorted(set(free["group"]) - trained):
            if group >= 0 and is_classes(y):
                count = int((free["group"] == group).sum())
                raise BadInput(
                    "splits",
                    f"class {group} has {count} subjects, none left to train on in fold {fold}",
                    "use fewer folds, add scans or merge classes",
                )
        frame[f"fold-{fold}"] = [part[name] for name in subjects.index]
    return Splits(frame.astype(object))


def holdout_subjects(source: str, table: pd.DataFrame) -> frozenset[str]:
    """The participant_ids ("sub-S") of a fixed test set.

    Parameters
    ----------
    source: a file (a table with a participant_id column, or text with one participant per line), or
        an expression over the columns as in ``--where``, such as ``site == 'B'``. All scans of a
        subject are held out if one matches.
    table: the whole cohort, before rows are removed by ``--where`` or for missing labels.

    Raises
    ------
    BadInput: participants that are not in the table, or no participants.
    """
    need_column(table, "participant_id", "table")
    path = Path(source)
    if not is_file(path):
        return frozenset(map(str, select(table, source)["participant_id"]))
    names = read_names(path)
    missing = sorted(names - set(table["participant_id"]))
    if missing or not names:
        cause = f"{len(missing)} not in the cohort: {shorten(missing)}"
        cause = cause if missing else "no participants"
        raise BadInput(path, cause, "list participants of the cohort")
    return frozenset(names)


def is_file(path: Path) -> bool:
    """Whether the file exists; False for an expression that is too long for a file name."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def read_names(path: Path) -> set[str]:
    """The participants ("sub-S") in a table or a text file."""
    if path.suffix.lower() in {".tsv", ".csv"}:
        frame = read_table(path)
        need_column(frame, "participant_id", path)
        names: Iterator[str] = map(str, frame["participant_id"])
    else:
        lines = read_text(path).splitlines()
        names = (line.partition("#")[0].strip() for line in lines)
    return {name if name.startswith("sub-") else f"sub-{name}" for name in names if clean(name)}


def check_leakage(splits: Splits, table: pd.DataFrame) -> None:
    """Check that no subject and no image is in two parts of a fold.

    Parameters
    ----------
    table: one row per scan: participant_id, session_id (optional), voxel_hash.

    Raises
    ------
    BadInput: a duplicate subject, or identical voxels under two subjects that are in different
        parts of a fold.
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
                    f"identical images in different parts of fold {fold}: {where}",
                    "keep one of them, or give both scans the same participant_id",
                )
