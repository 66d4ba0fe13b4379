"""The line before the networks: order, limits, crashes, time."""

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from uncus.app import job_queue as module
from uncus.app.job_queue import Busy, Desk, Job

WORKER = """
import json, os, signal, sys, time
print(json.dumps({"methods": {"m": "summary"}}), flush=True)
forgotten = []
for line in sys.stdin:
    request = json.loads(line)
    if request["do"] == "forget":
        forgotten.append(request["token"])
        continue
    if request["token"] == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    time.sleep(request.get("seconds", 0))
    print(json.dumps({"step": "Reading"}), flush=True)
    print(json.dumps({"answer": {"of": request["token"], "forgotten": forgotten}}), flush=True)
    print(json.dumps({"over": True}), flush=True)
"""


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Desk]:
    """A desk whose worker only echoes."""
    popen = module.subprocess.Popen
    (tmp_path / "worker.py").write_text(WORKER)

    def start(arguments: list[str], **options: Any) -> Any:
        return popen([sys.executable, str(tmp_path / "worker.py")], **options)

    monkeypatch.setattr(module.subprocess, "Popen", start)
    made = Desk(tmp_path, line=3, seconds=3.0)
    yield made
    made.close()


def job(token: str, seconds: float = 0.0) -> Job:
    return Job({"do": "answer", "token": token, "seconds": seconds})


def wait(*jobs: Job) -> None:
    end = time.monotonic() + 60
    while not all(one.over for one in jobs):
        assert time.monotonic() < end
        time.sleep(0.02)


def test_everybody_gets_their_own_answer_in_turn(desk: Desk) -> None:
    jobs = [job("a", 0.3), job("b"), job("c")]
    for one in jobs:
        desk.submit(one)
    assert desk.ahead(jobs[2]) >= 1
    wait(*jobs)
    assert [one.replies["answer"]["of"] for one in jobs] == ["a", "b", "c"]
    assert desk.methods == {"m": "summary"} and desk.length() == 0 and jobs[0].seconds >= 0.3


def test_the_line_is_limited_and_may_be_left(desk: Desk) -> None:
    jobs = [job("slow", 1.0)]
    desk.submit(jobs[0])
    while desk.working is None:
        time.sleep(0.01)
    for name in "abc":
        jobs.append(job(name))
        desk.submit(jobs[-1])
    with pytest.raises(Busy, match="3 scans are waiting"):
        desk.submit(job("d"))
    desk.leave("b")
    assert jobs[2].over and jobs[2].refused
    last = job("e")
    desk.submit(last)
    wait(*jobs, last)
    assert "answer" not in jobs[2].replies
    assert last.replies["answer"] == {"of": "e", "forgotten": ["b"]}


def test_a_crash_costs_one_job(desk: Desk) -> None:
    crash, after = job("crash"), job("after")
    desk.submit(crash)
    desk.submit(after)
    wait(crash, after)
    assert "crash (signal 11)" in crash.refused
    assert after.replies["answer"]["of"] == "after" and not after.refused


def test_a_hang_costs_one_job(desk: Desk) -> None:
    hang, after = job("hang", 60.0), job("after")
    desk.submit(hang)
    desk.submit(after)
    wait(hang, after)
    assert "more than 3 s" in hang.refused and not after.refused


def test_networks_that_cannot_be_loaded_are_told_at_once(tmp_path: Path) -> None:
    broken = Desk(tmp_path)
    end = time.monotonic() + 120
    while not broken.fault:
        assert time.monotonic() < end
        time.sleep(0.1)
    assert "SHA256SUMS" in broken.fault
    assert json.dumps(broken.methods) == "{}"
    broken.close()
