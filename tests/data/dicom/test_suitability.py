"""Other scans than T1-weighted MR of a head are rejected or get a warning."""

from pathlib import Path
from typing import Any

import pytest

from tests.dicom_files import Edit, load, refused, save, series, tag

REFUSED: dict[str, tuple[Edit, str]] = {
    "localizer": (tag("ImageType", ["ORIGINAL", "PRIMARY", "LOCALIZER"]), "is a localizer"),
    "CT": (tag("Modality", "CT"), r"not MR by its tags \(Modality CT\)"),
    "no modality": (
        lambda d, _: (delattr(d, "Modality"), setattr(d, "SOPClassUID", "1.2.3"))[0],
        "not MR by its tags",
    ),
    "phase": (tag("ImageType", ["ORIGINAL", "PRIMARY", "P"]), "is a phase image"),
    "knee": (tag("BodyPartExamined", "KNEE"), "not of a head by its tags"),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_refuses(fault: str, tmp_path: Path) -> None:
    edit, cause = REFUSED[fault]
    refused(save(tmp_path / "in", series(edit=edit)), tmp_path, cause)


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("BurnedInAnnotation", "YES", "burned into"),
        ("ContrastBolusAgent", "Gadolinium", "contrast agent"),
        ("EchoTime", 95.0, "T2-weighted by its tags"),
        ("MRAcquisitionType", "2D", "slice by slice"),
    ],
)
def test_warns(name: str, value: Any, text: str, tmp_path: Path) -> None:
    _, _, warnings = load(save(tmp_path / "in", series(edit=tag(name, value))), tmp_path)
    assert len(warnings) == 1 and text in warnings[0]
