"""What a session leaves is gone soon after it."""

import gzip
from pathlib import Path

import pytest
from test_intake import NII, File

from uncus.app.sessions import Sessions
from uncus.app.uploaded_scan import REGISTER, Visit


class Runtime:
    """Streamlit's, as far as the sweep asks it."""

    def __init__(self) -> None:
        self.active = {"here", "gone"}
        self.closed: list[str] = []

    def is_active_session(self, session: str) -> bool:
        return session in self.active

    def close_session(self, session: str) -> None:
        self.closed.append(session)


def test_a_lost_session_is_ended_after_a_grace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    sessions, runtime = Sessions(), Runtime()
    visits = {}
    for name in ("here", "gone"):
        visits[name] = Visit(tmp_path, [File("a.nii.gz", gzip.compress(NII))])
        sessions.hold(name, visits[name])
    sessions.seen("looked")
    runtime.active.add("looked")
    assert sessions.sweep(runtime, None, 0.0) == []
    runtime.active -= {"gone", "looked"}
    assert sessions.sweep(runtime, None, 10.0, grace=60) == []
    runtime.active.add("looked")  # a reload
    assert sessions.sweep(runtime, None, 50.0, grace=60) == []
    assert sessions.sweep(runtime, None, 71.0, grace=60) == ["gone"]
    assert runtime.closed == ["gone"] and sessions.known() == ["here", "looked"]
    left = [path.name for path in tmp_path.iterdir()]
    assert left == [Path(visits["here"].folder.name).name]
    assert REGISTER.get(visits["gone"].token) is None
    sessions.end("here", None)
    assert not list(tmp_path.iterdir())
