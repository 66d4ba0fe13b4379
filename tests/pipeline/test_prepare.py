"""``uncus prepare``: whole, exact, resumable after a kill, and never stale."""

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
from filelock import FileLock

from tests.conftest import AFFINE, small_brain, write_source
from uncus.data.imageio.volume import Volume, read_volume
from uncus.data.prepared_cohort import MANIFEST, PreparedCohort
from uncus.data.quality_control import Reference, check_quality
from uncus.data.space import place
from uncus.pipeline.cli import main
from uncus.pipeline.preparation.cohort_grid import Measure, common_grid
from uncus.pipeline.preparation.workers import in_processes

MRI = Path(__file__).parents[3] / "shared" / "mri"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A BIDS tree of 6 small brains that a test may change."""
    return write_source(tmp_path / "source", 6)


def prepare(source: Path, cohort: Path, *options: str) -> int:
    return main(["prepare", str(source), str(cohort), "--spacing", "4", "--workers", "1", *options])


def image(source: Path, subject: int) -> Path:
    return source / f"sub-{subject:02d}/anat/sub-{subject:02d}_T1w.nii.gz"


def contents(root: Path) -> dict[str, bytes]:
    """Every file that counts, with its bytes."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and not path.relative_to(root).as_posix().startswith(".")
    }


def times(root: Path) -> dict[str, int]:
    """When each derivative was written."""
    return {path.name[:6]: path.stat().st_mtime_ns for path in root.rglob("*_T1w.nii.gz")}


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


def test_several_processes_give_the_same(source: Path, tmp_path: Path) -> None:
    assert prepare(source, tmp_path / "one") == 0
    assert prepare(source, tmp_path / "two", "--workers", "2") == 0
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_a_second_run_does_nothing_and_says_so(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "cohort"
    prepare(source, out)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.name != ".lock"}
    capsys.readouterr()
    assert prepare(source, out) == 0
    assert "nothing to do" in capsys.readouterr().err
    after = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.name != ".lock"}
    assert before == after


def test_a_changed_scan_alone_is_made_again(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "cohort"
    prepare(source, out)
    old, row = times(out), PreparedCohort.open(out).volumes[2].copy()
    brain = nib.load(image(source, 2))
    turned = np.asarray(brain.dataobj)[:, :, ::-1]
    nib.save(nib.Nifti1Image(turned, brain.affine), image(source, 2))
    assert prepare(source, out) == 0
    new = times(out)
    assert [name for name in new if new[name] != old[name]] == ["sub-02"]
    assert not np.array_equal(PreparedCohort.open(out).volumes[2], row)


def test_a_changed_table_reaches_the_cohort(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "cohort"
    prepare(source, out)
    old = times(out)
    table = source / "participants.tsv"
    table.write_text(table.read_text().replace("65\tAD", "66\tCN"))
    assert prepare(source, out) == 0
    assert PreparedCohort.open(out).table.loc[5, ["age", "diagnosis"]].tolist() == ["66", "CN"]
    assert times(out) == old


def test_other_options_make_everything_again(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "cohort"
    prepare(source, out)
    old = times(out)
    assert prepare(source, out, "--spacing", "4", "8", "4") == 0
    assert PreparedCohort.open(out).grid.spacing == (4, 8, 4)
    assert not set(times(out).values()) & set(old.values())
    fresh = tmp_path / "fresh"
    prepare(source, fresh, "--spacing", "4", "8", "4")
    assert contents(out) == contents(fresh)


def test_scans_come_and_go(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "cohort"
    prepare(source, out)
    assert prepare(source, out, "--where", "diagnosis == 'CN'") == 0
    assert PreparedCohort.open(out).table.participant_id.tolist() == ["sub-00", "sub-02", "sub-04"]
    assert not list(out.glob("sub-01/anat/*"))
    assert prepare(source, out) == 0
    prepare(source, tmp_path / "fresh")
    assert contents(out) == contents(tmp_path / "fresh")


def test_a_harmed_cohort_is_mended_by_a_second_run(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "cohort"
    prepare(source, out)
    whole = contents(out)
    derivative = next(out.glob("sub-03/anat/*.nii.gz"))
    derivative.write_bytes(derivative.read_bytes()[:-30])
    next(out.glob("sub-04/anat/*.json")).unlink()
    (out / "scans.tsv").write_text("")
    assert prepare(source, out) == 0
    assert contents(out) == whole


def test_failed_scans_are_listed_and_the_rest_stand(
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
    assert failed[1].startswith("sub-01\tsub-01/anat/") and "is text" in failed[1]
    assert failed[2].startswith("sub-04\t") and "constant" in failed[2]
    lines = capsys.readouterr().err.splitlines()
    assert sum(line.startswith("uncus prepare: failed: ") for line in lines) == 2
    assert prepare(source, out) == 1  # said again, not forgotten
    assert "nothing to do" in capsys.readouterr().err
    write_source(tmp_path / "sound", 6)
    for subject in (1, 4):
        shutil.copy(image(tmp_path / "sound", subject), image(source, subject))
    assert prepare(source, out) == 0
    assert not (out / "failed.tsv").exists()
    assert len(PreparedCohort.open(out)) == 6


def test_a_scan_that_goes_bad_leaves_the_cohort(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "cohort"
    prepare(source, out)
    image(source, 1).write_bytes(image(source, 1).read_bytes()[:-40])
    assert prepare(source, out) == 1
    assert "sub-01" not in PreparedCohort.open(out).table.participant_id.tolist()
    assert not list(out.glob("sub-01/anat/*"))


def test_no_usable_scan_is_refused(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for subject in range(6):
        image(source, subject).write_bytes(image(source, subject).read_bytes()[:-40])
    assert prepare(source, tmp_path / "cohort") == 2
    assert "none of its 6 scans is usable" in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "cohort" / MANIFEST).exists()


def test_the_same_voxels_under_two_names_are_warned_of(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    twin = nib.load(image(source, 0)).as_reoriented([[0, -1], [2, 1], [1, 1]])
    nib.save(twin, image(source, 3))  # stored in another order, but the same image
    assert prepare(source, tmp_path / "cohort") == 0
    assert "sub-00 and sub-03 have the same voxels" in capsys.readouterr().err


def test_a_stray_scan_does_not_blow_up_the_grid(source: Path, tmp_path: Path) -> None:
    prepare(source, tmp_path / "usual")
    grid = PreparedCohort.open(tmp_path / "usual").grid
    affine = AFFINE.copy()
    affine[0, 3] += 400
    nib.save(nib.Nifti1Image(small_brain(5, True), affine), image(source, 5))
    assert prepare(source, tmp_path / "cohort") == 1
    assert PreparedCohort.open(tmp_path / "cohort").grid == grid
    assert "outside the field of view" in (tmp_path / "cohort" / "failed.tsv").read_text()


def test_the_grid_covers_every_usual_box() -> None:
    rng = np.random.default_rng(0)
    lows, highs = rng.normal(-70, 4, (50, 3)), rng.normal(70, 4, (50, 3))
    boxes = [Measure("", tuple(low), tuple(high)) for low, high in zip(lows, highs, strict=True)]
    grid = common_grid(boxes, np.array([2.0, 3, 1]))
    first = grid.affine[:3, 3] - np.array(grid.spacing) / 2
    last = first + np.array(grid.shape) * grid.spacing
    assert (first <= lows.min(axis=0)).all() and (last >= highs.max(axis=0)).all()
    assert (last - first - (highs.max(axis=0) - lows.min(axis=0)) < grid.spacing).all()


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
def test_bad_options_are_refused_in_one_line(
    options: tuple[str, ...],
    cause: str,
    source: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert prepare(source, tmp_path / "cohort", *options) == 2
    assert cause in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "cohort").exists()


def test_folders_of_others_are_left_alone(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "thesis"
    other.mkdir()
    (other / "chapter1.txt").write_text("It was a dark and stormy night.")
    assert prepare(source, other) == 2
    assert "holds other files" in capsys.readouterr().err
    assert prepare(source, source) == 2
    assert [path.name for path in other.iterdir()] == ["chapter1.txt"]


def test_two_at_once_are_refused(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "cohort"
    prepare(source, out)
    with FileLock(out / ".lock"):
        assert prepare(source, out) == 2
    assert "another process is working on this" in capsys.readouterr().err
    assert prepare(source, out) == 0


def test_killed_midway_and_started_again_gives_the_same(tmp_path: Path) -> None:
    source = write_source(tmp_path / "source", 4)
    rows = (source / "participants.tsv").read_text()
    for subject in range(4, 44):
        folder = image(source, subject).parent
        folder.mkdir(parents=True)
        nib.save(nib.Nifti1Image(small_brain(subject, False), AFFINE), image(source, subject))
        rows += f"sub-{subject:02d}\tF\t70\tCN\n"
    (source / "participants.tsv").write_text(rows)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert prepare(source, whole) == 0
    command = [sys.executable, "-m", "pipeline", "prepare", str(source), str(broken)]
    options = ["--spacing", "4", "--workers", "1"]
    process = subprocess.Popen(
        [*command, *options],
        cwd=Path(__file__).parents[2],
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
    # What had been finished before the kill was kept (all but, at most, the scan in hand).
    kept = [name for name, when in times(broken).items() if done.get(name) == when]
    assert len(kept) >= len(done) - 1
    assert not list(broken.rglob(".*.tmp"))


def test_a_killed_worker_is_an_error_and_no_hang() -> None:
    with pytest.raises(ValueError, match=r"a worker process was killed.*fewer --workers"):
        list(in_processes(2, os._exit, [(1,)] * 4))


@pytest.mark.skipif(not MRI.is_dir(), reason="../shared/mri is absent")
def test_real_slabs_make_a_cohort_and_a_gate(tmp_path: Path) -> None:
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
    assert cohort.grid.affine[1, 3] == -30  # on the slab's own slices, which are not blurred
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
