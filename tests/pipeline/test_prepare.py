"""``uncus prepare``: its options, its folder, and a cohort of real scans."""

import os
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from filelock import FileLock
from pydicom.dataset import Dataset

from tests.conftest import AFFINE, small_brain, write_source
from tests.dicom_files import UID, Edit, save, series
from tests.pipeline.preparation.cohorts import image, prepare
from uncus.data.imageio.volume import Volume, read_volume
from uncus.data.prepared_cohort import PreparedCohort
from uncus.data.quality_control import Reference, check_quality
from uncus.data.transforms.path import place
from uncus.pipeline.cli import main

MRI = Path(__file__).parents[3] / "shared" / "mri"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A BIDS tree of 6 small brains that a test may change."""
    return write_source(tmp_path / "source", 6)


@pytest.mark.parametrize(
    ("options", "cause"),
    [
        (("--space", "mni2"), "choose one of keep"),
        (("--spacing", "1", "2"), "one or three"),
        (("--spacing", "0"), "one or three"),
        (("--spacing", "nan"), "one or three"),
        (("--workers", "-1"), "negative"),
        (("--where", "age > 900"), "none of 6 rows"),
        (("--reader", "dicoms"), "unknown"),
    ],
)
def test_bad_options_are_a_one_line_error(
    options: tuple[str, ...],
    cause: str,
    source: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert prepare(source, tmp_path / "cohort", *options) == 2
    assert cause in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "cohort").exists()


def test_a_folder_with_other_files_is_left_alone(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "thesis"
    other.mkdir()
    (other / "chapter1.txt").write_text("It was a dark and stormy night.")
    assert prepare(source, other) == 2
    assert "contains other files" in capsys.readouterr().err
    assert prepare(source, source) == 2
    assert [path.name for path in other.iterdir()] == ["chapter1.txt"]


def test_a_second_run_at_the_same_time_is_rejected(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "cohort"
    prepare(source, out)
    with FileLock(out / ".lock"):
        assert prepare(source, out) == 2
    assert "another process is working on this" in capsys.readouterr().err
    assert prepare(source, out) == 0


@pytest.mark.skipif(not MRI.is_dir(), reason="../shared/mri is absent")
def test_real_slabs_make_a_cohort_and_a_quality_control_reference(tmp_path: Path) -> None:
    slabs = sorted((MRI / "oasis1-slab").glob("sub-*/ses-1"))[:10]
    names = [slab.parent.name for slab in slabs]
    rows = [f"{name}\t{next(s.rglob('*.nii.gz'))}" for name, s in zip(names, slabs, strict=True)]
    tree = tmp_path / "tree"
    for name, row in zip(names, rows, strict=True):
        target = tree / name / "anat" / f"{name}_T1w.nii.gz"
        target.parent.mkdir(parents=True)
        shutil.copy(row.split("\t")[1], target)
    (tree / "participants.tsv").write_text("participant_id\n" + "\n".join(names) + "\n")
    (tree / "dataset_description.json").write_text('{"Name": "slabs", "BIDSVersion": "1.9.0"}')
    options = ["--spacing", "2", "1", "2", "--workers", "1"]
    assert main(["prepare", str(tree), str(tmp_path / "cohort"), *options]) == 0
    cohort = PreparedCohort.open(tmp_path / "cohort")
    assert cohort.grid.spacing == (2, 1, 2) and cohort.grid.shape[1] == 10
    assert cohort.grid.affine[1, 3] == -30  # aligned with the slab's slices, which are not blurred
    means = [float(row[row != 0].mean(dtype=np.float64)) for row in cohort.volumes]
    np.testing.assert_allclose(means, 0, atol=1e-3)
    reference = Reference.fit(cohort.volumes[:9], cohort.contacts[:9])
    volume = read_volume(next(slabs[9].rglob("*.nii.gz")))
    assert check_quality(place(volume, cohort.grid), reference) == ()
    array = np.where(volume.array > 0, 200 - volume.array, 0).astype(np.float32)
    with pytest.raises(ValueError, match="reversed"):
        check_quality(place(Volume(array, volume.affine, volume.native), cohort.grid), reference)
    head = read_volume(MRI / "heads" / "ixi-012_T1w.nii.gz")
    warnings = check_quality(place(head, cohort.grid), reference)
    assert [w for w in warnings if "whole head and they are skull-stripped" in w]
    elsewhere = head.affine.copy()
    elsewhere[2, 3] -= 20
    with pytest.raises(ValueError, match="does not look like the training scans"):
        check_quality(place(Volume(head.array, elsewhere, head.native), cohort.grid), reference)


def test_subjects_without_a_scan_are_left_out_unless_strict(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "cohort"
    assert prepare(source, out, "--strict") == 0
    (source / "sub-04/anat/sub-04_T1w.nii.gz").unlink()
    capsys.readouterr()
    assert prepare(source, out) == 0
    assert "warning: left out: 1 without a T1w image: sub-04" in capsys.readouterr().err
    cohort = PreparedCohort.open(out)
    assert len(cohort) == 5 and cohort.manifest["left_out"] == {"sub-04": "without a T1w image"}
    assert prepare(source, out) == 0
    assert "is up to date" in capsys.readouterr().err
    with (source / "participants.tsv").open("a") as file:
        file.write("sub-77\tF\t80\tAD\n")
    assert prepare(source, out) == 0
    assert list(PreparedCohort.open(out).manifest["left_out"]) == ["sub-04", "sub-77"]
    before = (out / "manifest.json").read_bytes()
    capsys.readouterr()
    assert prepare(source, out, "--strict") == 2
    assert "2 without a T1w image: sub-04, sub-77; add" in capsys.readouterr().err
    assert (out / "manifest.json").read_bytes() == before


def test_a_table_may_name_scans_on_other_disks(source: Path, tmp_path: Path) -> None:
    table = tmp_path / "elsewhere" / "scans.csv"
    table.parent.mkdir()
    rows = [f"{k},{source}/sub-{k:02d}/anat/sub-{k:02d}_T1w.nii.gz" for k in range(3)]
    table.write_text("\n".join(["participant_id,path", *rows, "3,"]) + "\n")
    assert prepare(table, tmp_path / "cohort") == 0
    cohort = PreparedCohort.open(tmp_path / "cohort")
    assert cohort.table["participant_id"].tolist() == ["sub-0", "sub-1", "sub-2"]
    assert cohort.manifest["left_out"] == {"sub-3": "without a path"}


@pytest.mark.parametrize("kind", ["bids", "folder", "named", "dicom", "study", "table"])
def test_a_cohort_inside_its_source_is_up_to_date(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "source"
    count = 1 if kind == "study" else 2
    if kind == "bids":
        write_source(root, count)
    for number in range(count):
        brain = np.rint(small_brain(number, ill=False)).astype(np.int16)
        name = {"folder": f"scan{number}", "table": f"t{number}"}.get(kind, f"sub-{number}_T1w")
        root.mkdir(exist_ok=True)
        if kind in {"folder", "named", "table"}:
            nib.save(nib.Nifti1Image(brain, AFFINE), root / f"{name}.nii.gz")
        elif kind in {"dicom", "study"}:
            save(root / f"{number}" if kind == "dicom" else root, series(brain, AFFINE, of(number)))
    given = root
    if kind == "table":
        given = root / "scans.csv"
        given.write_text("path\nt0.nii.gz\nt1.nii.gz\n")
    out = root / ("derivatives/uncus" if kind == "bids" else "out")
    assert prepare(given, out) == 0
    first = (out / "manifest.json").read_text()
    assert prepare(given, out) == 0
    assert f"is up to date: {count} scans" in capsys.readouterr().err
    assert (out / "manifest.json").read_text() == first
    (out / "manifest.json").unlink()  # as an interrupted run leaves it
    assert prepare(given, out) == 0
    assert (out / "manifest.json").read_text() == first


def of(patient: int) -> Edit:
    def edit(data: Dataset, index: int) -> None:
        data.PatientID, data.SeriesInstanceUID = f"P{patient}", f"{UID}.{patient + 1}"

    return edit


def test_labels_of_a_table_reach_the_cohort(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (source / "participants.tsv").unlink()
    table, out = tmp_path / "labels.csv", tmp_path / "cohort"
    rows = [f"{k},{'AD' if k % 2 else 'CN'},{'n/a' if k == 2 else 60 + k}" for k in range(6)]
    table.write_text("\n".join(["participant_id,dx,age", *rows]) + "\n")
    assert prepare(source, out, "--labels", str(table), "--where", "age >= 61") == 0
    assert "warning: --where leaves out scans: 1 of 6 scans have no age: sub-02" in (
        capsys.readouterr().err
    )
    cohort = PreparedCohort.open(out)
    assert cohort.table["participant_id"].tolist() == ["sub-01", "sub-03", "sub-04", "sub-05"]
    assert cohort.table["dx"].tolist() == ["AD", "AD", "CN", "AD"]
    assert prepare(source, out, "--labels", str(tmp_path / "no.csv")) == 2
    assert "no.csv: no such file" in capsys.readouterr().err


def test_many_failures_of_one_kind_are_one_line_and_a_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_source(tmp_path / "more", 8)
    for subject in range(1, 8):
        image(tmp_path / "more", subject).write_bytes(b"no image")
    assert prepare(tmp_path / "more", tmp_path / "cohort") == 1
    lines = capsys.readouterr().err.splitlines()
    (line,) = [k for k, line in enumerate(lines) if "failed: " in line]
    assert lines[line].startswith("uncus prepare: failed: 7 of 8 scans: ")
    assert lines[line + 1] == "    " + ", ".join(f"sub-{k:02}" for k in range(1, 8))
    assert len((tmp_path / "cohort" / "failed.tsv").read_text().splitlines()) == 8


def test_names_that_are_not_utf8(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a folder, which is a field, of a scan, and of one that fails and is listed."""
    name = os.fsdecode(b"jos\xe9")
    root = tmp_path / name
    (root / name).mkdir(parents=True)
    nib.save(nib.Nifti1Image(small_brain(1, ill=False), AFFINE), root / name / "a.nii")
    (root / f"{name}.nii").write_bytes((root / name / "a.nii").read_bytes()[:5000])
    assert prepare(root, tmp_path / "out") == 1
    assert "jos\ufffd.nii" in capsys.readouterr().err
    table = PreparedCohort.open(tmp_path / "out").table
    assert table["folder"].tolist() == ["jos\ufffd"]
    assert prepare(root, tmp_path / "out") == 1
    assert "is up to date: 1 scans" in capsys.readouterr().err
