"""``--where``: choosing rows by an expression that is parsed, never evaluated.

Comparisons of columns with numbers, strings or one another, ``in`` and ``not in``, ``is missing``
and ``is not missing``, joined by ``and``, ``or``, ``not``. A comparison with a missing cell is
neither true nor false (Kleene's three values), and a row is chosen only where the whole is true.
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
from uncus.data.tables import clean, same_value, to_number

MAX_LENGTH = 2000
ORDERS: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
EXAMPLE = "write, for example, \"age >= 60 and sex == 'F'\""

Truth = tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]  # bool [N] surely true, surely false


def every(parts: list[Truth]) -> Truth:
    """Kleene's and."""
    true = np.logical_and.reduce([part[0] for part in parts])
    return np.asarray(true), np.asarray(np.logical_or.reduce([part[1] for part in parts]))


def reverse(part: Truth) -> Truth:
    """Kleene's not."""
    return part[1], part[0]


def select(table: pd.DataFrame, where: str) -> pd.DataFrame:
    """The rows of ``table`` for which the expression holds; their index is kept.

    Raises
    ------
    BadInput: not such an expression, an unknown column, text where a number is compared, or no row.
    """
    if not where.strip():
        return table
    chosen = table.loc[Expression(table, where).rows()]
    if chosen.empty:
        raise BadInput(f"--where {where!r}", f"none of {len(table)} rows fit", "loosen it")
    return chosen


@dataclass(frozen=True)
class Expression:
    """One expression over one table."""

    table: pd.DataFrame
    text: str

    def rows(self) -> np.ndarray[Any, Any]:
        """bool [N]: where the expression is true."""
        if len(self.text) > MAX_LENGTH:
            raise BadInput("--where", f"over {MAX_LENGTH} characters", "shorten it")
        # `a column` in back quotes becomes a name that Python can parse.
        quoted = re.compile(r"`([^`]*)`")
        names = {f"_column_{i}": m for i, m in enumerate(quoted.findall(self.text))}
        numbered = iter(names)
        try:
            source = quoted.sub(lambda _: next(numbered), self.text.strip())
            tree = ast.parse(source, mode="eval").body
            true, _ = self.truth(tree, names)
        except (SyntaxError, RecursionError, MemoryError) as error:
            cause = getattr(error, "msg", "") or "too deep"
            raise BadInput(
                f"--where {self.text!r}", f"cannot be parsed ({cause})", EXAMPLE
            ) from None
        except BadInput:
            raise
        except ValueError as error:
            raise BadInput(f"--where {self.text!r}", str(error), EXAMPLE) from None
        return true

    def truth(self, node: ast.expr, names: dict[str, str]) -> Truth:
        """Where ``node`` is surely true and where surely false, bool [N] each."""
        if isinstance(node, ast.BoolOp):
            parts = [self.truth(value, names) for value in node.values]
            if isinstance(node.op, ast.And):
                return every(parts)
            return reverse(every([reverse(part) for part in parts]))
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return reverse(self.truth(node.operand, names))
        if isinstance(node, ast.Compare):
            pairs = zip([node.left, *node.comparators], node.ops, node.comparators, strict=False)
            return every([self.comparison(left, op, right, names) for left, op, right in pairs])
        raise self.refuse(node)

    def comparison(
        self, left: ast.expr, op: ast.cmpop, right: ast.expr, names: dict[str, str]
    ) -> Truth:
        """One comparison, row by row."""
        if isinstance(op, ast.Is | ast.IsNot):
            if not (isinstance(right, ast.Name) and right.id == "missing"):
                raise self.refuse(right, "'is' goes with 'missing' only")
            absent = np.array([cell == "" for cell in self.cells(left, names)], dtype=bool)
            return (absent, ~absent) if isinstance(op, ast.Is) else (~absent, absent)
        cells = self.cells(left, names)
        known = np.array([cell != "" for cell in cells], dtype=bool)
        if isinstance(op, ast.In | ast.NotIn):
            if not isinstance(right, ast.List | ast.Tuple | ast.Set):
                raise self.refuse(right, "'in' takes a list, as in ['F', 'M']")
            values = [self.constant(item) for item in right.elts]
            holds = np.array(
                [any(same_value(cell, v) for v in values) for cell in cells], dtype=bool
            )
            negated = isinstance(op, ast.NotIn)
        else:
            others = self.cells(right, names)
            known &= np.array([cell != "" for cell in others], dtype=bool)
            if isinstance(op, ast.Eq | ast.NotEq):
                pairs = zip(cells, others, strict=True)
                holds = np.array([same_value(a, b) for a, b in pairs], dtype=bool)
                negated = isinstance(op, ast.NotEq)
            else:
                holds = self.ordered(cells, ORDERS[type(op)], others, known)
                negated = False
        holds = ~holds if negated else holds
        return holds & known, ~holds & known

    def ordered(
        self,
        cells: list[str],
        order: Callable[[Any, Any], bool],
        others: list[str],
        known: np.ndarray[Any, Any],
    ) -> np.ndarray[Any, Any]:
        """bool [N]: an order of numbers; of text only where neither side has a number (dates)."""
        holds = np.zeros(len(cells), dtype=bool)
        for row in np.flatnonzero(known):
            one, two = to_number(cells[row]), to_number(others[row])
            if one is not None and two is not None:
                holds[row] = order(one, two)
            elif one is None and two is None:
                holds[row] = order(cells[row], others[row])
            else:
                text = cells[row] if one is None else others[row]
                raise BadInput(
                    f"--where {self.text!r}",
                    f"{text!r} in row {row + 1} is not a number",
                    "correct the table or compare by ==",
                )
        return holds

    def cells(self, node: ast.expr, names: dict[str, str]) -> list[str]:
        """What ``node`` is in each row: a column's cells, or a constant over and over."""
        if isinstance(node, ast.Name):
            column = names.get(node.id, node.id)
            if column not in self.table.columns:
                there = ", ".join(map(str, self.table.columns))
                close = difflib.get_close_matches(column, list(map(str, self.table.columns)), n=1)
                hint = (
                    f"did you mean {close[0]!r}? There are: {there}"
                    if close
                    else f"there are: {there}"
                )
                raise BadInput(f"--where {self.text!r}", f"no column {column!r}", hint)
            return [clean(cell) for cell in self.table[column]]
        return [self.constant(node)] * len(self.table)

    def constant(self, node: ast.expr) -> str:
        """A number or a string that is written out, as a cell."""
        sign = ""
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
            sign, node = ("-" if isinstance(node.op, ast.USub) else ""), node.operand
            if not (isinstance(node, ast.Constant) and type(node.value) in (int, float)):
                raise self.refuse(node)
        if isinstance(node, ast.Constant) and type(node.value) in (int, float, str):
            return sign + (node.value if isinstance(node.value, str) else repr(node.value))
        raise self.refuse(node)

    def refuse(self, node: ast.AST, why: str = "") -> BadInput:
        """The error for a part that is not allowed."""
        part = ast.unparse(node)[:80]
        cause = why or f"{part!r} is not a comparison of columns with values"
        return BadInput(f"--where {self.text!r}", cause, EXAMPLE)
