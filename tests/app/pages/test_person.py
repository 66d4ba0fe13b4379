"""Age and sex: of the scan's person, never of the one before."""

from pathlib import Path

import pytest

from tests.app.test_uploads import File
from uncus.app.pages import person
from uncus.app.uploaded_scan import UploadedScan


@pytest.fixture
def scan() -> UploadedScan:
    """A woman of 71 by the scan's header, whose age was corrected to 72."""
    uploaded = UploadedScan(Path("run"), [File("a.nii.gz", b"a")], {"age": 72.0, "sex": None})
    uploaded.prediction = {"volumes": {"age": 71.0, "sex": "F"}, "covariates": {"mmse": 28.0}}
    return uploaded


def test_what_is_known_of_the_person(scan: UploadedScan) -> None:
    assert person.known(scan) == {"age": 72.0, "sex": "F", "mmse": 28.0}


def test_a_new_scan_does_not_inherit_them(scan: UploadedScan) -> None:
    shown = {"age": 72.0, "sex": "F", "mmse": 28.0}
    assert person.not_of(shown, scan) == {} and not person.differ(shown, scan)
    assert person.not_of({**shown, "age": 60.0}, scan) == {"age": 60.0}
    assert person.differ({**shown, "sex": "M"}, scan)
    assert not person.differ({"age": None, "sex": None}, scan), "emptied: the header's hold"
    assert person.not_of({"age": 72.0, "sex": None}, None) == {"age": 72.0}
