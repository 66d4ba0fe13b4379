"""The job queue: order, limits, crashes, time."""

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from uncus.app import job_queue as module
from uncus.app.job_queue import Job, JobQueue, QueueFullError
from uncus.app.protocol import Request

WORKER = """
import json, os, signal, subprocess, sys, time
print(json.dumps({"methods": {"m": "summary"}}), flush=True)
dropped = []
for line in sys.stdin:
    request = json.loads(line)
    if request["forget"]:
        dropped.append(request["token"])
        continue
    if request["token"] == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if request["token"] == "garbage":
        print("a library prints this", flush=True)
        continue
    if request["token"] == "decoder":
        decoder = subprocess.Popen(["sleep", "60"])
        print(json.dumps({"step": str(decoder.pid)}), flush=True)
    time.sleep(float(request["source"] or 0))
    print(json.dumps({"step": "Reading"}), flush=True)
    prediction = {"of": request["token"], "dropped": dropped}
    print(json.dumps({"prediction": prediction}), flush=True)
    print(json.dumps({"timings": {}}), flush=True)
"""


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[JobQueue]:
    """A queue whose worker only echoes."""
    popen = module.subprocess.Popen
    (tmp_path / "worker.py").write_text(WORKER)

    def start(arguments: list[str], **options: Any) -> Any:
        return popen([sys.executable, str(tmp_path / "worker.py")], **options)

    monkeypatch.setattr(module.subprocess, "Popen", start)
    queue = JobQueue(tmp_path, max_waiting=3, max_seconds=3.0)
    yield queue
    queue.close()


def job(token: str, seconds: float = 0.0) -> Job:
    return Job(Request(token, source=str(seconds)))


def of(job: Job) -> str:
    assert job.prediction is not None
    return str(job.prediction["of"])


def running(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait(*jobs: Job) -> None:
    end = time.monotonic() + 60
    while not all(one.finished for one in jobs):
        assert time.monotonic() < end
        time.sleep(0.02)


def test_each_job_gets_its_own_prediction_in_turn(queue: JobQueue) -> None:
    jobs = [job("a", 0.3), job("b"), job("c")]
    for one in jobs:
        queue.submit(one)
    assert queue.ahead(jobs[2]) >= 1
    wait(*jobs)
    assert [of(one) for one in jobs] == ["a", "b", "c"]
    assert queue.methods == {"m": "summary"} and queue.length() == 0 and jobs[0].seconds >= 0.3


def test_the_queue_is_limited_and_jobs_can_be_canceled(queue: JobQueue) -> None:
    jobs = [job("slow", 1.0)]
    queue.submit(jobs[0])
    while queue.current is None:
        time.sleep(0.01)
    for name in "abc":
        jobs.append(job(name))
        queue.submit(jobs[-1])
    with pytest.raises(QueueFullError, match="3 scans are waiting"):
        queue.submit(job("d"))
    queue.drop("b")
    assert jobs[2].finished and jobs[2].error
    last = job("e")
    queue.submit(last)
    wait(*jobs, last)
    assert jobs[2].prediction is None
    assert last.prediction == {"of": "e", "dropped": ["b"]}


def test_dropping_the_job_in_work_ends_it_with_its_decoder(queue: JobQueue) -> None:
    decoding, after = job("decoder", 60.0), job("after")
    queue.max_seconds = 50.0
    queue.submit(decoding)
    while not decoding.sent:
        time.sleep(0.01)
    assert queue.process
    process = queue.process
    while not decoding.step.isdecimal():  # the decoder's process
        time.sleep(0.01)
    queue.submit(after)
    queue.drop("decoder")
    assert process.poll() is not None
    end = time.monotonic() + 20
    while running(int(decoding.step)):
        assert time.monotonic() < end
    wait(decoding, after)
    assert decoding.error == module.CANCELED and decoding.prediction is None
    assert of(after) == "after"
    while queue.process in {None, process}:
        time.sleep(0.01)


@pytest.mark.parametrize(("token", "cause"), [("crash", "(signal 11)"), ("garbage", "(signal 9)")])
def test_a_crash_or_a_malformed_reply_costs_one_job(
    queue: JobQueue, token: str, cause: str
) -> None:
    crash, after = job(token), job("after")
    queue.submit(crash)
    queue.submit(after)
    wait(crash, after)
    assert f"crashed {cause}" in crash.error
    assert of(after) == "after" and not after.error


def test_a_hang_costs_one_job(queue: JobQueue) -> None:
    hang, after = job("hang", 60.0), job("after")
    queue.submit(hang)
    queue.submit(after)
    wait(hang, after)
    assert "more than 3 s" in hang.error and not after.error


def test_networks_that_cannot_be_loaded_are_reported_at_once(tmp_path: Path) -> None:
    broken = JobQueue(tmp_path)
    end = time.monotonic() + 120
    while not broken.failure:
        assert time.monotonic() < end
        time.sleep(0.1)
    assert "is not a run" in broken.failure or "SHA256SUMS" in broken.failure
    assert broken.methods == {}
    broken.close()
