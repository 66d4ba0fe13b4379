"""Prediction targets: the classes in one column, or one or more numeric columns."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd

from uncus.data.errors import BadInput
from uncus.data.tables import clean, need_column, read_number, same_value, to_number

MAX_CLASSES = 20  # if not named by --classes
FLOAT32_MAX = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Target:
    """The columns to predict and, for classification, the values of each class.

    Attributes
    ----------
    columns: one column with classes, or one or more columns with numbers.
    classes: name -> the cells of that class, in order; the last is the positive class. If empty,
        every distinct value is a class (see ``resolve``).
    regression: whether to predict numbers.
    """

    columns: tuple[str, ...]
    classes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    regression: bool = False

    def __reduce__(self) -> tuple[type["Target"], tuple[tuple[str, ...], dict[str, Any], bool]]:
        # A MappingProxyType cannot be pickled.
        return Target, (self.columns, dict(self.classes), self.regression)

    def __post_init__(self) -> None:
        columns = ", ".join(self.columns)
        if not self.columns or "" in self.columns or len(set(self.columns)) < len(self.columns):
            raise BadInput(
                "--target", f"got {columns!r}", "name one column, or several distinct ones"
            )
        if self.regression and self.classes:
            raise BadInput(
                "--classes", "not used in a regression", "leave out --classes or --regression"
            )
        if not self.regression and len(self.columns) > 1:
            raise BadInput(
                "--target", f"several columns ({columns})", "add --regression, or name one"
            )
        if self.classes and len(self.classes) < 2:
            raise BadInput(
                "--classes", f"only one class ({next(iter(self.classes))})", "name at least two"
            )
        owner: dict[str, str] = {}  # cell -> class
        for name, values in self.classes.items():
            if not values or not name.strip() or not name.isprintable():
                raise BadInput("--classes", f"{name!r}={values}", "write NAME=VALUE[,VALUE...]")
            for value in values:
                same = next((old for old in owner if same_value(old, value)), None)
                if same is not None and owner[same] != name:
                    raise BadInput(
                        "--classes",
                        f"{value!r} is in both {owner[same]} and {name}",
                        "assign it to one class",
                    )
                owner[value] = name
        frozen = MappingProxyType({name: tuple(v) for name, v in self.classes.items()})
        object.__setattr__(self, "classes", frozen)

    @classmethod
    def parse(
        cls, columns: Sequence[str], classes: Sequence[str] = (), regression: bool = False
    ) -> "Target":
        """Parse a target from command-line options: ``["cdr"], ["CN=0", "AD=0.5,1,2"]``.

        Raises
        ------
        BadInput: a class without values, a duplicate class, or a value in two classes.
        """
        named: dict[str, tuple[str, ...]] = {}
        for text in classes:
            name, equals, values = text.partition("=")
            cells = tuple(cell for cell in map(clean, values.split(",")) if cell)
            if not equals or not name.strip() or not cells:
                raise BadInput("--classes", f"{text!r}", "write NAME=VALUE[,VALUE...]: AD=0.5,1,2")
            if name.strip() in named:
                raise BadInput(
                    "--classes", f"duplicate class {name.strip()!r}", "name each class once"
                )
            named[name.strip()] = cells
        return cls(tuple(columns), named, regression)

    @property
    def is_classification(self) -> bool:
        """Whether the target is a class."""
        return not self.regression

    @property
    def names(self) -> tuple[str, ...]:
        """The classes in order, or the regressed columns."""
        if self.regression:
            return self.columns
        if not self.classes:
            raise BadInput("--classes", "unknown until a table is read", "call resolve(table)")
        return tuple(self.classes)

    def resolve(self, table: pd.DataFrame) -> "Target":
        """The target with explicit classes: every distinct value is a class if none are named.

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
            only = ", ".join(map(str, groups)) or "no values"
            raise BadInput(
                f"--target {column}", f"only one class ({only})", "choose another column"
            )
        if len(groups) > MAX_CLASSES:
            raise BadInput(
                f"--target {column}", f"{len(groups)} values", "add --regression or name --classes"
            )
        ordered = sorted(groups, key=lambda key: (isinstance(key, str), key))
        classes = {groups[key][0]: tuple(dict.fromkeys(groups[key])) for key in ordered}
        return Target(self.columns, classes)

    def as_dict(self) -> dict[str, Any]:
        """A JSON-serializable dict for ``from_dict``."""
        return {
            "columns": list(self.columns),
            "classes": {name: list(values) for name, values in self.classes.items()},
            "regression": self.regression,
        }

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> "Target":
        """Build a target from the dict of ``as_dict``."""
        classes = {str(name): tuple(values) for name, values in saved.get("classes", {}).items()}
        return cls(tuple(saved["columns"]), classes, bool(saved.get("regression", False)))


def labelled(
    table: pd.DataFrame, target: Target
) -> tuple[pd.DataFrame, np.ndarray[Any, Any], tuple[str, ...]]:
    """Select the rows that have a label, and their labels.

    Returns
    -------
    table: the labelled rows, with their index.
    y: int64 [N], the index in ``target.resolve(table).names``; or float32 [N, K] in the columns'
        units, NaN if missing (rows with at least one value are kept).
    warnings: about missing labels and inconsistent classes.

    Raises
    ------
    BadInput: a missing column, a value that is in no class or not a number, or only one class.
    """
    target = target.resolve(table)
    y = target_values(table, target) if target.regression else class_indices(table, target)
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
                f"only one class ({', '.join(present) or 'no labels'})",
                "check --classes and --where",
            )
        unused = [name for name in target.names if name not in present]
        if unused:
            raise BadInput(
                f"--target {target.columns[0]}",
                f"no scan of class {', '.join(unused)}",
                "leave the class out, or check --where",
            )
        if "participant_id" in table:
            several = pd.Series(y).groupby(table["participant_id"].to_numpy()).nunique()
            if (several > 1).any():
                warnings.append(
                    f"{int((several > 1).sum())} subjects change class between sessions; each scan "
                    "keeps its class"
                )
    else:
        for index, column in enumerate(target.columns):
            values = y[np.isfinite(y[:, index]), index]
            if len(np.unique(values)) < 2:
                raise BadInput(
                    f"--target {column}", "fewer than two values", "choose another column"
                )
            if len(values) < len(y):
                warnings.append(f"{len(y) - len(values)} of {len(y)} scans have no {column}")
    return table, y, tuple(warnings)


def class_indices(table: pd.DataFrame, target: Target) -> np.ndarray[Any, Any]:
    """int64 [N]: the class index of every row, -1 if the cell is missing."""
    column = target.columns[0]
    y = np.full(len(table), -1, dtype=np.int64)
    known: dict[str, int] = {"": -1}
    for row, cell in enumerate(map(clean, table[column])):
        if cell not in known:
            matches = (
                index
                for index, values in enumerate(target.classes.values())
                if any(same_value(cell, value) for value in values)
            )
            known[cell] = next(matches, -2)
        if known[cell] == -2:
            raise BadInput(
                f"{column} = {cell!r} at {row_name(table, row)}",
                "in none of the classes",
                "add it to a class in --classes, or leave the rows out with --where",
            )
        y[row] = known[cell]
    return y


def target_values(table: pd.DataFrame, target: Target) -> np.ndarray[Any, Any]:
    """float32 [N, K]: the values of the target columns, NaN if the cell is missing."""
    y = np.full((len(table), len(target.columns)), np.nan, dtype=np.float32)
    for index, column in enumerate(target.columns):
        for row, cell in enumerate(map(clean, table[column])):
            number = read_number(cell) if cell else math.nan
            if number is None or math.isinf(number) or abs(number) > FLOAT32_MAX:
                raise BadInput(
                    f"{column} = {cell!r} at {row_name(table, row)}",
                    "not a finite number",
                    "correct it, or write n/a",
                )
            y[row, index] = number
    return y


def row_name(table: pd.DataFrame, row: int) -> str:
    """Describe a row as ``sub-1_ses-2 (row 7)``, counted from 1 in the whole table."""
    number = table.index[row]
    position = f"row {number + 1}" if isinstance(number, int | np.integer) else f"row {number}"
    names = [table[c].iloc[row] for c in ("participant_id", "session_id") if c in table]
    label = "_".join(str(name) for name in names if name)
    return f"{label} ({position})" if label else position
