"""Targets and labels."""

import numpy as np
import pandas as pd
import pytest

from uncus.data.design.targets import Target, labelled
from uncus.data.errors import BadInput


def table(**columns: list[str]) -> pd.DataFrame:
    rows = len(next(iter(columns.values())))
    ids = [f"sub-{k + 1}" for k in range(rows)]
    return pd.DataFrame({"participant_id": ids, "session_id": "", **columns})


CDR = Target.parse(["cdr"], ["CN=0", "AD=0.5,1,2"])


def test_classes_are_compared_as_numbers_and_missing_labels_are_counted() -> None:
    rows = table(cdr=["0.0", "0.5", "", "2", "n/a", "0"])
    kept, y, warnings = labelled(rows, CDR)
    assert y.tolist() == [0, 1, 1, 0] and y.dtype == np.int64
    assert kept.index.tolist() == [0, 1, 3, 5]
    assert warnings == ("2 of 6 scans have no cdr and are left out",)
    assert CDR.names == ("CN", "AD") and CDR.is_classification


def test_any_number_of_classes_in_the_order_given() -> None:
    target = Target.parse(["dx"], ["AD=AD,Dementia", "MCI=MCI", "CN=CN"])
    _, y, _ = labelled(table(dx=["CN", "MCI", "Dementia", "AD"]), target)
    assert (target.names, y.tolist()) == (("AD", "MCI", "CN"), [2, 1, 0, 0])


def test_plus_and_minus_are_valid_values() -> None:
    target = Target.parse(["amyloid"], ["negative=-", "positive=+"])
    assert labelled(table(amyloid=["+", "-"]), target)[1].tolist() == [1, 0]


def test_without_named_classes_every_value_is_a_class() -> None:
    target = Target.parse(["cdr"])
    with pytest.raises(BadInput, match="unknown until a table is read"):
        _ = target.names
    rows = table(cdr=["10", "2.0", "", "2", "x"])
    assert target.resolve(rows).names == ("2.0", "10", "x")
    assert target.resolve(rows).classes["2.0"] == ("2.0", "2")
    assert labelled(rows, target)[1].tolist() == [1, 0, 0, 2]
    with pytest.raises(BadInput, match="30 values; add --regression"):
        target.resolve(table(cdr=[str(k) for k in range(30)]))


def test_an_unknown_label_is_rejected_with_its_row() -> None:
    rows = table(cdr=["0", "1", "3"]).set_index(pd.Index([4, 7, 9]))
    with pytest.raises(BadInput, match=r"cdr = '3' at sub-3 \(row 10\): in none of the classes"):
        labelled(rows, CDR)


@pytest.mark.parametrize("cells", [["0", "0.0"], ["1", ""], ["", ""]])
def test_a_single_class_is_rejected(cells: list[str]) -> None:
    with pytest.raises(BadInput, match="only one class"):
        labelled(table(cdr=cells), CDR)
    with pytest.raises(BadInput, match="only one class"):
        labelled(table(cdr=cells), Target.parse(["cdr"]))


def test_a_named_class_without_scans_is_rejected() -> None:
    target = Target.parse(["cdr"], ["CN=0", "MCI=0.5", "AD=1"])
    with pytest.raises(BadInput, match="no scan of class MCI"):
        labelled(table(cdr=["0", "1"]), target)


def test_a_missing_column_lists_the_columns() -> None:
    with pytest.raises(BadInput, match=r"no column 'cdr'; choose one of: .*, dx"):
        labelled(table(dx=["0"]), CDR)


def test_subjects_that_change_class_get_a_warning() -> None:
    rows = table(cdr=["0", "1", "1"])
    rows["participant_id"] = ["sub-1", "sub-1", "sub-2"]
    assert "1 subjects change class" in labelled(rows, CDR)[2][0]


def test_regression_keeps_rows_with_one_value() -> None:
    target = Target.parse(["age", "nwbv"], regression=True)
    kept, y, warnings = labelled(
        table(age=["60", "", "70.5", ""], nwbv=["", "0.7", "0.8", "NA"]), target
    )
    assert kept.index.tolist() == [0, 1, 2] and y.dtype == np.float32
    np.testing.assert_array_equal(y, np.float32([[60, np.nan], [np.nan, 0.7], [70.5, 0.8]]))
    assert target.names == ("age", "nwbv") and not target.is_classification
    assert len(warnings) == 3


@pytest.mark.parametrize("cell", ["old", "inf", "1e99", "60-65"])
def test_regression_rejects_text_with_its_row(cell: str) -> None:
    target = Target.parse(["age"], regression=True)
    with pytest.raises(BadInput, match=r"at sub-2 \(row 2\): not a finite number"):
        labelled(table(age=["60", cell, "70"]), target)


def test_regression_rejects_a_constant_column() -> None:
    with pytest.raises(BadInput, match="fewer than two values"):
        labelled(table(age=["60", "60", ""]), Target.parse(["age"], regression=True))


@pytest.mark.parametrize(
    ("columns", "classes", "regression", "cause"),
    [
        ([], [], False, "name one column"),
        (["a", "a"], [], True, "several distinct ones"),
        (["a", "b"], [], False, "add --regression"),
        (["a"], ["CN=0"], False, "only one class"),
        (["a"], ["CN=0", "AD"], False, "write NAME=VALUE"),
        (["a"], ["CN=0", "AD="], False, "write NAME=VALUE"),
        (["a"], ["CN=0", "=1"], False, "write NAME=VALUE"),
        (["a"], ["CN=0", "CN=1"], False, "duplicate class 'CN'"),
        (["a"], ["CN=0", "AD=1,0.0"], False, "is in both CN and AD"),
        (["a"], ["CN=0", "AD=1"], True, "not used in a regression"),
    ],
)
def test_invalid_targets_are_rejected(
    columns: list[str], classes: list[str], regression: bool, cause: str
) -> None:
    with pytest.raises(BadInput, match=cause):
        Target.parse(columns, classes, regression)


def test_a_target_is_saved_as_json_and_restored() -> None:
    for target in (CDR, Target.parse(["age", "nwbv"], regression=True), Target.parse(["dx"])):
        assert Target.from_dict(target.as_dict()) == target


def test_a_limit_is_a_number_of_a_regression_and_a_class_of_its_own() -> None:
    table = pd.DataFrame({"age": ["60", "89+", "89", "70"]})
    _, y, _ = labelled(table, Target.parse(["age"], regression=True))
    assert y[:, 0].tolist() == [60, 89, 89, 70]
    grades = pd.DataFrame({"grade": ["2", "2+", "2", "2+"]})
    assert Target.parse(["grade"]).resolve(grades).names == ("2", "2+")
