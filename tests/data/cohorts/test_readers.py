"""Cohorts from BIDS and CAPS trees, tables and plain folders."""

import json
from pathlib import Path

import pytest

from uncus.data.cohorts.bids import bids_fields
from uncus.data.cohorts.readers import READERS, guess_reader, read_cohort
from uncus.data.errors import BadInput

OASIS = Path(__file__).parents[4] / "shared" / "mri" / "oasis1-slab"


def touch(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"image")


def tsv(path: Path, *rows: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join("\t".join(row.split()) for row in rows) + "\n")
    return path


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
    assert len(cohort.warnings) == 2
    assert "sub-1/ses-M024: no T1w image" in cohort.warnings[0]
    assert "diagnosis" in cohort.warnings[1] and "1 scans" in cohort.warnings[1]


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


def test_rows_without_images_are_refused_all_at_once(tmp_path: Path) -> None:
    touch(tmp_path, "sub-1/anat/sub-1_T1w.nii", "sub-2/anat/sub-2_bold.nii")
    tsv(tmp_path / "participants.tsv", "participant_id age", "sub-1 6", "sub-2 7", "sub-3 8")
    with pytest.raises(BadInput, match=r"rows without a T1w image \(2\): sub-2, sub-3"):
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


@pytest.mark.parametrize("reader", ["bids", "table", "folder", "caps"])
def test_empty_images_are_all_listed(tmp_path: Path, reader: str) -> None:
    folder = "t1_linear" if reader == "caps" else "anat"
    names = [f"sub-{k}/{folder}/sub-{k}_T1w.nii.gz" for k in (1, 2, 3)]
    touch(tmp_path, *names)
    for name in names[1:]:
        (tmp_path / name).write_bytes(b"")
    source = tmp_path
    if reader == "table":
        source = tsv(tmp_path / "t.tsv", "participant_id path", *(f"{n[:5]} {n}" for n in names))
    with pytest.raises(BadInput, match=r"images of zero bytes \(2\): .*sub-2_T1w.*sub-3_T1w"):
        read_cohort(source, reader)


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


def test_table_paths_are_relative_to_it(tmp_path: Path) -> None:
    touch(tmp_path, "data/images/a.nii.gz", "data/images/b.nii.gz")
    table = tmp_path / "data" / "scans.csv"
    table.write_text(
        "Subject,Session,Path,age\n1,bl,images/a.nii.gz,60\nsub-1,ses-m12,./images/b.nii.gz,NA\n"
    )
    cohort = read_cohort(table)
    assert [s.name for s in cohort] == ["sub-1_ses-bl", "sub-1_ses-m12"]
    assert [dict(s.fields) for s in cohort] == [{"age": "60"}, {"age": ""}]
    assert cohort.scans[0].path.read_bytes() == b"image"


def test_table_without_participants_takes_them_from_the_paths(tmp_path: Path) -> None:
    touch(tmp_path, "sub-7_ses-2_T1w.nii.gz", "other.mgz")
    cohort = read_cohort(tsv(tmp_path / "t.tsv", "file", "sub-7_ses-2_T1w.nii.gz", "other.mgz"))
    assert [s.name for s in cohort] == ["sub-7_ses-2", "sub-other"]
    assert "no participant_id column" in cohort.warnings[0]


def test_table_without_a_path_column_lists_its_columns(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no column 'path'; choose one of: participant_id, age"):
        read_cohort(tsv(tmp_path / "t.tsv", "participant_id age", "1 2"))


def test_missing_images_of_a_table_are_all_listed(tmp_path: Path) -> None:
    names = [f"{k}.nii" for k in range(70)]
    touch(tmp_path, names[0])
    table = tsv(tmp_path / "t.tsv", "subject path", *(f"s{n[:-4]} {n}" for n in names))
    with pytest.raises(BadInput, match=r"missing images \(69\): 1\.nii, 2\.nii") as error:
        read_cohort(table)
    assert all(name in str(error.value) for name in names[1:])


def test_paths_outside_the_folder_of_the_table_are_rejected(tmp_path: Path) -> None:
    touch(tmp_path, "a.nii", "in/b.nii")
    (tmp_path / "in" / "link.nii").symlink_to(tmp_path / "a.nii")
    for path in ("../a.nii", str(tmp_path / "a.nii"), "link.nii", "x/../../a.nii"):
        table = tsv(tmp_path / "in" / "t.tsv", "subject path", "1 b.nii", f"2 {path}")
        with pytest.raises(BadInput, match=r"paths outside .* \(1\): line 3"):
            read_cohort(table)
    inside = tsv(tmp_path / "in" / "t.tsv", "subject path", f"1 {tmp_path / 'in' / 'b.nii'}")
    assert len(read_cohort(inside)) == 1


def test_links_to_images_outside_are_rejected(tmp_path: Path) -> None:
    touch(tmp_path, "a.nii", "bids/sub-1/anat/x.json")
    (tmp_path / "bids/sub-1/anat/sub-1_T1w.nii").symlink_to(tmp_path / "a.nii")
    with pytest.raises(BadInput, match=r"images outside the cohort's folder \(1\)"):
        read_cohort(tmp_path / "bids")


@pytest.mark.parametrize(
    ("rows", "cause"),
    [
        (("1 a.nii AD", "1 a.nii AD"), "lines 2 and 3 are both sub-1: a duplicate row"),
        (("1 a.nii AD", "1 a.nii CN"), "but differ: cdr is 'AD' and 'CN'"),
        (("1 a.nii AD", "1 b.nii AD"), "but differ: path is 'a.nii' and 'b.nii'"),
        (("1 a.nii AD", "2 a.nii AD"), "a.nii is listed for both sub-1 and sub-2"),
        (("n/a a.nii AD",), "line 2 has no subject"),
        (("1 n/a AD",), "line 2 has no path"),
        (("../1 a.nii AD",), "is not a valid participant label"),
    ],
)
def test_invalid_rows_are_rejected(tmp_path: Path, rows: tuple[str, ...], cause: str) -> None:
    touch(tmp_path, "a.nii", "b.nii")
    with pytest.raises(BadInput, match=cause):
        read_cohort(tsv(tmp_path / "t.tsv", "subject path cdr", *rows))


def test_plain_folder(tmp_path: Path) -> None:
    touch(tmp_path, "AD/sub-1_ses-2.nii.gz", "CN/my scan (3).nii", "CN/.hidden.nii", "notes.txt")
    cohort = read_cohort(tmp_path)
    assert guess_reader(tmp_path) == "folder"
    assert [(s.name, s.fields["folder"]) for s in cohort] == [
        ("sub-1_ses-2", "AD"),
        ("sub-my-scan-3", "CN"),
    ]
    assert "each treated as a separate subject: my scan (3).nii" in cohort.warnings[1]


def test_plain_folder_ignores_segmentations(tmp_path: Path) -> None:
    touch(tmp_path, "p1_T1w.nii.gz", "p1_aseg.nii.gz")
    cohort = read_cohort(tmp_path)
    assert [s.path.name for s in cohort] == ["p1_T1w.nii.gz"]
    assert any("ignored: p1_aseg.nii.gz" in w for w in cohort.warnings)


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


def test_sources_that_are_not_cohorts_are_rejected(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no such file"):
        read_cohort(tmp_path / "no")
    with pytest.raises(BadInput, match="unknown; choose one of: auto, bids"):
        read_cohort(tmp_path, "xnat")
    touch(tmp_path, "a.nii.gz")
    with pytest.raises(BadInput, match="an image, not a cohort"):
        read_cohort(tmp_path / "a.nii.gz")
    for reader in READERS:
        empty = tmp_path / "empty"
        empty.mkdir(exist_ok=True)
        with pytest.raises(BadInput):
            read_cohort(empty, reader)


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
