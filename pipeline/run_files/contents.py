"""Reading the JSON objects and the tables of a run."""

from pathlib import Path
from typing import Any

import pandas as pd

from uncus.data import files
from uncus.data.errors import BadInput
from uncus.data.tables import need_column, read_table

RESTORE = "restore it, or train the run again"


def read_object(path: Path) -> dict[str, Any]:
    """A JSON object; raises BadInput for any other content."""
    value = files.read_json(path)
    if not isinstance(value, dict):
        cause = f"contains a {type(value).__name__}, not an object"
        raise BadInput(path, cause, "restore the run")
    return value


def finished_table(path: Path) -> pd.DataFrame:
    """A table of a finished run, every cell a string; raises BadInput where it is missing."""
    if not path.exists():
        raise BadInput(path, "is missing", "finish the run with uncus train --resume")
    return read_table(path)


def with_numbers(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    """A table of predictions, of cells as text, with its numbers parsed."""
    numeric = [c for c in table.columns if c.startswith(("p_", "pred_", "true_"))]
    for column in [*numeric, "fold", "seed"]:
        table[column] = numbers_of(table, column, path)
    return table


def numbers_of(table: pd.DataFrame, column: str, path: Path) -> pd.Series:
    """A column of a table of text, parsed; NaN where it is empty."""
    need_column(table, column, path)
    values = pd.to_numeric(table[column].replace("", None), errors="coerce")
    if (values.isna() & (table[column] != "")).any() or values.dtype == object:
        raise BadInput(path, f"{column} is not of numbers", RESTORE)
    return values
