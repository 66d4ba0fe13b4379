"""An uploaded scan: the order of its results, and which of its files are served."""

from pathlib import Path

import pytest

from tests.app.test_uploads import NII, File
from uncus.app.job_queue import Job
from uncus.app.protocol import Reply, Request
from uncus.app.uploaded_scan import UploadedScan


def test_the_prediction_comes_before_its_map(tmp_path: Path) -> None:
    done = pytest.importorskip("uncus.app.pages.batch", exc_type=ImportError).done
    scan = UploadedScan(tmp_path, [File("a.nii", NII)])
    scan.job = job = Job(Request(scan.token, folder="map-0"))
    assert not scan.update() and scan.prediction is None
    job.add(Reply(prediction={"label": "AD"}))
    assert not scan.update() and scan.job is job
    assert scan.prediction == {"label": "AD"} and not scan.maps
    assert not done(scan)  # its files are still needed
    job.add(Reply(map={"method": "grad_cam", "name": "AD"}))
    job.finished = True
    assert scan.update() and scan.job is None and done(scan)
    assert scan.maps == {
        ("grad_cam", "AD"): {"method": "grad_cam", "name": "AD", "folder": "map-0"}
    }
    scan.close()


def test_a_visit_shows_only_its_own_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    scan = UploadedScan(tmp_path, [File("a.nii", NII)])
    folder = Path(scan.folder.name)
    assert folder.stat().st_mode & 0o077 == 0
    scan.maps["grad_cam", "AD"] = {"folder": "map-0"}
    for name in ("shades.nii.gz", "map-0/map.nii.gz", "map-1/map.nii.gz"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"0")
    assert (
        scan.file("shades.nii.gz")
        and not scan.file("scan.nii.gz")
        and scan.file("map-0/map.nii.gz")
    )
    for name in ("scan.nii", "map-1/map.nii.gz", "../x", "map-0/../scan.nii", "/etc/passwd", ""):
        assert scan.file(name) is None
    scan.close()
