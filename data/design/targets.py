"""What a network learns to say of a scan: classes of one column, or columns of numbers."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd

from uncus.data.design.row_filter import select
from uncus.data.errors import BadInput
from uncus.data.tables import clean, need_column, same_value, to_number

__all__ = ["Target", "labelled", "select"]

MAX_FOUND_CLASSES = 20
FLOAT32_MAX = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Target:
    """The columns to predict and, for classification, which values are which class.

    Attributes
    ----------
    columns: one column to classify by, or one or several to regress on.
    classes: name -> the cells that mean it, in order; the last is the positive class. Empty:
        every value found is a class (see ``resolve``).
    regression: whether the columns are numbers to predict.
    """

    columns: tuple[str, ...]
    classes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    regression: bool = False

    def __reduce__(self) -> tuple[type["Target"], tuple[tuple[str, ...], dict[str, Any], bool]]:
        # A read-only view of the classes cannot be sent to another process as it is.
        return Target, (self.columns, dict(self.classes), self.regression)

    def __post_init__(self) -> None:
        given = ", ".join(self.columns)
        if not self.columns or "" in self.columns or len(set(self.columns)) < len(self.columns):
            raise BadInput(
                "--target", f"got {given!r}", "name one column, or several different ones"
            )
        if self.regression and self.classes:
            raise BadInput(
                "--classes", "a regression has none", "leave out --classes or --regression"
            )
        if not self.regression and len(self.columns) > 1:
            raise BadInput(
                "--target", f"several columns ({given})", "add --regression, or name one"
            )
        if self.classes and len(self.classes) < 2:
            raise BadInput("--classes", f"one class only ({next(iter(self.classes))})", "name two")
        means: dict[str, str] = {}
        for name, values in self.classes.items():
            if not values or not name.strip() or not name.isprintable():
                raise BadInput("--classes", f"{name!r}={values}", "write NAME=VALUE[,VALUE...]")
            for value in values:
                twice = next((old for old in means if same_value(old, value)), None)
                if twice is not None and means[twice] != name:
                    raise BadInput(
                        "--classes",
                        f"{value!r} means {means[twice]} and {name}",
                        "give it one class",
                    )
                means[value] = name
        frozen = MappingProxyType({name: tuple(v) for name, v in self.classes.items()})
        object.__setattr__(self, "classes", frozen)

    @classmethod
    def parse(
        cls, columns: Sequence[str], classes: Sequence[str] = (), regression: bool = False
    ) -> "Target":
        """A target as the command line gives it: ``["cdr"], ["CN=0", "AD=0.5,1,2"]``.

        Raises
        ------
        BadInput: a class without a value, twice, or with another's value.
        """
        named: dict[str, tuple[str, ...]] = {}
        for text in classes:
            name, equals, values = text.partition("=")
            cells = tuple(cell for cell in map(clean, values.split(",")) if cell)
            if not equals or not name.strip() or not cells:
                raise BadInput("--classes", f"{text!r}", "write NAME=VALUE[,VALUE...]: AD=0.5,1,2")
            if name.strip() in named:
                raise BadInput("--classes", f"{name.strip()!r} twice", "name each class once")
            named[name.strip()] = cells
        return cls(tuple(columns), named, regression)

    @property
    def is_classification(self) -> bool:
        """Whether the answer is one of several classes."""
        return not self.regression

    @property
    def names(self) -> tuple[str, ...]:
        """The classes in order, or the regressed columns."""
        if self.regression:
            return self.columns
        if not self.classes:
            raise BadInput("--classes", "not known before a table is read", "call resolve(table)")
        return tuple(self.classes)

    def resolve(self, table: pd.DataFrame) -> "Target":
        """The target with its classes spelled out: where none were named, every value is one.

        Raises
        ------
        BadInput: a missing column, fewer than two values, or more than 20.
        """
        for column in self.columns:
            need_column(table, column, "--target")
        if self.regression or self.classes:
            return self
        column = self.columns[0]
        groups: dict[str | float, list[str]] = {}
        for cell in map(clean, table[column]):
            number = to_number(cell)
            if cell:
                groups.setdefault(cell if number is None else number, []).append(cell)
        if len(groups) < 2:
            only = ", ".join(map(str, groups)) or "no value at all"
            raise BadInput(
                f"--target {column}", f"one class only ({only})", "choose another column"
            )
        if len(groups) > MAX_FOUND_CLASSES:
            raise BadInput(
                f"--target {column}", f"{len(groups)} values", "add --regression or name --classes"
            )
        ordered = sorted(groups, key=lambda key: (isinstance(key, str), key))
        classes = {groups[key][0]: tuple(dict.fromkeys(groups[key])) for key in ordered}
        return Target(self.columns, classes)

    def as_dict(self) -> dict[str, Any]:
        """For JSON; ``from_dict`` is its inverse."""
        return {
            "columns": list(self.columns),
            "classes": {name: list(values) for name, values in self.classes.items()},
            "regression": self.regression,
        }

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> "Target":
        """The target that ``as_dict`` wrote."""
        classes = {str(name): tuple(values) for name, values in saved.get("classes", {}).items()}
        return cls(tuple(saved["columns"]), classes, bool(saved.get("regression", False)))


def labelled(
    table: pd.DataFrame, target: Target
) -> tuple[pd.DataFrame, np.ndarray[Any, Any], tuple[str, ...]]:
    """The rows that have a label, and the labels.

    Returns
    -------
    table: without the unlabelled rows; its index is that of the table given.
    y: int64 [N], the place in ``target.resolve(table).names``; or float32 [N, K] in the columns'
        own units with NaN where missing (a row stays when it has at least one).
    warnings: how many rows were left out.

    Raises
    ------
    BadInput: a missing column, a value of no class or no number (with its row), one class only.
    """
    target = target.resolve(table)
    y = numbers(table, target) if target.regression else class_indices(table, target)
    keep = np.isfinite(y).any(axis=1) if target.regression else y >= 0
    warnings = []
    missing = int((~keep).sum())
    if missing:
        columns = ", ".join(target.columns)
        warnings.append(f"{missing} of {len(table)} scans have no {columns} and are left out")
    table, y = table.loc[keep], y[keep]
    if target.is_classification:
        present = [target.names[index] for index in np.unique(y)]
        if len(present) < 2:
            raise BadInput(
                f"--target {target.columns[0]}",
                f"one class only ({', '.join(present) or 'no label at all'})",
                "check --classes and --where",
            )
        absent = [name for name in target.names if name not in present]
        if absent:
            raise BadInput(
                f"--target {target.columns[0]}",
                f"no scan of class {', '.join(absent)}",
                "leave the class out, or check --where",
            )
        if "participant_id" in table:
            several = pd.Series(y).groupby(table["participant_id"].to_numpy()).nunique()
            if (several > 1).any():
                warnings.append(
                    f"{int((several > 1).sum())} subjects change class between sessions; each scan "
                    "keeps its own"
                )
    else:
        for index, column in enumerate(target.columns):
            found = y[np.isfinite(y[:, index]), index]
            if len(np.unique(found)) < 2:
                raise BadInput(
                    f"--target {column}", "fewer than two values", "choose another column"
                )
            if len(found) < len(y):
                warnings.append(f"{len(y) - len(found)} of {len(y)} scans have no {column}")
    return table, y, tuple(warnings)


def class_indices(table: pd.DataFrame, target: Target) -> np.ndarray[Any, Any]:
    """int64 [N]: the class of every row, -1 where the cell is missing."""
    column = target.columns[0]
    y = np.full(len(table), -1, dtype=np.int64)
    known: dict[str, int] = {"": -1}
    for row, cell in enumerate(map(clean, table[column])):
        if cell not in known:
            fits = (
                index
                for index, values in enumerate(target.classes.values())
                if any(same_value(cell, value) for value in values)
            )
            known[cell] = next(fits, -2)
        if known[cell] == -2:
            raise BadInput(
                f"{column} = {cell!r} at {row_name(table, row)}",
                "a value of no class",
                "add it to a class in --classes, or leave the rows out with --where",
            )
        y[row] = known[cell]
    return y


def numbers(table: pd.DataFrame, target: Target) -> np.ndarray[Any, Any]:
    """float32 [N, K]: the columns as numbers, NaN where the cell is missing."""
    y = np.full((len(table), len(target.columns)), np.nan, dtype=np.float32)
    for index, column in enumerate(target.columns):
        for row, cell in enumerate(map(clean, table[column])):
            number = to_number(cell) if cell else math.nan
            if number is None or math.isinf(number) or abs(number) > FLOAT32_MAX:
                raise BadInput(
                    f"{column} = {cell!r} at {row_name(table, row)}",
                    "not a finite number",
                    "correct it, or write n/a",
                )
            y[row, index] = number
    return y


def row_name(table: pd.DataFrame, row: int) -> str:
    """``sub-1_ses-2 (row 7)``, rows counted from 1 in the whole table."""
    number = table.index[row]
    place = f"row {number + 1}" if isinstance(number, int | np.integer) else f"row {number}"
    names = [table[c].iloc[row] for c in ("participant_id", "session_id") if c in table]
    label = "_".join(str(name) for name in names if name)
    return f"{label} ({place})" if label else place
