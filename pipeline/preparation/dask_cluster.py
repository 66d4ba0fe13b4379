"""Run tasks on the workers of a Dask cluster, on any machines.

A Dask scheduler runs wherever Python does (SSH, SLURM through dask-jobqueue, Kubernetes), gives
single tasks to idle workers, returns results as they finish and survives the loss of a worker. A
SLURM array (submitit) does none of the last three, and requires SLURM.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uncus import __version__
from uncus.data.errors import BadInput
from uncus.pipeline.preparation.workers import Failure, Task, guarded

CONNECT_S = 15
REMEDY = "see docs/cluster.md"


@dataclass(frozen=True)
class Cluster:
    """The workers of one scheduler.

    Parameters
    ----------
    client: a dask.distributed Client.
    address: the scheduler's, for messages.
    """

    client: Any
    address: str

    def run_tasks(self, tasks: Sequence[Task]) -> Iterator[tuple[int, Any]]:
        """Run ``guarded`` on every task and yield the results as they finish.

        A task whose worker is lost is given to another one; after several losses (Dask's
        allowed-failures) it fails.

        Raises
        ------
        ValueError: the connection to the scheduler is lost.
        """
        from distributed import as_completed

        futures = {
            self.client.submit(guarded, work, index, values, pure=False): index
            for work, index, values in tasks
        }
        if not futures:
            return
        try:
            for future in as_completed(list(futures), loop=self.client.loop):
                if future.status == "finished":
                    yield future.result()
                elif future.status == "error":
                    reason = loss_reason(future.exception())
                    yield futures[future], Failure(reason, reason)
                else:
                    raise CancelledError
        except (CancelledError, OSError) as error:
            raise ValueError(
                f"{self.option}: the connection to the scheduler is lost; start it and run the "
                "same command again (finished scans are kept)"
            ) from error
        finally:
            self.client.cancel(list(futures), force=True)

    def check(self, folder: Path) -> None:
        """Check that there are workers, of this version, that can access ``folder``.

        Raises
        ------
        BadInput: there is no worker, or one of another version or without access.
        """
        try:
            self.client.wait_for_workers(1, timeout=CONNECT_S)
        except TimeoutError:
            raise BadInput(self.option, "its scheduler has no workers", REMEDY) from None
        probe = folder / ".cluster"
        probe.touch()
        try:
            answers = self.client.run(worker_state, str(probe.resolve()))
        finally:
            probe.unlink()
        for worker, answer in answers.items():
            version, has_access = answer if isinstance(answer, tuple) else ("none", False)
            if version != __version__:
                cause = f"worker {worker} has uncus {version}, this is {__version__}"
                raise BadInput(self.option, cause, "install one version on all machines")
            if not has_access:
                cause = f"worker {worker} has no access to {folder.resolve()}"
                raise BadInput(self.option, cause, "keep scans and cohort on a shared disk")

    @property
    def option(self) -> str:
        """The command line option, for messages."""
        return f"--cluster {self.address}"


@contextmanager
def connected(address: str, folder: Path) -> Iterator[Cluster | None]:
    """Connect to the cluster at ``address`` ("tcp://host:8786"); None if that is empty.

    Raises
    ------
    BadInput: Dask is not installed, no scheduler answers, or its workers cannot use ``folder``.
    """
    if not address:
        yield None
        return
    try:
        from distributed import Client
    except ImportError:
        raise BadInput(
            f"--cluster {address}",
            "requires Dask, which is not installed",
            "pip install distributed",
        ) from None
    try:
        client = Client(address, timeout=CONNECT_S, set_as_default=False)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise BadInput(f"--cluster {address}", f"no scheduler answers ({reason})", REMEDY) from None
    with client:
        cluster = Cluster(client, address)
        cluster.check(folder)
        yield cluster


def worker_state(probe: str) -> tuple[str, bool]:
    """Return a worker's version of uncus, and whether it can access the file ``probe``."""
    return __version__, Path(probe).is_file()


def loss_reason(error: BaseException) -> str:
    """Why Dask gave up a task."""
    if type(error).__name__ == "KilledWorker":
        return "its workers were lost repeatedly, perhaps for lack of memory"
    return " ".join(str(error).split()) or type(error).__name__
