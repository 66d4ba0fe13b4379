"""Work on the workers of a Dask cluster: other machines, or other processes of this one.

Dask alone: its scheduler runs wherever Python does (SSH, SLURM through dask-jobqueue, Kubernetes),
takes single tasks as workers come free, hands results back as they finish and survives the loss of
a worker. A SLURM array (submitit) does none of the last three, and needs SLURM.
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
MEND = "see docs/cluster.md"


@dataclass(frozen=True)
class Cluster:
    """The workers behind one scheduler.

    Parameters
    ----------
    client: a dask.distributed Client.
    address: of its scheduler, for messages.
    """

    client: Any
    address: str

    def run_tasks(self, tasks: Sequence[Task]) -> Iterator[tuple[int, Any]]:
        """Run ``guarded`` on every task; yields results as they come.

        A task whose worker is lost is given to another; after some losses (Dask's
        allowed-failures) it counts as failed.

        Raises
        ------
        ValueError: the scheduler is gone.
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
                    yield futures[future], Failure(lost(future.exception()))
                else:
                    raise CancelledError
        except (CancelledError, OSError) as error:
            raise ValueError(
                f"--cluster {self.address}: the scheduler is gone; start it and the same command "
                "again (what is done stays done)"
            ) from error
        finally:
            self.client.cancel(list(futures), force=True)

    def check(self, folder: Path) -> None:
        """Refuse workers of another version, or that do not see ``folder``.

        Raises
        ------
        BadInput: there are such workers, or none at all.
        """
        try:
            self.client.wait_for_workers(1, timeout=CONNECT_S)
        except TimeoutError:
            raise BadInput(self.subject, "its scheduler has no workers", MEND) from None
        mark = folder / ".cluster"
        mark.touch()
        try:
            answers = self.client.run(seen, str(mark.resolve()))
        finally:
            mark.unlink()
        for worker, answer in answers.items():
            version, there = answer if isinstance(answer, tuple) else ("none", False)
            if version != __version__:
                cause = f"worker {worker} has uncus {version}, this is {__version__}"
                raise BadInput(self.subject, cause, "install one version on all machines")
            if not there:
                cause = f"worker {worker} does not see {folder.resolve()}"
                raise BadInput(self.subject, cause, "keep scans and cohort on a shared disk")

    @property
    def subject(self) -> str:
        """What messages call it."""
        return f"--cluster {self.address}"


@contextmanager
def connected(address: str, folder: Path) -> Iterator[Cluster | None]:
    """The cluster at ``address`` ("tcp://host:8786"); None where that is empty.

    Raises
    ------
    BadInput: Dask is not installed, nobody answers, or its workers cannot work in ``folder``.
    """
    if not address:
        yield None
        return
    try:
        from distributed import Client
    except ImportError:
        raise BadInput(
            f"--cluster {address}", "needs Dask, which is not installed", "pip install distributed"
        ) from None
    try:
        client = Client(address, timeout=CONNECT_S, set_as_default=False)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise BadInput(f"--cluster {address}", f"no scheduler answers ({reason})", MEND) from None
    with client:
        cluster = Cluster(client, address)
        cluster.check(folder)
        yield cluster


def seen(mark: str) -> tuple[str, bool]:
    """What a worker says: its version of uncus, and whether it sees a file."""
    return __version__, Path(mark).is_file()


def lost(error: BaseException) -> str:
    """Why a task that could not be finished was given up."""
    if type(error).__name__ == "KilledWorker":
        return "its workers were lost again and again, perhaps for want of memory"
    return " ".join(str(error).split()) or type(error).__name__
