"""Cohorts from BIDS and CAPS trees."""

import json
from pathlib import Path

import pytest

from tests.data.cohorts.files import touch, tsv
from uncus.data.cohorts.bids import bids_fields
from uncus.data.cohorts.readers import guess_reader, read_cohort
from uncus.data.errors import BadInput

OASIS = Path(__file__).parents[4] / "shared" / "mri" / "oasis1-slab"


def test_bids_without_sessions(tmp_path: Path) -> None:
    touch(tmp_path, "sub-01/anat/sub-01_T1w.nii.gz", "sub-01/anat/sub-01_T2w.nii.gz")
    touch(tmp_path, "sub-02/anat/sub-02_T1w.nii", "sub-02/anat/sub-02_T1w.json")
    tsv(tmp_path / "participants.tsv", "participant_id age sex", "sub-01 60 F", "sub-02 n/a M")
    cohort = read_cohort(tmp_path)
    assert guess_reader(tmp_path) == "bids"
    assert [(s.name, s.fields["age"], s.fields["sex"]) for s in cohort] == [
        ("sub-01", "60", "F"),
        ("sub-02", "", "M"),
    ]
    assert cohort.scans[1].path.name == "sub-02_T1w.nii"
    assert cohort.warnings == ()


def test_bids_with_sessions_and_their_tables(tmp_path: Path) -> None:
    for session in ("ses-M000", "ses-M012"):
        touch(tmp_path, f"sub-1/{session}/anat/sub-1_{session}_T1w.nii.gz")
    touch(tmp_path, "sub-1/ses-M024/pet/sub-1_ses-M024_pet.nii.gz")
    tsv(tmp_path / "participants.tsv", "participant_id sex diagnosis site", "sub-1 F CN A")
    tsv(
        tmp_path / "sub-1/sub-1_sessions.tsv",
        "session_id age diagnosis",
        "ses-M000 60 CN",
        "ses-M012 61 AD",
        "ses-M024 62 AD",
    )
    cohort = read_cohort(tmp_path)
    assert [s.name for s in cohort] == ["sub-1_ses-M000", "sub-1_ses-M012"]
    assert dict(cohort.scans[1].fields) == {
        "sex": "F",
        "diagnosis": "AD",
        "site": "A",
        "age": "61",
    }
    assert cohort.left_out == {"sub-1_ses-M024": "without a T1w image"}
    (warning,) = cohort.warnings
    assert "diagnosis" in warning and "1 scans" in warning


def test_bids_with_one_row_per_scan(tmp_path: Path) -> None:
    touch(tmp_path, *(f"sub-1/ses-{k}/anat/sub-1_ses-{k}_T1w.nii.gz" for k in (1, 2)))
    tsv(
        tmp_path / "participants.tsv",
        "participant_id session_id cdr filename",
        "sub-1 ses-1 0 x",
        "sub-1 ses-2 n/a y",
    )
    table = read_cohort(tmp_path).table()
    assert list(table.columns) == ["participant_id", "session_id", "cdr"]
    assert table["cdr"].tolist() == ["0", ""]


def test_the_first_of_several_images_is_used_with_a_warning(tmp_path: Path) -> None:
    touch(tmp_path, *(f"sub-1/anat/sub-1_run-{k}_T1w.nii.gz" for k in (10, 2)))
    cohort = read_cohort(tmp_path)
    assert cohort.scans[0].path.name == "sub-1_run-2_T1w.nii.gz"
    assert any("2 T1w images, using sub-1_run-2_T1w.nii.gz" in w for w in cohort.warnings)


def test_derivative_may_keep_images_outside_anat(tmp_path: Path) -> None:
    touch(tmp_path, "sub-1/ses-1/t1/sub-1_ses-1_desc-preproc_T1w.nii.gz")
    description = tmp_path / "dataset_description.json"
    description.write_text(json.dumps({"Name": "x", "DatasetType": "raw"}))
    with pytest.raises(BadInput, match="no scans"):
        read_cohort(tmp_path)
    description.write_text(json.dumps({"Name": "x", "DatasetType": "derivative"}))
    assert [s.name for s in read_cohort(tmp_path)] == ["sub-1_ses-1"]
    description.write_text("[")
    with pytest.raises(BadInput, match="no scans"):
        read_cohort(tmp_path)


def test_subjects_without_a_row_are_kept_with_a_warning(tmp_path: Path) -> None:
    touch(tmp_path, "sub-1/anat/sub-1_T1w.nii", "sub-2/anat/sub-2_T1w.nii")
    tsv(tmp_path / "participants.tsv", "participant_id age", "1 60")
    cohort = read_cohort(tmp_path)
    assert cohort.table()["age"].tolist() == ["60", ""]
    assert cohort.warnings == ("participants.tsv: no row for sub-2",)


def test_subjects_without_an_image_are_left_out_and_listed(tmp_path: Path) -> None:
    touch(tmp_path, "sub-1/anat/sub-1_T1w.nii", "sub-2/anat/sub-2_bold.nii")
    touch(tmp_path, "sub-4/ses-1/pet/sub-4_pet.nii")
    rows = [f"sub-{k} {60 + k}" for k in range(1, 51)]
    tsv(tmp_path / "participants.tsv", "participant_id age", *rows)
    cohort = read_cohort(tmp_path)
    assert [scan.name for scan in cohort] == ["sub-1"]
    assert cohort.left_out_texts() == [
        "49 without a T1w image: sub-2, sub-3, sub-4_ses-1, sub-5, sub-6 and 44 more"
    ]
    (tmp_path / "sub-1/anat/sub-1_T1w.nii").unlink()
    with pytest.raises(BadInput, match="no scans found; 50 without a T1w image: sub-1, sub-2"):
        read_cohort(tmp_path)


def test_duplicate_rows_and_differing_rows_are_rejected(tmp_path: Path) -> None:
    touch(tmp_path, "sub-1/anat/sub-1_T1w.nii")
    table = tmp_path / "participants.tsv"
    tsv(table, "participant_id diagnosis", "sub-1 AD", "sub-1 AD")
    with pytest.raises(BadInput, match="lines 2 and 3 are both sub-1: a duplicate row"):
        read_cohort(tmp_path)
    tsv(table, "participant_id diagnosis", "sub-1 AD", "sub-1 CN")
    with pytest.raises(BadInput, match="but differ: diagnosis is 'AD' and 'CN'"):
        read_cohort(tmp_path)
    tsv(table, "participant_id diagnosis", "sub-1 AD")
    tsv(tmp_path / "sub-1/sub-1_sessions.tsv", "session_id age", "ses-1 60", "1 61")
    with pytest.raises(BadInput, match="sub-1_ses-1 but differ"):
        read_cohort(tmp_path)


def test_tables_of_a_tree_are_checked(tmp_path: Path) -> None:
    touch(tmp_path, "sub-1/anat/sub-1_T1w.nii")
    table = tmp_path / "participants.tsv"
    table.write_text("participant_id,age\nsub-1,60\n")
    with pytest.raises(BadInput, match=r"a \.tsv file with commas"):
        read_cohort(tmp_path)
    tsv(table, "subject age", "sub-1 60")
    with pytest.raises(BadInput, match="no column 'participant_id'; choose one of: subject, age"):
        read_cohort(tmp_path)


def test_caps_prefers_the_crop(tmp_path: Path) -> None:
    base = "subjects/sub-1/ses-M00/t1_linear/sub-1_ses-M00_space-MNI152NLin2009cSym"
    touch(tmp_path, f"{base}_res-1x1x1_T1w.nii.gz", f"{base}_desc-Crop_res-1x1x1_T1w.nii.gz")
    touch(tmp_path, "subjects/sub-2/ses-M00/t1_linear/sub-2_ses-M00_T1w.nii.gz")
    touch(tmp_path, "subjects/sub-2/ses-M06/pet_linear/sub-2_ses-M06_pet.nii.gz")
    assert guess_reader(tmp_path) == "caps"
    cohort = read_cohort(tmp_path)
    assert [s.name for s in cohort] == ["sub-1_ses-M00", "sub-2_ses-M00"]
    assert "desc-Crop" in cohort.scans[0].path.name
    assert not any("2 T1w images" in w for w in cohort.warnings)
    tsv(tmp_path / "participants.tsv", "participant_id age", "sub-1 60", "sub-2 61")
    assert read_cohort(tmp_path).table()["age"].tolist() == ["60", "61"]


def test_fields_of_a_single_image_in_a_bids_tree(tmp_path: Path) -> None:
    rows = "participant_id\tage\tsex\nsub-1\t70\tF\nsub-2\t60\tM\n"
    (tmp_path / "participants.tsv").write_text(rows)
    for session in ("a", "b"):
        touch(tmp_path, f"sub-1/ses-{session}/anat/sub-1_ses-{session}_T1w.nii.gz")
    (tmp_path / "sub-1" / "sub-1_sessions.tsv").write_text("session_id\tage\nses-b\t72\n")
    first, second = sorted((tmp_path / "sub-1").rglob("*.nii.gz"))
    assert bids_fields(first) == {"age": "70", "sex": "F"}
    assert bids_fields(second) == {"age": "72", "sex": "F"}
    touch(tmp_path, "other/sub-9/scan.nii.gz")
    assert bids_fields(tmp_path / "other" / "sub-9" / "scan.nii.gz") == {}
    assert bids_fields(tmp_path / "scan.nii.gz") == {}


@pytest.mark.skipif(not OASIS.is_dir(), reason="../shared/mri/oasis1-slab is absent")
def test_oasis_slab() -> None:
    cohort = read_cohort(OASIS)
    table = cohort.table()
    assert (len(cohort), table["participant_id"].nunique(), cohort.warnings) == (376, 356, ())
    assert (table["session_id"] == "ses-2").sum() == 20
    assert table.loc[table["cdr"] != "", "cdr"].value_counts().to_dict() == {
        "0.0": 105,
        "0.5": 52,
        "1.0": 16,
        "2.0": 2,
    }
    assert [len(read_cohort(OASIS / "participants.tsv"))] == [376]


def test_ids_in_tables_may_differ_by_prefix_and_padding(tmp_path: Path) -> None:
    for session in ("M000", "M006"):
        touch(tmp_path, f"sub-01/ses-{session}/anat/sub-01_ses-{session}_T1w.nii.gz")
    touch(tmp_path, "sub-02/ses-M000/anat/sub-02_ses-M000_T1w.nii.gz")
    tsv(tmp_path / "participants.tsv", "participant_id sex", "1 F", "sub-2 M")
    tsv(tmp_path / "sub-01/sub-01_sessions.tsv", "session_id age", "0 70", "ses-M6 71")
    tsv(tmp_path / "sub-02/sub-02_sessions.tsv", "session_id age", "m00 60", "M0 61", "bl 62")
    cohort = read_cohort(tmp_path)
    assert [dict(scan.fields) for scan in cohort] == [
        {"sex": "F", "age": "70"},
        {"sex": "F", "age": "71"},
        {"sex": "M"},  # m00 or M0?
    ]
    assert cohort.warnings == (
        "participants.tsv: reads sub-1 as sub-01, sub-2 as sub-02",
        "sessions.tsv: reads sub-01_ses-0 as sub-01_ses-M000, sub-01_ses-M6 as sub-01_ses-M006",
        "sessions.tsv: no row for sub-02_ses-M000",
    )
    assert cohort.left_out == {}
    for scan in cohort:
        assert bids_fields(scan.path) == dict(scan.fields)


def test_ids_that_could_be_either_are_not_guessed(tmp_path: Path) -> None:
    touch(tmp_path, "sub-01/anat/sub-01_T1w.nii", "sub-001/anat/sub-001_T1w.nii")
    tsv(tmp_path / "participants.tsv", "participant_id age", "1 60", "sub-01 70")
    cohort = read_cohort(tmp_path)
    assert {scan.name: scan.fields.get("age") for scan in cohort} == {
        "sub-001": None,
        "sub-01": "70",
    }
    assert cohort.warnings == ("participants.tsv: no row for sub-001",)
    assert cohort.left_out == {"sub-1": "without a T1w image"}


def test_an_image_with_the_name_of_another_subject_is_left_out(tmp_path: Path) -> None:
    touch(tmp_path, "sub-002/ses-1/anat/sub-002_S_0295_ses-1_T1w.nii")
    touch(tmp_path, "sub-002/ses-2/anat/sub-002_S_0413_ses-2_T1w.nii")
    touch(tmp_path, "sub-03/anat/sub-3_T1w.nii", "sub-04/anat/x_T1w.nii")
    cohort = read_cohort(tmp_path)
    assert [scan.name for scan in cohort] == ["sub-03", "sub-04"]
    assert cohort.left_out_texts() == [
        "2 whose T1w image has another subject's name: sub-002_ses-1, sub-002_ses-2"
    ]


def test_missing_cells_of_a_session_do_not_replace_those_of_the_subject(tmp_path: Path) -> None:
    touch(tmp_path, "sub-1/ses-1/anat/sub-1_ses-1_T1w.nii")
    rows = ("sub-1 n/a F 70", "sub-1 ses-1 n/a 71")
    tsv(tmp_path / "participants.tsv", "participant_id session_id sex age", *rows)
    assert dict(read_cohort(tmp_path).scans[0].fields) == {"sex": "F", "age": "71"}


def test_a_subject_without_an_image_is_named_once(tmp_path: Path) -> None:
    touch(tmp_path, "sub-01/anat/sub-01_T1w.nii", "sub-02/func/x.nii")
    tsv(tmp_path / "participants.tsv", "participant_id age", "1 60", "2 61")
    assert read_cohort(tmp_path).left_out == {"sub-02": "without a T1w image"}


def test_many_sessions_with_several_images_are_one_warning(tmp_path: Path) -> None:
    touch(tmp_path, *(f"sub-{k}/anat/sub-{k}_run-{r}_T1w.nii" for k in range(50) for r in (1, 2)))
    warning = read_cohort(tmp_path).warnings[0]
    assert warning.startswith("sub-0: 2 T1w images")
    assert warning.endswith("and 45 more")


def test_ids_that_spreadsheets_changed(tmp_path: Path) -> None:
    touch(
        tmp_path, *(f"sub-{s}/ses-d0{k}/anat/sub-{s}_T1w.nii" for s in ("0012", "13") for k in "12")
    )
    tsv(tmp_path / "participants.tsv", "Participant_ID sex", "12.0 F", "13.0 M")
    rows = ("OAS12_MR_d01 60", "OAS12_MR_d02 61")
    tsv(tmp_path / "sub-0012/sub-0012_sessions.tsv", "Session_ID age", *rows)
    cohort = read_cohort(tmp_path)
    assert [scan.fields["sex"] for scan in cohort] == ["F", "F", "M", "M"]
    assert [scan.fields.get("age") for scan in cohort] == ["60", "61", None, None]
    assert any("reads sub-12.0 as sub-0012" in warning for warning in cohort.warnings)
    assert any("OAS12_MR_d02 as sub-0012_ses-d02" in warning for warning in cohort.warnings)


def test_a_decimal_is_another_id(tmp_path: Path) -> None:
    touch(tmp_path, "sub-1.0/anat/sub-1.0_T1w.nii", "sub-1/anat/sub-1_T1w.nii")
    tsv(tmp_path / "participants.tsv", "participant_id sex", "1.0 F", "1 M")
    assert {scan.subject: scan.fields["sex"] for scan in read_cohort(tmp_path)} == {
        "1.0": "F",
        "1": "M",
    }


def test_fields_of_an_image_that_git_annex_keeps_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "participants.tsv").write_text("participant_id\tage\nsub-1\t70\n")
    touch(tmp_path, ".git/annex/objects/x/MD5E-s5--a.nii.gz", "sub-1/anat/x.json")
    image = tmp_path / "sub-1" / "anat" / "sub-1_T1w.nii.gz"
    image.symlink_to("../../.git/annex/objects/x/MD5E-s5--a.nii.gz")
    assert bids_fields(image) == {"age": "70"}


def test_tables_that_git_annex_has_not_fetched_are_reported(tmp_path: Path) -> None:
    touch(tmp_path, "sub-1/anat/sub-1_T1w.nii")
    for name in ("participants.tsv", "sub-1/sub-1_sessions.tsv"):
        (tmp_path / name).symlink_to(".git/annex/objects/gone")
    warnings = read_cohort(tmp_path).warnings
    (warning,) = (one for one in warnings if "datalad get" in one)
    assert warning.endswith(": participants.tsv, sub-1_sessions.tsv")


def test_ids_that_lack_the_name_of_the_study(tmp_path: Path) -> None:
    touch(tmp_path, *(f"sub-ADNI002S{k}/anat/sub-ADNI002S{k}_T1w.nii" for k in ("0295", "0413")))
    tsv(tmp_path / "participants.tsv", "participant_id sex", "002_S_0295 M", "2S413 F")
    assert [scan.fields["sex"] for scan in read_cohort(tmp_path)] == ["M", "F"]


def test_numbers_of_groups_are_no_ids(tmp_path: Path) -> None:
    touch(tmp_path, "sub-AD1/anat/sub-AD1_T1w.nii", "sub-CN2/anat/sub-CN2_T1w.nii")
    tsv(tmp_path / "participants.tsv", "participant_id sex", "1 M", "2 F")
    assert [scan.fields.get("sex") for scan in read_cohort(tmp_path)] == [None, None]


@pytest.mark.parametrize(
    ("first", "second"), [("bl", "m12"), ("baseline", "Month12"), ("bl", "12")]
)
def test_visits_in_the_words_of_adni(tmp_path: Path, first: str, second: str) -> None:
    touch(tmp_path, *(f"sub-1/ses-{v}/anat/sub-1_ses-{v}_T1w.nii" for v in ("M000", "M012")))
    tsv(tmp_path / "sub-1/sub-1_sessions.tsv", "session_id age", f"{first} 60", f"{second} 61")
    assert [scan.fields["age"] for scan in read_cohort(tmp_path)] == ["60", "61"]
