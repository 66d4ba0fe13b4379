"""The scans of a session are removed soon after it."""

import gzip
from pathlib import Path

import pytest

from tests.app.test_job_queue import job, queue, wait
from tests.app.test_uploads import NII, File
from uncus.app.job_queue import JobQueue
from uncus.app.sessions import PATIENCE, Sessions
from uncus.app.uploaded_scan import UploadedScan

__all__ = ["queue"]  # the fixture


class Runtime:
    """The part of Streamlit's runtime that the cleanup uses."""

    def __init__(self) -> None:
        self.active = {"here", "gone"}
        self.closed: list[str] = []

    def is_active_session(self, session: str) -> bool:
        return session in self.active

    def close_session(self, session: str) -> None:
        self.closed.append(session)


def test_a_disconnected_session_is_ended_after_a_grace_period(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    sessions, runtime = Sessions(), Runtime()
    scans = {}
    for name in ("here", "gone"):
        scans[name] = UploadedScan(tmp_path, [File("a.nii.gz", gzip.compress(NII))])
        sessions.add(name, scans[name])
    sessions.register("looked")
    runtime.active.add("looked")
    assert sessions.clean_up(runtime, None, 0.0) == []
    runtime.active -= {"gone", "looked"}
    assert sessions.clean_up(runtime, None, 10.0, grace=60) == []
    runtime.active.add("looked")  # a reload
    assert sessions.clean_up(runtime, None, 50.0, grace=60) == []
    assert sessions.clean_up(runtime, None, 71.0, grace=60) == ["gone"]
    assert runtime.closed == ["gone"] and sessions.names() == ["here", "looked"]
    left = [path.name for path in tmp_path.iterdir()]
    assert left == [Path(scans["here"].folder.name).name]
    assert sessions.find(scans["gone"].token) is None
    token = scans["here"].token
    sessions.register("here", "browser")
    assert sessions.find(token, "browser") is scans["here"]
    assert sessions.find(token, "other") is None and sessions.find(token, "") is None
    runtime.active.clear()
    sessions.register("reloaded", "browser")
    sessions.register("stranger", "other")
    assert not sessions.take_over("stranger", runtime.is_active_session)
    assert not sessions.take_over("reloaded", lambda _: True), "the other tab is still open"
    (taken,) = sessions.take_over("reloaded", runtime.is_active_session)
    assert taken is scans["here"] and sessions.find(token, "browser") is taken
    assert sessions.clean_up(runtime, None, 80.0, grace=60) == []
    sessions.end("reloaded", None)
    assert not list(tmp_path.iterdir())


def test_a_closed_tab_frees_the_queue(queue: JobQueue, tmp_path: Path) -> None:
    queue.max_seconds = 120.0
    sessions, runtime = Sessions(), Runtime()
    scan = UploadedScan(tmp_path, [File("a.nii.gz", gzip.compress(NII))])
    sessions.add("gone", scan)
    scan.source = Path("100")  # the time that the worker takes (s)
    scan.submit(queue, "auto")
    of_another = job("another")
    queue.submit(of_another)
    assert sessions.clean_up(runtime, queue, 0.0) == []
    runtime.active -= {"gone"}
    assert sessions.clean_up(runtime, queue, 1.0) == []
    assert scan.job and queue.length() == 2
    sessions.clean_up(runtime, queue, 1.0 + PATIENCE)
    wait(of_another)  # not for 100 s
    assert of_another.prediction and not of_another.error
    assert not scan.job and not scan.error, "the page asks again if the visitor comes back"
    sessions.end("gone", queue)
