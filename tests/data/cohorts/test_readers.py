"""Cohorts from tables and plain folders, and the choice of a reader."""

from pathlib import Path

import pytest

from tests.data.cohorts.files import touch, tsv
from tests.dicom_files import save, series
from uncus.data.cohorts.readers import READERS, guess_reader, read_cohort
from uncus.data.errors import BadInput


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


def test_columns_of_a_table_may_have_spaces(tmp_path: Path) -> None:
    touch(tmp_path, "a.nii.gz", "b.nii.gz")
    table = tmp_path / "scans.csv"
    table.write_text(
        "Subject ID;Session-ID;File Path\n002_S_0295;bl;a.nii.gz\n002_S_0413;bl;b.nii.gz"
    )
    assert [scan.name for scan in read_cohort(table)] == [
        "sub-002_S_0295_ses-bl",
        "sub-002_S_0413_ses-bl",
    ]


def test_table_without_participants_takes_them_from_the_paths(tmp_path: Path) -> None:
    touch(tmp_path, "sub-7_ses-2_T1w.nii.gz", "other.mgz")
    cohort = read_cohort(tsv(tmp_path / "t.tsv", "file", "sub-7_ses-2_T1w.nii.gz", "other.mgz"))
    assert [s.name for s in cohort] == ["sub-7_ses-2", "sub-other"]
    assert "no participant_id column" in cohort.warnings[0]


def test_table_without_a_path_column_lists_its_columns(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no column 'path'; choose one of: participant_id, age"):
        read_cohort(tsv(tmp_path / "t.tsv", "participant_id age", "1 2"))


def test_missing_images_of_a_table_are_counted(tmp_path: Path) -> None:
    names = [f"{k}.nii" for k in range(70)]
    touch(tmp_path, names[0])
    table = tsv(tmp_path / "t.tsv", "subject path", *(f"s{n[:-4]} {n}" for n in names))
    cause = r"missing images \(69\): 1\.nii, 2\.nii, 3\.nii, 4\.nii, 5\.nii and 64 more;"
    with pytest.raises(BadInput, match=cause):
        read_cohort(table)


def test_paths_outside_the_folder_of_the_table_are_rejected(tmp_path: Path) -> None:
    touch(tmp_path, "a.nii", "in/b.nii")
    for path in ("../a.nii", "x/../../a.nii"):
        table = tsv(tmp_path / "in" / "t.tsv", "subject path", "1 b.nii", f"2 {path}")
        with pytest.raises(BadInput, match=r"relative paths that leave .* \(1\): line 3"):
            read_cohort(table)


def test_absolute_paths_may_lead_anywhere(tmp_path: Path) -> None:
    touch(tmp_path, "a.nii", "in/b.nii")
    rows = (f"1 {tmp_path / 'a.nii'}", f"2 {tmp_path / 'in/b.nii'}", "3 b.nii")
    table = tsv(tmp_path / "in" / "t.tsv", "subject path", *rows[:2])
    assert [scan.path for scan in read_cohort(table)] == [tmp_path / "a.nii", tmp_path / "in/b.nii"]
    with pytest.raises(BadInput, match=r"b\.nii is listed for both sub-2 and sub-3"):
        read_cohort(tsv(tmp_path / "in" / "t.tsv", "subject path", *rows))


def test_rows_without_a_path_are_left_out_and_listed(tmp_path: Path) -> None:
    touch(tmp_path, "a.nii", "sub-3_T1w.nii")
    table = tsv(tmp_path / "t.tsv", "subject ses path", "1 1 a.nii", "sub-2 n/a n/a", "n/a n/a n/a")
    reason = "without a path"
    assert read_cohort(table).left_out == {"sub-2": reason, "line 4": reason}
    table = tsv(tmp_path / "t.tsv", "image dx", "sub-3_T1w.nii AD", "n/a CN")
    assert read_cohort(table).left_out == {"line 3": "without a path"}


@pytest.mark.parametrize(
    ("rows", "cause"),
    [
        (("1 a.nii AD", "1 a.nii AD"), "lines 2 and 3 are both sub-1: a duplicate row"),
        (("1 a.nii AD", "1 a.nii CN"), "but differ: cdr is 'AD' and 'CN'"),
        (("1 a.nii AD", "1 b.nii AD"), "but differ: path is 'a.nii' and 'b.nii'"),
        (("1 a.nii AD", "2 a.nii AD"), "a.nii is listed for both sub-1 and sub-2"),
        (("n/a a.nii AD",), "line 2 has no subject"),
        (("1 n/a AD",), "no scans found; 1 without a path: sub-1"),
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
    assert "hidden files, ignored: .hidden.nii" in cohort.warnings
    assert "each treated as a separate subject: my scan (3).nii" in cohort.warnings[-1]


def tree(root: Path, reader: str, *images: str) -> None:
    """A source of the reader with a T1w image for each subject."""
    folder = {"caps": "subjects/{0}/ses-1/t1_linear", "bids": "{0}/anat"}.get(reader, "{0}")
    for subject in images:
        touch(root, f"{folder.format(subject)}/{subject}_T1w.nii.gz")


@pytest.mark.parametrize("reader", ["bids", "caps", "folder"])
def test_hidden_files_and_broken_links_are_reported_alike(reader: str, tmp_path: Path) -> None:
    root = tmp_path / "in"
    tree(root, reader, "sub-1", "sub-2")
    image = next(root.rglob("sub-1_T1w.nii.gz"))
    touch(image.parent, "._sub-1_T1w.nii.gz", ".DS_Store", "@eaDir/sub-1_T1w.nii.gz@SynoResource")
    touch(image.parent, "@eaDir/sub-9_T1w.nii.gz")
    touch(root, ".git/annex/objects/x/y/sub-1_T1w.nii.gz")
    other = next(root.rglob("sub-2_T1w.nii.gz"))
    other.unlink()
    other.symlink_to("../.git/annex/objects/not/here.nii.gz")
    cohort = read_cohort(root, reader)
    assert [scan.path for scan in cohort] == [image]
    assert "hidden files, ignored: ._sub-1_T1w.nii.gz" in cohort.warnings
    (broken,) = [w for w in cohort.warnings if "sub-2_T1w.nii.gz" in w]
    assert broken.startswith("links to files that are missing, ignored (datalad get fetches")


@pytest.mark.parametrize("reader", ["bids", "caps", "folder", "table"])
def test_a_folder_of_links_is_a_folder_of_files(reader: str, tmp_path: Path) -> None:
    """As in git-annex's datasets, and as people collect scans of several disks."""
    tree(tmp_path / "store", reader, "sub-1", "sub-2")
    for file in [p for p in (tmp_path / "store").rglob("*") if p.is_file()]:
        link = tmp_path / "in" / file.relative_to(tmp_path / "store")
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(file)
    (tmp_path / "linked").symlink_to(tmp_path / "store")
    for source in (tmp_path / "in", tmp_path / "linked"):
        if reader == "table":
            source = tsv(source / "t.csv", *(f"{k},sub-{k}/sub-{k}_T1w.nii.gz" for k in (1, 2)))
            source.write_text("subject,path\n" + source.read_text())
        assert [scan.name.split("_")[0] for scan in read_cohort(source, reader)] == [
            "sub-1",
            "sub-2",
        ]


@pytest.mark.parametrize("reader", ["bids", "caps", "freesurfer"])
def test_a_subject_that_is_a_broken_link_is_reported(reader: str, tmp_path: Path) -> None:
    if reader == "freesurfer":
        touch(tmp_path, "sub-1/mri/T1.mgz")
    else:
        tree(tmp_path, reader, "sub-1")
    folder = next(tmp_path.rglob("sub-1"))
    (folder.parent / "sub-2").symlink_to("gone")
    cohort = read_cohort(tmp_path, reader)
    assert len(cohort) == 1 and any(line.endswith(": sub-2") for line in cohort.warnings)


def test_a_prepared_cohort_is_not_prepared_again(cohort: Path) -> None:
    for reader in ("auto", "bids", "folder"):
        with pytest.raises(BadInput, match="a prepared cohort, not scans; give what it was"):
            read_cohort(cohort, reader)


def test_paths_with_backslashes(tmp_path: Path) -> None:
    touch(tmp_path, "a/sub-1_T1w.nii", "b\\c.nii")
    rows = ("subject path", "1 a\\sub-1_T1w.nii", "2 b\\c.nii")
    cohort = read_cohort(tsv(tmp_path / "t.csv", *rows))
    assert [scan.path for scan in cohort] == [tmp_path / "a/sub-1_T1w.nii", tmp_path / "b\\c.nii"]
    windows = tsv(tmp_path / "t.csv", "path", "C:\\data\\sub-1_T1w.nii")
    with pytest.raises(BadInput, match=r"missing images \(1\): C:/data/sub-1_T1w.nii"):
        read_cohort(windows)
    with pytest.raises(BadInput, match="relative paths that leave"):
        read_cohort(tsv(tmp_path / "t.csv", "path", "..\\x.nii"))


def test_a_table_may_name_folders_of_dicom(tmp_path: Path) -> None:
    save(tmp_path / "scans" / "one", series())
    touch(tmp_path, "scans/two/notes.txt")
    table = tsv(tmp_path / "t.tsv", "subject path", "1 scans/one")
    assert [scan.path for scan in read_cohort(table)] == [tmp_path / "scans" / "one"]
    table = tsv(tmp_path / "t.tsv", "subject path", "1 scans/one", "2 scans/two")
    with pytest.raises(BadInput, match=r"folders without DICOM files \(1\): two"):
        read_cohort(table)


def test_dicom_files_in_a_folder_of_images_are_reported(tmp_path: Path) -> None:
    save(tmp_path / "study", series())
    touch(tmp_path, "a.nii")
    cohort = read_cohort(tmp_path)
    assert [scan.path.name for scan in cohort] == ["a.nii"]
    (line,) = [w for w in cohort.warnings if "im0001.dcm" in w]
    assert line.startswith("DICOM files, ignored (--reader dicom reads them): ")


def test_plain_folder_ignores_segmentations(tmp_path: Path) -> None:
    touch(tmp_path, "p1_T1w.nii.gz", "p1_aseg.nii.gz")
    cohort = read_cohort(tmp_path)
    assert [s.path.name for s in cohort] == ["p1_T1w.nii.gz"]
    assert any("ignored: p1_aseg.nii.gz" in w for w in cohort.warnings)


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


def test_the_whole_name_of_a_subject_counts(tmp_path: Path) -> None:
    """ADNI's ids begin with the site: 002_S_0295."""
    touch(tmp_path, "sub-002_S_0295_ses-1_T1w.nii.gz", "sub-002_S_0413_ses-2_T1w.nii.gz")
    touch(tmp_path, "x/sub-003_S_0907_T1w.nii.gz")
    expected = ["sub-002_S_0295_ses-1", "sub-002_S_0413_ses-2", "sub-003_S_0907"]
    cohort = read_cohort(tmp_path)
    assert [scan.name for scan in cohort] == expected
    assert any("each whole name is one subject" in warning for warning in cohort.warnings)
    rows = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.nii.gz"))
    table = tsv(tmp_path / "t.tsv", "path", *rows)
    assert [scan.name for scan in read_cohort(table)] == expected


def test_a_path_that_names_two_subjects_is_rejected(tmp_path: Path) -> None:
    touch(tmp_path, "sub-002_S_0295/sub-002_ses-1_T1w.nii.gz")
    with pytest.raises(BadInput, match="names 2 subjects: 002_S_0295, 002;"):
        read_cohort(tmp_path, "folder")
    with pytest.raises(BadInput, match="names 2 subjects"):
        read_cohort(tsv(tmp_path / "t.tsv", "path", "sub-002_S_0295/sub-002_ses-1_T1w.nii.gz"))


def test_images_computed_from_others_are_no_subjects(tmp_path: Path) -> None:
    touch(
        tmp_path, "m1.nii", "2.nii", "mri/mwp1m1.nii", "mri/p0m1.nii", "mri/wm2.nii", "mri/y_2.nii"
    )
    touch(
        tmp_path, "2_brain.nii.gz", "2_brain_mask.nii.gz", "2_brain_pve_0.nii.gz", "m1_visit2.nii"
    )
    cohort = read_cohort(tmp_path)
    assert [scan.subject for scan in cohort] == ["2", "m1", "m1_visit2"]
    assert any(w.startswith("computed from another image by their names") for w in cohort.warnings)


def test_images_of_one_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    touch(tmp_path, "1000012/T1.nii.gz", "1000024/T1.nii.gz")
    assert [scan.subject for scan in read_cohort(tmp_path)] == ["1000012", "1000024"]
    touch(tmp_path, "1000012/later/T1.nii.gz")
    with pytest.raises(BadInput, match=r"two images: 1000012/T1.nii.gz, 1000012/later/T1.nii.gz"):
        read_cohort(tmp_path)


@pytest.mark.parametrize("scan", ["sub-1/anat/sub-1_T1w.nii", "sub-1/mri/T1.mgz", "sub-1_T1w.nii"])
def test_a_cohort_that_is_named_like_a_subject_is_none(tmp_path: Path, scan: str) -> None:
    touch(tmp_path, scan, "sub-out/volumes.npy", "sub-out/sub-1/anat/sub-1_desc-preproc_T1w.nii.gz")
    cohort = read_cohort(tmp_path)
    assert [one.subject for one in cohort] == ["1"] and not cohort.left_out
    assert "results of uncus, ignored: sub-out" in cohort.warnings
