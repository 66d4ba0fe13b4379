"""Placing scans: each raw file is read once for its hash and its voxels."""

import io
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import write_source
from tests.pipeline.preparation.cohorts import contents, image, prepare
from uncus.data.cohorts.scans import Scan
from uncus.data.imageio import volume
from uncus.data.imageio.volume import load_files, read_volume
from uncus.data.prepared_cohort import MANIFEST, PreparedCohort
from uncus.data.transforms import reading
from uncus.pipeline.cli import main
from uncus.pipeline.preparation import placement

Opened = Callable[[Path], list[int]]


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Opened:
    """How often each scan below a folder was opened since the last call."""
    counts: Counter[Path] = Counter()
    real = io.open

    def counting(file: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(file, Path):
            counts[file] += 1
        return real(file, *args, **kwargs)

    def opened(source: Path) -> list[int]:
        result = [counts[path] for path in sorted(source.rglob("*_T1w.nii.gz"))]
        counts.clear()
        return result

    monkeypatch.setattr(io, "open", counting)
    return opened


def test_a_registered_scan_is_opened_once(mni_source: Path, tmp_path: Path, opened: Opened) -> None:
    command = ["prepare", str(mni_source), str(tmp_path / "cohort"), "--space", "mni"]
    for _ in range(2):
        assert main([*command, "--spacing", "8", "--workers", "1"]) == 0
        assert opened(mni_source) == [1] * 6


def test_a_scan_is_opened_once_for_the_grid_and_once_to_be_placed(
    tmp_path: Path, opened: Opened
) -> None:
    source = write_source(tmp_path / "source", 4)
    opened(source)
    assert prepare(source, tmp_path / "cohort") == 0
    assert opened(source) == [2] * 4
    assert prepare(source, tmp_path / "cohort") == 0
    assert opened(source) == [1] * 4  # for its hash


def test_large_files_are_read_from_disk_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_source(tmp_path / "source", 4)
    assert prepare(source, tmp_path / "memory") == 0
    monkeypatch.setattr(volume, "MAX_LOADED", 100)
    assert all(file.content is None for file in load_files(image(source, 0)))
    assert prepare(source, tmp_path / "disk") == 0
    assert contents(tmp_path / "disk") == contents(tmp_path / "memory")


@pytest.mark.parametrize("limit", [1 << 20, 100])
def test_a_scan_that_changes_while_it_is_prepared_is_rejected(
    limit: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Between the two passes, or while it is read from disk."""
    source = write_source(tmp_path / "source", 4)
    monkeypatch.setattr(volume, "MAX_LOADED", limit)

    def changing(*arguments: Any) -> Any:
        result = read_volume(*arguments)
        later = image(source, 2)
        later.write_bytes(image(source, 1).read_bytes())
        return result

    monkeypatch.setattr(reading, "read_volume", changing)
    assert prepare(source, tmp_path / "cohort") == 1
    (failed,) = (tmp_path / "cohort" / "failed.tsv").read_text().splitlines()[1:]
    assert failed.startswith("sub-02") and "changed while it was being prepared" in failed


def test_a_cohort_is_unfinished_from_its_first_new_result(tmp_path: Path) -> None:
    source, root = write_source(tmp_path / "source", 4), tmp_path / "cohort"
    prepare(source, root)
    grid = PreparedCohort.open(root).grid
    image(source, 2).write_bytes(image(source, 1).read_bytes())
    for subject, is_new in ((1, False), (2, True), (2, False)):
        scan = Scan(f"{subject:02d}", "", image(source, subject), {})
        assert placement.place_scan(root, scan, "", grid, "keep")[1] == is_new
        assert (root / MANIFEST).exists() == (subject == 1)
