"""Preparing a cohort is exact, continues after a kill, and redoes what has changed."""

import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tests.conftest import AFFINE, write_source
from tests.pipeline.preparation.cohorts import contents, image, prepare, times
from uncus.data.imageio.volume import read_volume
from uncus.data.prepared_cohort import MANIFEST, PreparedCohort
from uncus.data.transforms.path import place
from uncus.pipeline.preparation.preparation import log_groups


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A BIDS tree of 6 small brains that a test may change."""
    return write_source(tmp_path / "source", 6)


@pytest.fixture
def out(source: Path, tmp_path: Path) -> Path:
    """The same, prepared."""
    assert prepare(source, tmp_path / "cohort") == 0
    return tmp_path / "cohort"


def test_a_cohort_is_bids_derivatives_and_an_array(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "cohort"
    assert prepare(source, out) == 0
    name = "sub-02/anat/sub-02_space-keep_desc-preproc_T1w"
    assert {f"{name}.nii.gz", f"{name}.json", "dataset_description.json"} <= set(contents(out))
    assert "failed.tsv" not in contents(out)
    description = json.loads((out / "dataset_description.json").read_text())
    assert description["DatasetType"] == "derivative"
    assert description["GeneratedBy"][0]["Name"] == "uncus"
    cohort = PreparedCohort.open(out)
    for row, subject in zip(cohort.volumes, range(6), strict=True):
        volume = read_volume(image(source, subject))
        placed = place(volume, cohort.grid)
        np.testing.assert_array_equal(row, placed.array.astype(np.float16))
        assert cohort.table.voxel_hash[subject] == volume.voxel_hash
    assert cohort.volumes.any(axis=(2, 3)).any(axis=0).all()  # the grid has no empty slice
    assert (cohort.volumes != 0).mean() > 0.4


@pytest.mark.slow
def test_several_processes_give_the_same(source: Path, tmp_path: Path) -> None:
    assert prepare(source, tmp_path / "one") == 0
    assert prepare(source, tmp_path / "two", "--workers", "2") == 0
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_a_second_run_changes_nothing(
    source: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.name != ".lock"}
    capsys.readouterr()
    assert prepare(source, out) == 0
    assert "nothing to do" in capsys.readouterr().err
    after = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.name != ".lock"}
    assert before == after


def test_only_a_changed_scan_is_placed_again(source: Path, out: Path) -> None:
    old, row = times(out), PreparedCohort.open(out).volumes[2].copy()
    brain = nib.load(image(source, 2))
    turned = np.asarray(brain.dataobj)[:, :, ::-1]
    nib.save(nib.Nifti1Image(turned, brain.affine), image(source, 2))
    assert prepare(source, out) == 0
    new = times(out)
    assert [name for name in new if new[name] != old[name]] == ["sub-02"]
    assert not np.array_equal(PreparedCohort.open(out).volumes[2], row)


def test_a_changed_table_reaches_the_cohort(source: Path, out: Path) -> None:
    old = times(out)
    table = source / "participants.tsv"
    table.write_text(table.read_text().replace("65\tAD", "66\tCN"))
    assert prepare(source, out) == 0
    assert PreparedCohort.open(out).table.loc[5, ["age", "diagnosis"]].tolist() == ["66", "CN"]
    assert times(out) == old


def test_other_options_place_every_scan_again(source: Path, out: Path, tmp_path: Path) -> None:
    old = times(out)
    assert prepare(source, out, "--spacing", "4", "8", "4") == 0
    assert PreparedCohort.open(out).grid.spacing == (4, 8, 4)
    assert not set(times(out).values()) & set(old.values())
    fresh = tmp_path / "fresh"
    prepare(source, fresh, "--spacing", "4", "8", "4")
    assert contents(out) == contents(fresh)


def test_scans_can_be_removed_and_added(source: Path, out: Path, tmp_path: Path) -> None:
    assert prepare(source, out, "--where", "diagnosis == 'CN'") == 0
    assert PreparedCohort.open(out).table.participant_id.tolist() == ["sub-00", "sub-02", "sub-04"]
    assert not list(out.glob("sub-01/anat/*"))
    assert prepare(source, out) == 0
    prepare(source, tmp_path / "fresh")
    assert contents(out) == contents(tmp_path / "fresh")


def test_a_second_run_repairs_a_damaged_cohort(source: Path, out: Path) -> None:
    whole = contents(out)
    derivative = next(out.glob("sub-03/anat/*.nii.gz"))
    derivative.write_bytes(derivative.read_bytes()[:-30])
    next(out.glob("sub-04/anat/*.json")).unlink()
    (out / "scans.tsv").write_text("")
    assert prepare(source, out) == 0
    assert contents(out) == whole


def test_failed_scans_are_listed_and_the_others_are_prepared(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "cohort"
    image(source, 1).write_bytes(gzip.compress(b"no scan at all\n" * 99))
    constant = nib.Nifti1Image(np.full((16, 16, 16), 3, np.int16), AFFINE)
    nib.save(constant, image(source, 4))
    assert prepare(source, out) == 1
    cohort = PreparedCohort.open(out)
    assert cohort.table.participant_id.tolist() == ["sub-00", "sub-02", "sub-03", "sub-05"]
    failed = (out / "failed.tsv").read_text().splitlines()
    assert failed[1].startswith("sub-01\tsub-01/anat/") and "a text file" in failed[1]
    assert failed[2].startswith("sub-04\t") and "constant" in failed[2]
    lines = capsys.readouterr().err.splitlines()
    assert sum(line.startswith("uncus prepare: failed: ") for line in lines) == 2
    assert prepare(source, out) == 1  # reported again
    assert "nothing to do" in capsys.readouterr().err
    write_source(tmp_path / "intact", 6)
    for subject in (1, 4):
        shutil.copy(image(tmp_path / "intact", subject), image(source, subject))
    assert prepare(source, out) == 0
    assert not (out / "failed.tsv").exists()
    assert len(PreparedCohort.open(out)) == 6


def test_a_scan_that_becomes_unreadable_leaves_the_cohort(source: Path, out: Path) -> None:
    image(source, 1).write_bytes(image(source, 1).read_bytes()[:-40])
    assert prepare(source, out) == 1
    assert "sub-01" not in PreparedCohort.open(out).table.participant_id.tolist()
    assert not list(out.glob("sub-01/anat/*"))


def test_a_cohort_without_a_usable_scan_is_rejected(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for subject in range(6):
        image(source, subject).write_bytes(image(source, subject).read_bytes()[:-40])
    assert prepare(source, tmp_path / "cohort") == 2
    assert "none of its 6 scans is usable" in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "cohort" / MANIFEST).exists()


def test_the_same_voxels_under_two_names_give_a_warning(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    twin = nib.load(image(source, 0)).as_reoriented([[0, -1], [2, 1], [1, 1]])
    nib.save(twin, image(source, 3))  # stored in another order, but the same image
    assert prepare(source, tmp_path / "cohort") == 0
    assert "sub-00 and sub-03 have the same voxels" in capsys.readouterr().err


def test_a_killed_run_continues_and_gives_the_same_cohort(tmp_path: Path) -> None:
    source = write_source(tmp_path / "source", 44)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert prepare(source, whole) == 0
    command = [sys.executable, "-m", "uncus", "prepare", str(source), str(broken)]
    options = ["--spacing", "4", "--workers", "1"]
    process = subprocess.Popen(
        [*command, *options],
        cwd=Path(__file__).parents[3],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 60
    while len(list(broken.glob("sub-*/anat/*.json"))) < 3:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = times(broken)
    assert 3 <= len(done) < 44
    with pytest.raises(ValueError, match="not a finished prepared cohort"):
        PreparedCohort.open(broken)
    assert prepare(source, broken) == 0
    assert contents(broken) == contents(whole)
    # Results finished before the kill are kept, except at most the one being written.
    kept = [name for name, when in times(broken).items() if done.get(name) == when]
    assert len(kept) >= len(done) - 1
    assert not list(broken.rglob(".*.tmp"))


def test_a_group_of_warnings_is_one_line_with_the_names_below(
    capsys: pytest.CaptureFixture[str],
) -> None:
    texts = [(f"sub-{k}", f"Noisy (signal {k} times the noise).") for k in range(2, 25)]
    log_groups("warning", [*texts, ("sub-2", "Cut off.")], 30)
    names = ", ".join(f"sub-{k}" for k in range(2, 22))
    assert capsys.readouterr().err.splitlines() == [
        "uncus prepare: warning: 23 of 30 scans: Noisy (signal 2 to 24 times the noise).",
        f"    {names} and 3 more",
        "uncus prepare: warning: 1 of 30 scans: Cut off.",
        "    sub-2",
    ]
    causes = [(f"sub-{k}", f"cause {chr(65 + k)}") for k in range(12)]
    log_groups("failed", causes, 30, {"sub-0": "a.nii: cause A"})
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "uncus prepare: failed: a.nii: cause A"
    assert lines[-1] == "uncus prepare: failed: and 2 more"
