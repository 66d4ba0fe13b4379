"""Preparing on a Dask cluster gives the same cohort; unsuitable workers are rejected."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import write_source
from tests.pipeline.preparation.cohorts import contents, image, prepare, times
from uncus.pipeline.cli import main
from uncus.pipeline.preparation import dask_cluster as clusters
from uncus.pipeline.preparation.dask_cluster import Cluster, connected
from uncus.pipeline.preparation.workers import Failure

dask = pytest.importorskip("dask", reason="the extra cluster is not installed")
distributed = pytest.importorskip("distributed", reason="the extra cluster is not installed")


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A local scheduler with two worker processes; a task that kills one is given up."""
    settings = {
        "distributed.scheduler.allowed-failures": 0,
        "distributed.comm.timeouts.connect": "60s",
    }
    options: dict[str, Any] = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with dask.config.set(settings), distributed.LocalCluster(**options) as local:
        yield local.scheduler_address


def test_two_workers_give_the_same_cohort(
    address: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = write_source(tmp_path / "source", 5)
    image(source, 4).write_bytes(image(source, 4).read_bytes()[:-40])
    assert prepare(source, tmp_path / "alone") == 1
    monkeypatch.chdir(tmp_path)  # the workers started in another folder
    assert prepare(Path("source"), Path("both"), "--cluster", address) == 1
    whole = contents(tmp_path / "alone")
    both = contents(tmp_path / "both")
    assert both.keys() == whole.keys()
    assert {n: c for n, c in both.items() if n != "failed.tsv"} == {
        n: c for n, c in whole.items() if n != "failed.tsv"
    }
    assert "5/5" in capsys.readouterr().err
    # Only the missing derivative is made again.
    old = times(tmp_path / "both")
    next((tmp_path / "both" / "sub-02").rglob("*.json")).unlink()
    assert prepare(Path("source"), Path("both"), "--cluster", address) == 1
    new = times(tmp_path / "both")
    assert [name for name in new if new[name] != old[name]] == ["sub-02"]


def test_a_lost_worker_fails_only_its_task(address: str, tmp_path: Path) -> None:
    with connected(address, tmp_path) as cluster:
        assert cluster is not None
        ((index, result),) = cluster.run_tasks([(os._exit, 7, (1,))])
        assert index == 7 and isinstance(result, Failure) and "workers were lost" in result.reason
        assert dict(cluster.run_tasks([(abs, 0, (-3,)), (abs, 1, (-4,))])) == {0: 3, 1: 4}


def test_workers_without_access_to_the_folder_are_rejected(tmp_path: Path) -> None:
    class Other:
        """A client whose one worker is on a machine without the shared disk."""

        def wait_for_workers(self, count: int, timeout: float) -> None: ...

        def run(self, work: Any, probe: str) -> dict[str, Any]:
            Path(probe).unlink()
            answer = work(probe)
            Path(probe).touch()
            return {"tcp://other": answer}

    with pytest.raises(ValueError, match="worker tcp://other has no access"):
        Cluster(Other(), "tcp://x").check(tmp_path)
    assert not list(tmp_path.iterdir())


def test_workers_of_another_version_are_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Old:
        """A client whose worker runs another uncus."""

        def wait_for_workers(self, count: int, timeout: float) -> None: ...

        def run(self, work: Any, probe: str) -> dict[str, Any]:
            return {"tcp://old": ("0.0.1", True)}

    with pytest.raises(ValueError, match=r"worker tcp://old has uncus 0\.0\.1"):
        Cluster(Old(), "tcp://x").check(tmp_path)


def test_a_missing_scheduler_is_a_one_line_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clusters, "CONNECT_S", 1)
    source = write_source(tmp_path / "source", 2)
    command = ["prepare", str(source), str(tmp_path / "out"), "--cluster", "tcp://127.0.0.1:9"]
    assert main(command) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("uncus: --cluster tcp://127.0.0.1:9: no scheduler answers")
