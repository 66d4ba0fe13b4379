"""Covariates of subjects, from tables and from the command line."""

import numpy as np
import pandas as pd
import pytest

from uncus.data.design import covariates
from uncus.data.errors import BadInput

TABLE = pd.DataFrame(
    {
        "participant_id": ["sub-1", "sub-2", "sub-3"],
        "age": ["72.5", "n/a", "60"],
        "sex": ["F", "male", ""],
        "site": ["A", "B", "A"],
        "empty": ["", "n/a", ""],
    }
)


def test_numbers_and_sexes_are_encoded() -> None:
    values = covariates.columns(TABLE, ("age", "sex"))
    assert np.array_equal(values, [[72.5, 0], [np.nan, 1], [60, np.nan]], equal_nan=True)
    assert covariates.columns(TABLE, ()).shape == (3, 0)


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("site", "'A' of sub-1 is not a number"),
        ("empty", "missing for every scan"),
        ("agee", "no column 'agee'"),
    ],
)
def test_columns_that_are_not_numbers_are_rejected(name: str, cause: str) -> None:
    with pytest.raises(BadInput, match=cause):
        covariates.columns(TABLE, (name,))


def test_sexes_as_letters_and_numbers_are_not_mixed() -> None:
    table = TABLE.assign(sex=["F", "2", "M"])
    with pytest.raises(BadInput, match="some cells are F or M and others numbers"):
        covariates.columns(table, ("sex",))
    assert covariates.columns(TABLE.assign(sex=["1", "2", ""]), ("sex",))[:2].tolist() == [[1], [2]]


def test_covariates_of_one_subject_are_checked() -> None:
    known = covariates.parse(["age=72", "sex=F"])
    assert covariates.to_row(known, ("sex", "age")).tolist() == [0, 72]
    assert np.isnan(covariates.to_row({"age": None}, ("age",))).all()
    for wrong in (["age"], ["=72"], ["age="], ["age=1", "age=2"]):
        with pytest.raises(BadInput, match="write NAME=VALUE"):
            covariates.parse(wrong)
    with pytest.raises(BadInput, match="choose from: age"):
        covariates.to_row({"weight": 70}, ("age",))
    with pytest.raises(BadInput, match="not a number"):
        covariates.to_row({"age": "old"}, ("age",))


def test_unknown_and_extrapolated_values_get_a_warning() -> None:
    training = covariates.ranges(np.array([[60.0], [80.0], [np.nan]], np.float32), ("age",))
    assert training == {"age": {"min": 60, "max": 80, "mean": 70}}
    assert covariates.range_warnings(np.array([60.0], np.float32), training) == ()
    (unknown,) = covariates.range_warnings(np.array([np.nan], np.float32), training)
    assert "age is unknown" in unknown
    (outside,) = covariates.range_warnings(np.array([90.0], np.float32), training)
    assert "outside the range of the training data, 60 to 80" in outside


def test_a_limit_is_read_as_its_number() -> None:
    table = pd.DataFrame({"participant_id": ["sub-1", "sub-2"], "age": ["60", "89+"]})
    assert covariates.columns(table, ("age",)).tolist() == [[60], [89]]
    assert covariates.to_row({"age": "89+"}, ("age",)).tolist() == [89]
