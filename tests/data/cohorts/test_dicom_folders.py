"""Cohorts of DICOM folders: subjects, sessions, series, and what is rejected."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset

from tests.conftest import AFFINE, small_brain
from tests.dicom_files import UID, save, series
from uncus.data.bids_derivatives import source_sha256
from uncus.data.cohorts.readers import guess_reader, read_cohort
from uncus.data.errors import BadInput
from uncus.data.imageio.volume import load_files
from uncus.data.prepared_cohort import PreparedCohort
from uncus.pipeline.cli import main


def write(folder: Path, patient: int, number: int = 1, **tags: Any) -> Path:
    """A series of a small brain in ``folder``."""

    def edit(data: Dataset, index: int) -> None:
        data.SeriesInstanceUID, data.SeriesNumber = f"{UID}.{patient}.{number}", number
        data.SOPInstanceUID = f"{UID}.{patient}.{number}.{index}"
        data.PatientID, data.StudyDate = f"P/{patient}", "20200131"
        data.PatientAge, data.PatientSex = "071Y", "F"
        for name, value in tags.items():
            setattr(data, name, value)

    image = np.rint(small_brain(10 * patient + number, ill=patient % 2 == 1)).astype(np.int16)
    return save(folder, series(image, AFFINE, edit), f"s{number}-")


def names(root: Path) -> list[str]:
    return [scan.name for scan in read_cohort(root)]


def test_each_folder_or_zip_is_a_subject(tmp_path: Path) -> None:
    write(tmp_path / "sub-ann" / "ses-1" / "mprage", 1)
    write(tmp_path / "x" / "2020" / "1", 2)
    write(tmp_path / "nobody", 3, PatientID="", StudyDate="", PatientAge="", PatientSex="")
    packed = write(tmp_path / "packed", 4)
    shutil.make_archive(str(tmp_path / "zipped"), "zip", packed)
    shutil.rmtree(packed)
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("hello")
    assert guess_reader(tmp_path) == "dicom"
    cohort = read_cohort(tmp_path)
    fields = {scan.name: dict(scan.fields) for scan in cohort}
    header = {"age": "71", "sex": "F"}
    assert fields == {
        "sub-nobody": {"age": "", "sex": ""},
        "sub-ann_ses-1": header,
        "sub-P-2_ses-20200131": header,
        "sub-P-4_ses-20200131": header,
    }


def test_one_folder_of_files_is_one_scan(tmp_path: Path) -> None:
    write(tmp_path, 1)
    assert names(tmp_path) == ["sub-P-1_ses-20200131"]


def test_two_sessions_in_one_folder_are_two_scans(tmp_path: Path) -> None:
    write(tmp_path / "a", 1)
    write(tmp_path / "a", 1, 2, StudyDate="20210131")
    cohort = read_cohort(tmp_path)
    assert [scan.session for scan in cohort] == ["20200131", "20210131"]
    assert [scan.series for scan in cohort] == [f"{UID}.1.1", f"{UID}.1.2"]
    assert {scan.path for scan in cohort} == {tmp_path / "a"}


def test_the_id_of_one_series_names_the_subject(tmp_path: Path) -> None:
    write(tmp_path / "x", 1, PatientID="", StudyDate="20190131")
    write(tmp_path / "x", 1, 2)
    assert names(tmp_path) == ["sub-P-1_ses-20190131", "sub-P-1_ses-20200131"]


def test_labels_come_from_the_table(tmp_path: Path) -> None:
    for patient in (1, 2):
        write(tmp_path / f"sub-{patient}", patient)
    table = tmp_path / "participants.tsv"
    table.write_text("participant_id\tdiagnosis\nsub-1\tCN\nsub-2\tAD\n")
    assert [dict(scan.fields) for scan in read_cohort(tmp_path)] == [
        {"diagnosis": "CN"},
        {"diagnosis": "AD"},
    ]
    table.write_text("participant_id\tdiagnosis\nsub-1\tCN\nsub-3\tAD\n")
    assert read_cohort(tmp_path).left_out == {"sub-3": "without a DICOM series"}


def test_one_patient_in_two_folders_gets_a_warning(tmp_path: Path) -> None:
    write(tmp_path / "sub-1", 1)
    write(tmp_path / "sub-2", 1, StudyDate="20210131")
    warnings = read_cohort(tmp_path).warnings
    assert warnings[0] == ("sub-1, sub-2 have the same PatientID: possibly one subject named twice")
    (tmp_path / "sub-1").rename(tmp_path / "x1")
    (tmp_path / "sub-2").rename(tmp_path / "x2")
    assert names(tmp_path) == ["sub-P-1_ses-20200131", "sub-P-1_ses-20210131"]
    assert "treated as one subject" in read_cohort(tmp_path).warnings[0]


def test_a_folder_with_other_images_is_not_guessed_to_be_dicom(
    source: Path, tmp_path: Path
) -> None:
    write(tmp_path / "a", 1)
    assert guess_reader(tmp_path) == "dicom"
    shutil.copy(next(source.rglob("*.nii.gz")), tmp_path / "b.nii.gz")
    assert guess_reader(tmp_path) == "folder"
    with pytest.raises(BadInput, match="not a folder"):
        read_cohort(tmp_path / "b.nii.gz", "dicom")


def test_links_hidden_files_and_empty_folders(tmp_path: Path) -> None:
    root = tmp_path / "root"
    write(root / "a", 1)
    (root / "a" / "._s1-0001.dcm").write_bytes(b"Mac OS X")
    (root / "b").symlink_to(write(tmp_path / "elsewhere", 2))
    (root / "c").mkdir()
    (root / "d").symlink_to(tmp_path / "gone")
    cohort = read_cohort(root)
    assert [scan.path.name for scan in cohort] == ["a", "b"]
    assert cohort.warnings[:2] == (
        "hidden files, ignored: ._s1-0001.dcm",
        "links to files that are missing, ignored (datalad get fetches those of a datalad "
        "dataset): d",
    )
    assert cohort.left_out == {"c": "without DICOM files"}


def test_prepare_lists_series_that_it_cannot_choose_between(tmp_path: Path) -> None:
    root, out = tmp_path / "tree", tmp_path / "cohort"
    for patient in (1, 2):
        write(root / f"sub-{patient}", patient, SeriesDescription="Sag MPRAGE")
    write(root / "sub-2", 2, 2, SeriesDescription="T1 SE")
    write(root / "sub-3", 3)
    write(root / "sub-3", 4, 2)
    command = ["prepare", str(root), str(out), "--spacing", "8", "--workers", "1"]
    assert main(command) == 1
    failed = (out / "failed.tsv").read_text().splitlines()[1:]
    assert len(failed) == 2 and "Somebody" not in str(failed)
    assert "contains 2 series: 1: 'Sag MPRAGE'" in failed[0] and "2: 'T1 SE'" in failed[0]
    assert failed[1].startswith("sub-3\t") and "2 patients" in failed[1]
    assert PreparedCohort.open(out).table.participant_id.tolist() == ["sub-1"]
    assert main([*command, "--series", "mprage"]) == 1  # sub-3 still has two patients
    assert PreparedCohort.open(out).table.participant_id.tolist() == ["sub-1", "sub-2"]


def test_each_series_of_a_folder_has_its_own_hash(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", 1)
    files = load_files(folder)
    plain = source_sha256(files)
    assert plain == source_sha256(load_files(folder))
    assert len({plain, source_sha256(files, "1"), source_sha256(files, "2")}) == 3


def test_screen_saves_and_localizers_are_no_scans(tmp_path: Path) -> None:
    write(tmp_path / "sub-1" / "mprage", 1)
    local = {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}
    write(tmp_path / "sub-1" / "scout", 1, 2, **local)
    write(tmp_path / "sub-1" / "later", 1, 3, StudyDate="20210131", **local)
    write(tmp_path / "sub-2", 2, **local)
    cohort = read_cohort(tmp_path)
    assert [(scan.name, scan.series) for scan in cohort] == [
        ("sub-1_ses-20200131", f"{UID}.1.1"),
        ("sub-2_ses-20200131", f"{UID}.2.1"),  # rejected when it is read
    ]
    assert cohort.scans[0].path == tmp_path / "sub-1" / "mprage"
    reason = "with a series only that is a localizer by its tags"
    assert cohort.left_out == {"sub-1_ses-20210131": reason}
    assert "a series that is a localizer by its tags is left aside: sub-1" in cohort.warnings


def test_the_whole_name_of_a_folder_counts(tmp_path: Path) -> None:
    """ADNI's ids begin with the site: 002_S_0295."""
    write(tmp_path / "sub-002_S_0295", 1)
    write(tmp_path / "sub-002_S_0413", 2)
    assert names(tmp_path) == ["sub-002_S_0295_ses-20200131", "sub-002_S_0413_ses-20200131"]


def test_two_patients_under_one_label_are_rejected(tmp_path: Path) -> None:
    one, two = write(tmp_path / "sub-1_T1", 1), write(tmp_path / "sub-1_FLAIR", 2)
    cause = "sub-1 has 2 PatientIDs, in sub-1_FLAIR, sub-1_T1; give each patient a folder"
    with pytest.raises(BadInput, match=cause):
        read_cohort(tmp_path)
    one.rename(tmp_path / "a")
    two.rename(tmp_path / "b")
    assert names(tmp_path) == ["sub-P-1_ses-20200131", "sub-P-2_ses-20200131"]
    write(tmp_path / "c", 3, PatientID="P-1", StudyDate="20210131")
    with pytest.raises(BadInput, match="sub-P-1 has 2 PatientIDs, in a, c"):
        read_cohort(tmp_path)


def test_two_patients_in_two_sessions_of_a_folder_are_one_scan_that_fails(tmp_path: Path) -> None:
    root, out = tmp_path / "tree", tmp_path / "cohort"
    write(root / "sub-1" / "ses-1", 1)
    write(root / "sub-1" / "ses-2", 2, StudyDate="20210131")
    write(root / "sub-2", 3)
    assert main(["prepare", str(root), str(out), "--spacing", "8", "--workers", "1"]) == 1
    failed = (out / "failed.tsv").read_text().splitlines()[1:]
    assert len(failed) == 1 and failed[0].startswith("sub-1\t") and "2 patients" in failed[0]


def test_a_patient_id_that_everybody_has_is_none(tmp_path: Path) -> None:
    for number, patient in enumerate(["ANON", "ANON", "Anonymous", "0000"]):
        write(tmp_path / f"person{number}", number, PatientID=patient)
    found = read_cohort(tmp_path)
    assert [scan.subject for scan in found] == [f"person{number}" for number in range(4)]
    assert not any("same PatientID" in warning for warning in found.warnings)


def test_one_patient_id_in_two_cases_gets_a_warning(tmp_path: Path) -> None:
    write(tmp_path / "a", 1, PatientID="p7")
    write(tmp_path / "b", 2, PatientID="P7")
    cohort = read_cohort(tmp_path)
    assert "a, b have the same PatientID: possibly one subject named twice" in cohort.warnings


def test_a_chosen_series_is_never_replaced_by_the_only_one(tmp_path: Path) -> None:
    root, out = tmp_path / "tree", tmp_path / "cohort"
    write(root / "sub-1", 1, SeriesDescription="MPRAGE")
    write(root / "sub-2", 2, SeriesDescription="FLAIR")
    command = ["prepare", str(root), str(out), "--spacing", "8", "--workers", "1"]
    assert main([*command, "--series", "mprage"]) == 1
    assert PreparedCohort.open(out).table.participant_id.tolist() == ["sub-1"]
    (failed,) = (out / "failed.tsv").read_text().splitlines()[1:]
    assert failed.startswith("sub-2") and "contains no series called mprage" in failed
