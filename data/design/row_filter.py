"""``--where``: select rows of a table by an expression that is parsed, never evaluated.

An expression compares columns with numbers, strings or each other, tests ``in``, ``not in``, ``is
missing`` and ``is not missing``, and joins such terms by ``and``, ``or`` and ``not``. A comparison
with a missing cell is neither true nor false (Kleene's three-valued logic); only rows for which the
expression is true are selected.
"""

import ast
import difflib
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from uncus.data.errors import BadInput
from uncus.data.tables import clean, read_number, to_number
from uncus.data.text import shorten

MAX_LENGTH = 2000
ORDERS: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
EXAMPLE = "write, for example, \"age >= 60 and sex == 'F'\""

# bool [N] where true, bool [N] where false; neither if unknown
Truth = tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]


def kleene_and(parts: list[Truth]) -> Truth:
    """Conjunction in Kleene's three-valued logic."""
    true = np.logical_and.reduce([part[0] for part in parts])
    return np.asarray(true), np.asarray(np.logical_or.reduce([part[1] for part in parts]))


def kleene_not(part: Truth) -> Truth:
    """Negation in Kleene's three-valued logic."""
    return part[1], part[0]


def equals(cell: str, value: str) -> bool:
    """Whether a cell has a value; 89+ is 89, but 89 is not 89+."""
    number = to_number(value)
    return cell == value or (number is not None and read_number(cell) == number)


def select(table: pd.DataFrame, where: str) -> pd.DataFrame:
    """The rows of ``table`` for which the expression is true, with their index.

    Raises
    ------
    BadInput: not a valid expression, an unknown column, text compared with a number, or no rows.
    """
    if not where.strip():
        return table
    selected = table.loc[Expression(table, where).decide()[0]]
    if selected.empty:
        cause = "; ".join([f"matches none of {len(table)} rows", *undecided(table, where)])
        raise BadInput(f"--where {where!r}", cause, "relax the expression")
    return selected


def undecided(table: pd.DataFrame, where: str) -> list[str]:
    """Of the rows that ``select`` leaves out since a cell is missing: a sentence, or nothing."""
    if not where.strip():
        return []
    expression = Expression(table, where)
    true, false = expression.decide()
    rows = table.loc[~true & ~false]
    if rows.empty:
        return []
    keys = rows[[name for name in ("participant_id", "session_id") if name in rows]]
    names = ["_".join(filter(None, key)) for key in keys.itertuples(index=False)]
    which = f": {shorten(names)}" if any(names) else ""
    return [f"{len(rows)} of {len(table)} scans have no {expression.missing(rows)}{which}"]


@dataclass(frozen=True)
class Expression:
    """An expression over the columns of a table."""

    table: pd.DataFrame
    text: str

    def decide(self) -> Truth:
        """The rows for which the expression is true, and those for which it is false."""
        if len(self.text) > MAX_LENGTH:
            raise BadInput("--where", f"over {MAX_LENGTH} characters", "shorten it")
        try:
            return self.truth(*self.parse())
        except (SyntaxError, RecursionError, MemoryError) as error:
            cause = getattr(error, "msg", "") or "nested too deeply"
            raise BadInput(
                f"--where {self.text!r}", f"cannot be parsed ({cause})", EXAMPLE
            ) from None
        except BadInput:
            raise
        except ValueError as error:
            raise BadInput(f"--where {self.text!r}", str(error), EXAMPLE) from None

    def parse(self) -> tuple[ast.expr, dict[str, str]]:
        """The expression's tree, and its columns in backquotes by their name in the tree."""
        # Replace `a column` in backquotes by a name that Python can parse.
        quoted = re.compile(r"`([^`]*)`")
        names = {f"_column_{i}": m for i, m in enumerate(quoted.findall(self.text))}
        numbered = iter(names)
        source = quoted.sub(lambda _: next(numbered), self.text.strip())
        return ast.parse(source, mode="eval").body, names

    def missing(self, rows: pd.DataFrame) -> str:
        """The columns of a valid expression in which some of ``rows`` have no value: age or sex."""
        tree, names = self.parse()
        used = [node.id for node in ast.walk(tree) if isinstance(node, ast.Name)]
        columns = dict.fromkeys(names.get(name, name) for name in used)
        return " or ".join(c for c in columns if c in rows and "" in set(map(clean, rows[c])))

    def truth(self, node: ast.expr, names: dict[str, str]) -> Truth:
        """The rows for which ``node`` is true, and those for which it is false, bool [N] each."""
        if isinstance(node, ast.BoolOp):
            parts = [self.truth(value, names) for value in node.values]
            if isinstance(node.op, ast.And):
                return kleene_and(parts)
            return kleene_not(kleene_and([kleene_not(part) for part in parts]))
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return kleene_not(self.truth(node.operand, names))
        if isinstance(node, ast.Compare):
            pairs = zip([node.left, *node.comparators], node.ops, node.comparators, strict=False)
            return kleene_and(
                [self.comparison(left, op, right, names) for left, op, right in pairs]
            )
        raise self.error(node)

    def comparison(
        self, left: ast.expr, op: ast.cmpop, right: ast.expr, names: dict[str, str]
    ) -> Truth:
        """Evaluate one comparison for every row."""
        if isinstance(op, ast.Is | ast.IsNot):
            if not (isinstance(right, ast.Name) and right.id == "missing"):
                raise self.error(right, "'is' can only be followed by 'missing' or 'not missing'")
            absent = np.array([cell == "" for cell in self.cells(left, names)], dtype=bool)
            return (absent, ~absent) if isinstance(op, ast.Is) else (~absent, absent)
        cells = self.cells(left, names)
        known = np.array([cell != "" for cell in cells], dtype=bool)
        if isinstance(op, ast.In | ast.NotIn):
            if not isinstance(right, ast.List | ast.Tuple | ast.Set):
                raise self.error(right, "'in' needs a list, such as ['F', 'M']")
            values = [self.constant(item) for item in right.elts]
            result = np.array([any(equals(cell, v) for v in values) for cell in cells], dtype=bool)
            negated = isinstance(op, ast.NotIn)
        else:
            others = self.cells(right, names)
            known &= np.array([cell != "" for cell in others], dtype=bool)
            if isinstance(op, ast.Eq | ast.NotEq):
                pairs = zip(cells, others, strict=True)
                result = np.array([equals(a, b) for a, b in pairs], dtype=bool)
                negated = isinstance(op, ast.NotEq)
            else:
                result = self.ordered(cells, ORDERS[type(op)], others, known)
                negated = False
        result = ~result if negated else result
        return result & known, ~result & known

    def ordered(
        self,
        cells: list[str],
        order: Callable[[Any, Any], bool],
        others: list[str],
        known: np.ndarray[Any, Any],
    ) -> np.ndarray[Any, Any]:
        """bool [N]: compare numbers; compare text only if neither side is a number (dates)."""
        result = np.zeros(len(cells), dtype=bool)
        for row in np.flatnonzero(known):
            one, two = read_number(cells[row]), read_number(others[row])
            if one is not None and two is not None:
                result[row] = order(one, two)
            elif one is None and two is None:
                result[row] = order(cells[row], others[row])
            else:
                text = cells[row] if one is None else others[row]
                raise BadInput(
                    f"--where {self.text!r}",
                    f"{text!r} in row {row + 1} is not a number",
                    "correct the table, or compare with ==",
                )
        return result

    def cells(self, node: ast.expr, names: dict[str, str]) -> list[str]:
        """The value of ``node`` in each row: the cells of a column, or a repeated constant."""
        if isinstance(node, ast.Name):
            column = names.get(node.id, node.id)
            if column not in self.table.columns:
                columns = list(map(str, self.table.columns))
                close = difflib.get_close_matches(column, columns, n=1)
                remedy = f"did you mean {close[0]!r}? " if close else ""
                remedy += f"choose one of: {shorten(columns, 20)}"
                raise BadInput(f"--where {self.text!r}", f"no column {column!r}", remedy)
            return [clean(cell) for cell in self.table[column]]
        return [self.constant(node)] * len(self.table)

    def constant(self, node: ast.expr) -> str:
        """A literal number or string, as a cell."""
        sign = ""
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
            sign, node = ("-" if isinstance(node.op, ast.USub) else ""), node.operand
            if not (isinstance(node, ast.Constant) and type(node.value) in (int, float)):
                raise self.error(node)
        if isinstance(node, ast.Constant) and type(node.value) in (int, float, str):
            return sign + (node.value if isinstance(node.value, str) else repr(node.value))
        raise self.error(node)

    def error(self, node: ast.AST, why: str = "") -> BadInput:
        """The error for a part of the expression that is not allowed."""
        part = ast.unparse(node)[:80]
        cause = why or f"{part!r} is not a comparison of columns with values"
        return BadInput(f"--where {self.text!r}", cause, EXAMPLE)
