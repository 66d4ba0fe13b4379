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


def test_columns_are_numbers_and_a_sex_is_one() -> None:
    found = covariates.columns(TABLE, ("age", "sex"))
    assert np.array_equal(found, [[72.5, 0], [np.nan, 1], [60, np.nan]], equal_nan=True)
    assert covariates.columns(TABLE, ()).shape == (3, 0)


@pytest.mark.parametrize(
    ("name", "said"),
    [("site", "'A' of sub-1 is no number"), ("empty", "no value"), ("agee", "no column 'agee'")],
)
def test_what_is_no_number_is_refused(name: str, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        covariates.columns(TABLE, (name,))


def test_one_persons_values_are_checked() -> None:
    known = covariates.parse(["age=72", "sex=F"])
    assert covariates.given(known, ("sex", "age")).tolist() == [0, 72]
    assert np.isnan(covariates.given({"age": None}, ("age",))).all()
    for wrong in (["age"], ["=72"], ["age="], ["age=1", "age=2"]):
        with pytest.raises(BadInput, match="write NAME=VALUE"):
            covariates.parse(wrong)
    with pytest.raises(BadInput, match="this run takes age"):
        covariates.given({"weight": 70}, ("age",))
    with pytest.raises(BadInput, match="no number"):
        covariates.given({"age": "old"}, ("age",))


def test_unknown_and_extrapolated_values_are_told() -> None:
    seen = covariates.ranges(np.array([[60.0], [80.0], [np.nan]], np.float32), ("age",))
    assert seen == {"age": {"min": 60, "max": 80, "mean": 70}}
    assert covariates.doubts(np.array([60.0], np.float32), seen) == ()
    (unknown,) = covariates.doubts(np.array([np.nan], np.float32), seen)
    assert "age is not known" in unknown
    (outside,) = covariates.doubts(np.array([90.0], np.float32), seen)
    assert "outside the training people's, 60 to 80" in outside
