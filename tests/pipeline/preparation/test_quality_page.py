"""The quality control page: failures and warnings come first, and it is never out of date."""

import gzip
import io
import re
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from matplotlib.image import imread

from uncus.data.bids_derivatives import Entry, read_voxels
from uncus.data.mni.template import NAME
from uncus.data.prepared_cohort import PreparedCohort
from uncus.pipeline.cli import main
from uncus.pipeline.preparation import quality_page


def prepare(source: Path, cohort: Path, *options: str) -> int:
    command = ["prepare", str(source), str(cohort), "--space", "mni", "--spacing", "8"]
    return main([*command, "--workers", "1", *options])


def scan(source: Path, number: int) -> Path:
    return source / f"sub-P000{number}" / "anat" / f"sub-P000{number}_T1w.nii.gz"


@pytest.fixture
def source(mni_source: Path, tmp_path: Path) -> Path:
    """Four phantoms: 2 has trailing bytes, 3 is a slab, 4 is truncated."""
    out = tmp_path / "source"
    for number in (1, 2, 3, 4):
        scan(out, number).parent.mkdir(parents=True)
        shutil.copy(scan(mni_source, number), scan(out, number))
    plain = nib.load(scan(out, 2))
    nib.save(plain, tmp_path / "plain.nii")
    content = (tmp_path / "plain.nii").read_bytes() + bytes(40)
    scan(out, 2).write_bytes(gzip.compress(content))
    slab = nib.load(scan(out, 3)).slicer[:, 20:25]
    nib.save(slab, scan(out, 3))
    scan(out, 4).write_bytes(scan(out, 4).read_bytes()[:-50])
    return out


def test_failures_and_warnings_come_first_and_the_other_scans_are_prepared(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "cohort"
    assert prepare(source, out) == 1
    cohort = PreparedCohort.open(out)
    assert cohort.table.participant_id.tolist() == ["sub-P0001", "sub-P0002"]
    files = [path.name for path in out.rglob("*_T1w.nii.gz")]
    assert sorted(files)[0] == f"sub-P0001_space-{NAME}_desc-preproc_T1w.nii.gz"
    page = (out / quality_page.PAGE).read_text()
    order = [page.index(name) for name in ("sub-P0003", "sub-P0004", "sub-P0002", "sub-P0001")]
    assert order == sorted(order)
    assert (
        "3 of 4 scans failed or have warnings" in page
        and "slab of 20 mm" in page
        and "40 bytes follow" in page
    )
    assert "<h2>Warnings</h2>" in page and "1 of 2 scans: 40 bytes follow" in page
    # Two montages, and the slab; the truncated scan could not be read.
    assert len(re.findall(r'src="data:image/png;base64,\w', page)) == 3
    assert [path.name for path in (out / "refused").iterdir()] == ["sub-P0003.png"]
    assert f"check the registrations: {out / quality_page.PAGE}" in capsys.readouterr().err


def test_the_page_is_rewritten_only_if_it_is_missing_damaged_or_out_of_date(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "cohort"
    prepare(source, out)
    page = out / quality_page.PAGE
    whole, when = page.read_bytes(), page.stat().st_mtime_ns
    assert prepare(source, out) == 1
    assert page.stat().st_mtime_ns == when
    page.unlink()
    assert prepare(source, out) == 1
    assert page.read_bytes() == whole
    # No scan is prepared again, but a failed one is gone: the page must not list it any longer.
    shutil.rmtree(source / "sub-P0003")
    assert prepare(source, out) == 1
    whole = page.read_bytes()
    assert not (out / "refused").exists()
    assert b"sub-P0003" not in whole and b"2 of 3 scans failed or have warnings" in whole
    capsys.readouterr()
    for harm in (page.unlink, lambda: page.write_text("cut")):
        harm()
        assert prepare(source, out) == 1
        assert "nothing to do" in capsys.readouterr().err and page.read_bytes() == whole


def test_the_page_lists_the_reasons_if_all_scans_fail(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "cohort"
    for number in (1, 2):
        shutil.rmtree(source / f"sub-P000{number}")
    assert prepare(source, out) == 2
    page = (out / quality_page.PAGE).read_text()
    assert "Failed: 2" in page and "slab of 20 mm" in page and page.count("<img") == 1


def test_names_and_reasons_are_escaped(mni_cohort: Path, tmp_path: Path) -> None:
    cohort = PreparedCohort.open(mni_cohort)
    failed = [("sub-<script>", "has <b>markup</b> in it")]
    quality_page.write_page(tmp_path, cohort.grid, [], failed)
    page = (tmp_path / quality_page.PAGE).read_text()
    assert "<script>" not in page and "&lt;b&gt;markup" in page


def test_contours_follow_the_brains_outline(mni_cohort: Path) -> None:
    """The mean scan's outline is the template's, and the cyan contour is drawn."""
    cohort = PreparedCohort.open(mni_cohort)
    brain, _ = quality_page._template_on(
        cohort.grid.shape, tuple(cohort.grid.affine.ravel().tolist())
    )
    scans = (np.asarray(cohort.volumes) != 0).mean(axis=0) > 0.5
    inside = brain > 0.5
    assert 2 * (scans & inside).sum() / (scans.sum() + inside.sum()) > 0.93
    entry = Entry.from_dict(cohort.manifest["scans"][0])
    png = quality_page.montage(read_voxels(mni_cohort, entry, cohort.grid), cohort.grid)
    pixels = imread(io.BytesIO(png))[..., :3]
    cyan = (pixels[..., 0] < 0.3) & (pixels[..., 1:] > 0.7).all(axis=-1)
    assert pixels.shape == (525, 525, 3) and 0.005 < cyan.mean() < 0.1
