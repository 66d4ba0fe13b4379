"""Files of one patient, whose name or ID is not in all of them alike."""

from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset

from tests.dicom_files import load, other_series, refused, save, series, voxels
from uncus.data.dicom.patient import Patient, check_one_patient, same_name
from uncus.data.errors import BadInput

WITHOUT = "files have no PatientID"
WRITTEN = "not written alike"


@pytest.mark.parametrize(
    ("others", "warnings"),
    [
        (Patient("P1", "A^B", "19500101"), []),
        (Patient("", "A^B", "19500101"), [WITHOUT]),
        (Patient("", "A^B^^", ""), [WITHOUT, WRITTEN]),
        (Patient("", "", ""), [WITHOUT]),
        (Patient("p1", "A^B", ""), []),
        (Patient("P1", "a ^ b", ""), [WRITTEN]),
        (Patient("P1", "C^B", "19500102"), [WRITTEN]),  # after a marriage, and corrected
    ],
)
def test_one_patient(others: Patient, warnings: list[str]) -> None:
    lines = check_one_patient([Patient("P1", "A^B", "19500101"), others], "folder")
    assert len(lines) == len(warnings)
    assert all(part in line for part, line in zip(warnings, lines, strict=True))


@pytest.mark.parametrize(
    "others",
    [Patient("P2", "A^B", "19500101"), Patient("", "A^C", ""), Patient("", "A^B", "19500102")],
)
def test_two_patients(others: Patient) -> None:
    with pytest.raises(BadInput, match="images of 2 patients") as error:
        check_one_patient([Patient("P1", "A^B", "19500101"), others], "folder")
    assert "A^" not in str(error.value) and "P1" not in str(error.value)


def test_names_without_an_id() -> None:
    assert same_name("A^B^^=X^Y") == same_name(" a^b") == same_name("A B") == "a b"
    one = [Patient("", "A^B", ""), Patient("", "A^B^^^", "")]
    assert [WRITTEN in line for line in check_one_patient(one, "folder")] == [True]
    with pytest.raises(BadInput, match="2 patients"):
        check_one_patient([*one, Patient("", "A^C", "")], "folder")


def test_a_series_with_the_id_in_some_files(tmp_path: Path) -> None:
    def edit(data: Dataset, index: int) -> None:
        data.PatientName = "A^B^^" if index % 2 else "A^B"
        if index % 2:
            del data.PatientID

    folder = save(tmp_path / "in", series(edit=edit))
    array, _, warnings = load(folder, tmp_path)
    np.testing.assert_array_equal(array, voxels()[:, ::-1])
    assert warnings == [
        "3 of 6 files have no PatientID: taken for the same patient.",
        "The patient's name is not written alike in all files.",
    ]
    other_series(folder, PatientID="", PatientName="C^D")
    refused(folder, tmp_path, "2 patients", "1")
