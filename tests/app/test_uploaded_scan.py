"""A visitor's scan: what comes when, and who may see which of its files."""

from pathlib import Path

import pytest
from test_intake import NII, File

from uncus.app.job_queue import Job
from uncus.app.uploaded_scan import Visit


def test_the_answer_comes_before_its_map(tmp_path: Path) -> None:
    done = pytest.importorskip("uncus.app.pages.batch", exc_type=ImportError).done
    visit = Visit(tmp_path, [File("a.nii", NII)])
    visit.job = job = Job({"folder": "map-0"})
    assert not visit.collect() and visit.answer is None
    job.take({"answer": {"label": "AD"}, "nearest": [{"distance": 1.0}]})
    assert not visit.collect() and visit.job is job
    assert visit.answer == {"label": "AD"} and visit.nearest and not visit.maps
    assert not done(visit)  # its files are still needed
    job.take({"map": {"method": "grad_cam", "name": "AD"}})
    job.over = True
    assert visit.collect() and visit.job is None and done(visit)
    assert visit.maps == {
        ("grad_cam", "AD"): {"method": "grad_cam", "name": "AD", "folder": "map-0"}
    }
    visit.close()


def test_a_visit_shows_only_its_own_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    visit = Visit(tmp_path, [File("a.nii", NII)])
    folder = Path(visit.folder.name)
    assert folder.stat().st_mode & 0o077 == 0
    visit.maps["grad_cam", "AD"] = {"folder": "map-0"}
    for name in ("scan.nii.gz", "map-0/map.nii.gz", "map-1/map.nii.gz"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"0")
    assert visit.file("scan.nii.gz") and visit.file("map-0/map.nii.gz")
    for name in ("scan.nii", "map-1/map.nii.gz", "../x", "map-0/../scan.nii", "/etc/passwd", ""):
        assert visit.file(name) is None
    visit.close()
