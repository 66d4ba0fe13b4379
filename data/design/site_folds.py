"""Folds that leave one site out: each is tested by networks that were trained on the others."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from uncus.data.design.stratification import Array, is_classes
from uncus.data.errors import BadInput
from uncus.data.tables import clean, find_column, need_column
from uncus.data.text import shorten


def leave_one_out(
    table: pd.DataFrame, column: str, labels: Array | None = None, names: Sequence[str] = ()
) -> dict[str, frozenset[str]]:
    """The participant_ids of each value of ``column``, in the values' order.

    Parameters
    ----------
    table: one row a scan.
    column: such as ``site``, in any case.
    labels: int [N] classes, negative where there is none; or other values, which are not looked at.
    names: of the classes.

    Raises
    ------
    BadInput: no such column, a scan without a value, a subject with two of them, a single value,
        or one whose subjects lack a class.
    """
    option = f"--folds {column}"
    found = find_column(table, [column.lower()]) or column
    need_column(table, found, option)
    cells = np.array([clean(cell) for cell in table[found]], dtype=object)
    subjects = table["participant_id"].to_numpy(dtype=str)
    some = f'leave scans out with --where, such as --where "{found} != ..."'
    if missing := sorted({str(name) for name in subjects[cells == ""]}):
        raise BadInput(option, f"{shorten(missing)} have no {found}", f"add it, or {some}")
    pairs = pd.DataFrame({"subject": subjects, "value": cells}).drop_duplicates()
    twice = pairs["subject"][pairs["subject"].duplicated()]
    if len(twice):
        at = " and ".join(sorted(pairs["value"][pairs["subject"] == twice.iloc[0]]))
        raise BadInput(option, f"{twice.iloc[0]} was scanned at {at}", f"choose one, or {some}")
    values = sorted(set(cells))
    if len(values) < 2:
        raise BadInput(option, f"all scans are of {values[0]}", "give a number of folds")
    lacking = [
        f"{value} has no {name}"
        for value in values
        for k, name in enumerate(names)
        if is_classes(labels) and not np.any(np.asarray(labels)[cells == value] == k)
    ]
    if lacking:
        raise BadInput(option, shorten(lacking), f"merge sites in the table, or {some}")
    return {value: frozenset(subjects[cells == value]) for value in values}
