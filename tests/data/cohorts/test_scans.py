"""A scan of a subject, and a cohort of scans."""

from pathlib import Path

import pytest

from uncus.data.cohorts.scans import Cohort, Scan
from uncus.data.errors import BadInput


def scan(subject: str, session: str = "", file: str = "", **fields: str) -> Scan:
    return Scan(subject, session, Path(file or f"{subject}{session}.nii"), fields)


def test_cohort_table_has_all_fields_in_order() -> None:
    cohort = Cohort(Path("r"), (scan("1", "a", age="60"), scan("1", "b", sex="F"), scan("2")))
    table = cohort.table()
    assert list(table.columns) == ["participant_id", "session_id", "age", "sex"]
    assert table.values.tolist() == [
        ["sub-1", "ses-a", "60", ""],
        ["sub-1", "ses-b", "", "F"],
        ["sub-2", "", "", ""],
    ]
    assert [s.name for s in cohort] == ["sub-1_ses-a", "sub-1_ses-b", "sub-2"]


def test_duplicate_scans_duplicate_images_and_empty_cohorts_are_rejected() -> None:
    with pytest.raises(BadInput, match=r"sub-1_ses-a has two images: x\.nii, y\.nii"):
        Cohort(Path("r"), (scan("1", "a", "x.nii"), scan("1", "a", "y.nii")))
    with pytest.raises(BadInput, match=r"x\.nii is listed for both sub-1 and sub-2"):
        Cohort(Path("r"), (scan("1", file="x.nii"), scan("2", file="./x.nii")))
    with pytest.raises(BadInput, match="no scans found"):
        Cohort(Path("r"), ())


@pytest.mark.parametrize("label", ["../../etc", "a/b", "", ".hidden", "a b", "x" * 200, "a\nb"])
def test_labels_that_are_unsafe_in_a_path_are_rejected(label: str) -> None:
    with pytest.raises(BadInput, match="is not a valid participant label"):
        scan(label, file="x.nii")
