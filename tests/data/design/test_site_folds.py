"""Folds that leave one site out."""

import numpy as np
import pandas as pd
import pytest

from uncus.data.design.site_folds import leave_one_out
from uncus.data.design.splits import make_splits
from uncus.data.errors import BadInput

NAMES = ("CN", "AD")


def cohort(sites: str = "ABC", each: int = 10) -> tuple[pd.DataFrame, np.ndarray]:
    """``each`` subjects at each site, CN and AD in turn."""
    rows = [(f"sub-{site}{k}", site, k % 2) for site in sites for k in range(each)]
    table = pd.DataFrame(rows, columns=["participant_id", "Site", "label"])
    return table, table.pop("label").to_numpy()


def test_each_site_is_tested_by_networks_of_the_others() -> None:
    table, labels = cohort()
    sites = leave_one_out(table, "site", labels, NAMES)
    assert list(sites) == ["A", "B", "C"]
    splits = make_splits(table, labels, tests=list(sites.values()), folds=3)
    assert splits.folds == 3
    for fold, site in enumerate("ABC"):
        tested = splits.subjects(fold, "test")
        assert tested == set(table["participant_id"][table["Site"] == site])
        others = splits.subjects(fold, "train") | splits.subjects(fold, "validation")
        assert others == set(table["participant_id"]) - tested
        assert splits.subjects(fold, "validation")


def test_held_out_subjects_are_in_no_fold() -> None:
    table, labels = cohort()
    sites = leave_one_out(table, "site", labels, NAMES)
    splits = make_splits(table, labels, tests=list(sites.values()), folds=3, holdout=["A0", "B1"])
    assert "sub-A0" not in splits.subjects(0, "test")
    assert splits.subjects(2, "holdout") == {"sub-A0", "sub-B1"}


def refused(table: pd.DataFrame, labels: np.ndarray, column: str = "site") -> str:
    with pytest.raises(BadInput) as caught:
        leave_one_out(table, column, labels, NAMES)
    message = str(caught.value)
    assert message.startswith(f"--folds {column}: ") and "\n" not in message
    return message


def test_what_cannot_be_tested_is_refused_in_one_line() -> None:
    table, labels = cohort()
    assert "no column 'center'; choose one of: participant_id, Site" in refused(
        table, labels, "center"
    )
    one_class = np.where(table["Site"] == "B", 0, labels)
    assert "B has no AD" in refused(table, one_class)
    assert leave_one_out(table, "site", one_class.astype(float)), "a regression has no classes"
    assert "sub-A3 have no Site" in refused(
        table.assign(Site=["A"] * 3 + [""] + ["B"] * 26), labels
    )
    assert "all scans are of A" in refused(table.assign(Site="A"), labels)
    twice = pd.concat([table, table.iloc[:1].assign(Site="C")])
    assert "sub-A0 was scanned at A and C" in refused(twice, np.append(labels, 0))
