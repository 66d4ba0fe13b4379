"""Fields from a table of their own."""

from pathlib import Path

import pytest

from tests.data.cohorts.files import touch, tsv
from tests.data.cohorts.test_dicom_folders import write
from uncus.data.cohorts.labels import add_labels
from uncus.data.cohorts.readers import read_cohort
from uncus.data.errors import BadInput


def tree(root: Path, reader: str) -> Path:
    """A source of two participants for a reader."""
    if reader == "dicom":
        write(root / "sub-1", 1)
        write(root / "sub-2", 2)
        return root
    folder = {"caps": "subjects/{}/ses-M0/t1_linear", "folder": "x"}.get(reader, "{}/ses-M0/anat")
    names = [f"{folder.format(s)}/{s}_ses-M0_T1w.nii.gz" for s in ("sub-1", "sub-2")]
    touch(root, *names)
    return tsv(root / "t.tsv", "path", *names) if reader == "table" else root


@pytest.mark.parametrize("reader", ["bids", "caps", "table", "folder", "dicom"])
def test_labels_join_the_scans_of_every_reader(tmp_path: Path, reader: str) -> None:
    source = tree(tmp_path / "source", reader)
    table = tmp_path / "labels.csv"
    table.write_text("Subject,dx,age\nsub-01,CN,89+\n02,AD,\n3,AD,60\n")
    cohort = add_labels(read_cohort(source, reader), table)
    assert [(s.subject, s.fields["dx"]) for s in cohort] == [("1", "CN"), ("2", "AD")]
    assert cohort.scans[0].fields["age"] == "89+"
    assert "labels.csv: no scan for sub-3" in cohort.warnings


def test_rows_of_sessions_replace_those_of_participants_and_of_the_source(tmp_path: Path) -> None:
    touch(tmp_path, *(f"sub-1/ses-{k}/anat/sub-1_ses-{k}_T1w.nii" for k in (1, 2)))
    touch(tmp_path, "sub-2/ses-1/anat/sub-2_ses-1_T1w.nii", "sub-3/anat/sub-3_T1w.nii")
    rows = ("sub-1 F CN", "sub-2 M CN", "sub-3 F CN")
    tsv(tmp_path / "participants.tsv", "participant_id sex dx", *rows)
    cells = ("1 n/a MCI", "1 ses-02 AD", "2 7 AD", "3 1 n/a")
    cohort = add_labels(
        read_cohort(tmp_path),
        tsv(tmp_path / "l.tsv", "participant_id session_id dx", *cells),
    )
    assert {scan.name: dict(scan.fields) for scan in cohort} == {
        "sub-1_ses-1": {"sex": "F", "dx": "MCI"},
        "sub-1_ses-2": {"sex": "F", "dx": "AD"},
        "sub-2_ses-1": {"sex": "M", "dx": "CN"},
        "sub-3": {"sex": "F", "dx": "CN"},
    }
    assert cohort.warnings == (
        "l.tsv: reads sub-1_ses-02 as sub-1_ses-2",
        "l.tsv: no row for sub-2_ses-1",
        "l.tsv: no scan for sub-2_ses-7",
        "dx: l.tsv differs from the source for 3 scans; l.tsv is used",
    )


@pytest.mark.parametrize(
    ("rows", "cause"),
    [
        (("who dx", "1 AD"), "no column 'participant_id'; choose one of: who, dx"),
        (("subject dx", "1 AD", "1 CN"), "lines 2 and 3 are both sub-1 but differ"),
        (("subject dx", "7 AD"), r"none of its rows \(sub-7\) is of one of the scans \(sub-1\);"),
    ],
)
def test_labels_of_nobody_are_rejected(tmp_path: Path, rows: tuple[str, ...], cause: str) -> None:
    touch(tmp_path, "sub-1.nii")
    with pytest.raises(BadInput, match=cause):
        add_labels(read_cohort(tmp_path), tsv(tmp_path / "l.tsv", *rows))
