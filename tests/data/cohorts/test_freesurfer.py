"""Cohorts of FreeSurfer's subject folders."""

import shutil
from pathlib import Path

import pytest

from tests.data.cohorts.files import touch, tsv
from uncus.data.cohorts.readers import guess_reader, read_cohort
from uncus.data.errors import BadInput


def subject(root: Path, name: str, *images: str) -> None:
    touch(root, *(f"{name}/mri/{image}" for image in (*images, "aseg.mgz", "brain.mgz")))


def test_each_subject_has_one_scan(tmp_path: Path) -> None:
    subject(tmp_path, "sub-01_ses-1", "T1.mgz", "orig.mgz")
    subject(tmp_path, "sub-01_ses-1.long.sub-01", "T1.mgz", "orig.mgz")
    subject(tmp_path, "sub-01", "T1.mgz", "orig.mgz")
    touch(tmp_path, "sub-01/base-tps")
    subject(tmp_path, "002_S_0295", "orig.mgz")
    subject(tmp_path, "003.long.003-base", "T1.mgz")
    subject(tmp_path, "failed")
    subject(tmp_path, "fsaverage", "T1.mgz", "orig.mgz")
    touch(tmp_path, ".git/x/mri/T1.mgz")
    assert guess_reader(tmp_path) == "freesurfer"
    cohort = read_cohort(tmp_path)
    assert {s.name: s.path.relative_to(tmp_path).as_posix() for s in cohort} == {
        "sub-002_S_0295": "002_S_0295/mri/orig.mgz",
        "sub-003": "003.long.003-base/mri/T1.mgz",
        "sub-01_ses-1": "sub-01_ses-1/mri/T1.mgz",
    }
    assert cohort.left_out == {"failed": "without mri/T1.mgz and mri/orig.mgz"}
    assert cohort.warnings[0] == (
        "templates and longitudinal results, ignored: fsaverage, sub-01, sub-01_ses-1.long.sub-01"
    )
    tsv(tmp_path / "participants.tsv", "participant_id age", "002_S_0295 71", "sub-01 70", "9 80")
    cohort = read_cohort(tmp_path)
    assert {s.name: s.fields.get("age") for s in cohort} == {
        "sub-002_S_0295": "71",
        "sub-003": None,
        "sub-01_ses-1": "70",
    }
    assert cohort.left_out["sub-9"] == "without FreeSurfer's folder"


def test_one_subject_and_no_subject(tmp_path: Path) -> None:
    subject(tmp_path, "bert", "T1.mgz")
    assert [scan.name for scan in read_cohort(tmp_path / "bert")] == ["sub-bert"]
    shutil.rmtree(tmp_path / "bert")
    with pytest.raises(BadInput, match="no scans found"):
        read_cohort(tmp_path, "freesurfer")


def test_segmentations_in_other_sources(tmp_path: Path) -> None:
    subject(tmp_path / "site", "bert", "T1.mgz")
    touch(tmp_path, "a.nii", "a_aseg.nii")
    cohort = read_cohort(tmp_path)
    assert "aseg.mgz" not in {scan.path.name for scan in cohort}
    assert "segmentations, ignored: a_aseg.nii, aseg.mgz" in cohort.warnings
    table = tsv(tmp_path / "t.tsv", "subject path", "1 site/bert")
    assert [scan.path for scan in read_cohort(table)] == [tmp_path / "site" / "bert"]
