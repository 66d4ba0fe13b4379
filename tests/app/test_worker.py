"""The worker process with real networks: who leaves, in whichever step, leaves nothing behind."""

import gzip
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from tests.app.test_uploads import File
from tests.conftest import AFFINE as SMALL
from tests.conftest import small_brain
from tests.pipeline.segmented import segment
from uncus.app.job_queue import JobQueue
from uncus.app.protocol import Reply, Request
from uncus.app.sessions import Sessions
from uncus.app.uploaded_scan import UploadedScan
from uncus.app.worker import Worker
from uncus.pipeline.predict import Prediction, Predictor
from uncus.pipeline.prediction.viewer_files import write_map

BRAIN = np.kron(small_brain(99, ill=True), np.ones((6, 6, 6), np.float32))
AFFINE = np.diag([4 / 6, 4 / 6, 4 / 6, 1.0])
AFFINE[:3, 3] = -30 - 5 / 3  # the centre of the first of six voxels in the place of one
UPLOAD = File("a.nii.gz", gzip.compress(nib.Nifti1Image(BRAIN, AFFINE).to_bytes(), 1))


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder for temporary files, of the page and of the worker."""
    folder = tmp_path_factory.mktemp("disk")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tempfile.tempdir", str(folder))
        yield folder
    assert not list(folder.iterdir())


@pytest.fixture(scope="module")
def jobs(run: Path, disk: Path) -> Iterator[JobQueue]:
    queue = JobQueue(run)
    until(lambda: bool(queue.methods))
    yield queue
    queue.close()


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 240
    while not true():
        assert time.monotonic() < end
        time.sleep(0.005)


def memory(jobs: JobQueue) -> int:
    """The worker's resident memory once it is idle (MiB)."""
    until(lambda: jobs.length() == 0 and jobs.process is not None and not jobs.waiting)
    assert jobs.process
    status = Path(f"/proc/{jobs.process.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) >> 10


SLOW = [pytest.param(step, marks=pytest.mark.slow) for step in ("Placing", "Predicting")]


@pytest.mark.parametrize("step", ["Waiting", "Reading", *SLOW, "Explaining"])
def test_a_user_who_leaves_leaves_nothing(step: str, run: Path, jobs: JobQueue, disk: Path) -> None:
    sessions = Sessions()
    scan = UploadedScan(run, [UPLOAD])
    sessions.add("visit", scan)
    scan.submit(jobs, "auto")
    job = scan.job
    assert job
    until(lambda: job.step == step or job.finished)
    sessions.end("visit", jobs)
    assert not Path(scan.folder.name).exists()
    until(lambda: job.finished)
    after = UploadedScan(run, [UPLOAD])
    after.submit(jobs, "auto")
    until(after.update)
    assert after.prediction and after.maps and not after.error
    assert list(disk.iterdir()) == [Path(after.folder.name)]
    assert {path.name for path in Path(after.folder.name).iterdir()} == {
        "scan.nii.gz",
        "shades.nii.gz",
        "map-0",
    }
    after.close(jobs)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
@pytest.mark.slow
def test_its_memory_is_released(run: Path, jobs: JobQueue) -> None:
    used = []
    for _ in range(3):
        scan = UploadedScan(run, [UPLOAD])
        scan.submit(jobs, "auto")
        job = scan.job
        assert job
        until(lambda job=job: job.step == "Explaining" or job.finished)  # type: ignore[misc]
        scan.close(jobs)
        until(lambda job=job: job.finished)  # type: ignore[misc]
        used.append(memory(jobs))
    assert max(used) - min(used) < 50


@pytest.mark.parametrize("step", ["Predicting", "Explaining", "map"])
def test_the_worker_makes_no_folder_of_a_scan(
    step: str, run: Path, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where it is not ended, but goes on."""
    del disk  # where the folder is
    replies: list[Reply] = []
    used: set[str] = set()
    scan = UploadedScan(run, [UPLOAD])

    def leave(reply: Reply) -> None:
        replies.append(reply)
        used.add(tempfile.gettempdir())
        if reply.step == step:
            scan.folder.cleanup()

    if step == "map":
        monkeypatch.setattr("uncus.app.worker.pdf", lambda _: scan.folder.cleanup() or b"%PDF")
    folder = Path(scan.folder.name)
    Worker(leave)(
        Request(
            scan.token,
            run=str(run),
            source=str(scan.source),
            method="gradient",
            folder=str(folder / "map-0"),
        )
    )
    assert replies[-1].timings and not folder.exists()
    assert str(folder) in used, "where decoders write"
    assert any(reply.error for reply in replies) and not any(reply.map for reply in replies)


def test_a_segmented_scan_has_its_volumes_and_their_files(
    run: Path, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del disk  # where the folder is
    replies: list[Reply] = []
    charts = {"volumes.svg", "volumes-dark.svg"}

    def with_answer(reply: Reply) -> None:
        replies.append(reply)
        if reply.prediction:
            there = {path.name for path in folder.parent.iterdir()}
            assert charts & there == (charts if reply.prediction["volumes"]["sex"] else set())

    worker = Worker(with_answer)
    monkeypatch.setattr(worker, "predictor", lambda _: Predictor(run, segment=segment))
    small = nib.Nifti1Image(small_brain(99, ill=True), SMALL).to_bytes()
    scan = UploadedScan(run, [File("a.nii", small)])
    folder = Path(scan.folder.name) / "map-0"
    request = Request(
        scan.token,
        run=str(run),
        source=str(scan.source),
        covariates={"age": 72.0, "sex": "F"},
        method="gradient",
        folder=str(folder),
    )
    worker(request)
    assert not [reply.error for reply in replies if reply.error]
    assert "Segmenting" in [reply.step for reply in replies]
    names = {path.name for path in folder.iterdir()}
    assert {"scan.png", "dseg.nii.gz", "dseg.tsv", "volumes.tsv", "volumes-dark.svg"} <= names
    page = (folder / "report.html").read_text()
    assert "left hippocampus" in page and "<svg" in page
    worker(Request(scan.token, forget=True))
    worker(replace(request, covariates={"age": 72.0}, folder=str(folder.parent / "map-1")))
    assert not [reply.error for reply in replies if reply.error]
    scan.close()


def test_the_map_of_the_second_class_is_the_first_with_its_sign_turned(
    run: Path, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del disk  # where the folder is
    made: list[str] = []
    explain = Predictor.explain

    def counted(predictor: Predictor, prediction: Prediction, method: str, name: str) -> Any:
        made.append(name)
        return explain(predictor, prediction, method, name)

    monkeypatch.setattr(Predictor, "explain", counted)
    replies: list[Reply] = []
    worker = Worker(replies.append)
    scan = UploadedScan(run, [UPLOAD])
    folder, maps = Path(scan.folder.name), {}
    for name in ("AD", "CN"):
        request = Request(scan.token, run=str(run), source=str(scan.source), target=name)
        worker(replace(request, method="integrated_gradients", folder=str(folder / name)))
        maps[name] = nib.load(folder / name / "map.nii.gz").get_fdata()
    assert not [reply.error for reply in replies if reply.error] and made == ["AD"]
    assert maps["AD"].any() and (maps["CN"] == -maps["AD"]).all()
    predictor = worker.predictor(str(run))
    again = explain(predictor, worker.predictions[scan.token], "integrated_gradients", "CN")
    write_map(folder / "again.nii.gz", again)
    assert np.abs(nib.load(folder / "again.nii.gz").get_fdata() - maps["CN"]).max() <= 1
    assert json.loads((folder / "CN" / "prediction.json").read_text())["saliency"]
    scan.close()
