"""Several processes that train a network together, one for each device.

``uncus train`` starts them itself on one machine; on several, srun or torchrun does. Rank 0 alone
checks, locks and writes the run. When a process ends before the others, they end too.
"""

import multiprocessing
import os
import pickle
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from types import ModuleType
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch.utilities import rank_zero_only as _rank_zero_only

from uncus.pipeline.environment import cpu_count, shielded
from uncus.pipeline.training.task import Devices

T = TypeVar("T")
rank_zero_only: Any = _rank_zero_only

LOST = (
    "another process of this training has ended, perhaps for lack of memory; continue with the "
    "same command and --resume"
)
GRACE = 10.0
"""Seconds that a process has to end by itself once another is lost, and between two signals."""
FOREVER = timedelta(days=365)
"""Others wait while rank 0 predicts the test scans; a lost process is noticed by its sockets."""


@dataclass(frozen=True)
class Group:
    """The processes of a training, seen from one of them; a single process is rank 0 of 1."""

    rank: int = 0
    count: int = 1

    def share(self, make: Callable[[], T]) -> T:
        """What ``make`` returns or raises in rank 0, in every process; pickled on the way."""
        if self.count == 1:
            return make()
        sent: list[Any] = [None, None]
        if self.rank == 0:
            try:
                sent[0] = make()
            except Exception as error:
                sent[1] = error
        dist.broadcast_object_list(sent, src=0, device=torch.device("cpu"))
        if sent[1] is not None:
            raise sent[1]
        made: T = sent[0]
        return made


def this_group() -> Group:
    """The group of this process, within :func:`joined`."""
    return Group(dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else Group()


def process_count(devices: Devices) -> int:
    """Processes on all machines, one for each device.

    Raises
    ------
    ValueError: this machine does not have these devices.
    """
    gpus = torch.cuda.device_count() if devices.accelerator != "cpu" else 0
    wanted, on_gpu = devices.devices, devices.accelerator != "cpu" and gpus > 0
    if wanted == "auto":
        return max(1, gpus) * devices.nodes
    number = int(wanted) if wanted.isdigit() else len(wanted.strip(",").split(","))
    if on_gpu and number > gpus:
        raise ValueError(f"--devices {wanted}: this machine has {gpus} GPUs; ask for fewer")
    return number * devices.nodes


def started(devices: Devices) -> bool:
    """Whether torchrun, srun or :func:`start` has started this process as one of several.

    Their variables are in the environment of many a shell and batch script too, where they are
    without a meaning: one process is one process, whatever they say.

    Raises
    ------
    ValueError: another number of processes was started than the devices need.
    """
    env, wanted = os.environ, process_count(devices)
    if "TORCHELASTIC_RUN_ID" in env:
        name, number = "WORLD_SIZE", int(env.get("WORLD_SIZE", 1))
        if wanted == 1 and number > 1:
            raise ValueError(
                f"torchrun started {number} processes (WORLD_SIZE={number}), but --devices and "
                f"--nodes ask for one; name both, or start uncus train without torchrun"
            )
    else:
        # A batch script has SLURM_NTASKS as well, but is no step.
        name = "SLURM_NTASKS"
        number = int(env.get(name, 1)) if "SLURM_STEP_ID" in env else 1
    if wanted == 1 or (number == 1 and devices.nodes == 1):
        return False
    if number == 1:
        raise ValueError(
            f"--nodes {devices.nodes}: start uncus train on every machine, one process for each "
            "device, with srun or torchrun"
        )
    if number != wanted:
        raise ValueError(
            f"--devices {devices.devices} --nodes {devices.nodes} are {wanted} processes, but "
            f"{number} were started ({name}={number}); start as many as there are devices"
        )
    return True


@contextmanager
def joined(devices: Devices) -> Iterator[Group]:
    """The group of this process: the others of the same training, or itself alone.

    Raises
    ------
    ValueError: another process of the group has ended.
    """
    if not started(devices):
        rank_zero_only.rank = 0  # Lightning has it from a variable that may mean something else
        yield Group()
        return
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        name_as_torchrun()
    backend = "cpu:gloo,cuda:nccl" if on_gpus(devices) else "gloo"
    dist.init_process_group(backend, timeout=FOREVER)
    group = this_group()
    rank_zero_only.rank = group.rank
    torch.set_num_threads(max(1, cpu_count() // int(os.environ.get("LOCAL_WORLD_SIZE", 1))))
    watch = Watch(group)
    try:
        yield group
        watch.end()
    except RuntimeError as error:
        if watch.lost.wait(GRACE / 2):
            raise ValueError(LOST) from error
        raise
    dist.destroy_process_group()


def on_gpus(devices: Devices) -> bool:
    """Whether the processes compute on GPUs."""
    return devices.accelerator != "cpu" and torch.cuda.is_available()


def name_as_torchrun() -> None:
    """Give a task of srun the variables of torchrun, which torch and Lightning read."""
    env = os.environ
    nodes = env.get("SLURM_STEP_NODELIST") or env.get("SLURM_JOB_NODELIST", "127.0.0.1")
    step = 8 * int(env.get("SLURM_JOB_ID", 0)) + int(env["SLURM_STEP_ID"]) % 8
    env |= {"RANK": env["SLURM_PROCID"], "LOCAL_RANK": env["SLURM_LOCALID"]}
    env |= {"GROUP_RANK": env.get("SLURM_NODEID", "0"), "WORLD_SIZE": env["SLURM_NTASKS"]}
    env["MASTER_ADDR"] = SLURMEnvironment.resolve_root_node_address(nodes)
    env["MASTER_PORT"] = str(15_000 + step % 10_000)


class Watch:
    """Notices, at once and with every backend, that another process of the group has ended.

    Rank 0 waits for a message of each of the others, and they for one of rank 0. It is sent at the
    end; a process that is killed breaks the connection instead.
    """

    def __init__(self, group: Group) -> None:
        self.group, self.lost = group, threading.Event()
        self.connection = dist.new_group(backend="gloo", timeout=FOREVER)
        self.others = range(1, group.count) if group.rank == 0 else [0]
        self.threads = [
            threading.Thread(target=self.wait_for, args=(other,), daemon=True)
            for other in self.others
        ]
        for thread in self.threads:
            thread.start()

    def wait_for(self, other: int) -> None:
        """Return when ``other`` is done; end this process, if it does not by itself, when lost."""
        try:
            dist.recv(torch.zeros(1), src=other, group=self.connection)
        except RuntimeError:
            self.lost.set()
            time.sleep(GRACE)
            print(f"uncus: {LOST}", file=sys.stderr)
            os._exit(2)

    def end(self) -> None:
        """Tell the others that this process is done, and wait for them."""
        for other in self.others:
            dist.send(torch.ones(1), dst=other, group=self.connection)
        for thread in self.threads:
            thread.join()


def start(train: Callable[[], object], count: int) -> None:
    """Call ``train``, which is pickled, in ``count`` processes of this machine.

    Raises
    ------
    Exception: what the first process that failed has raised; the others are ended.
    """
    context = multiprocessing.get_context("spawn")
    errors: Any = context.SimpleQueue()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    values = (pickle.dumps(train), count, port, os.getpid(), errors)
    torch_processes: Any = torch.multiprocessing
    with shielded(), hidden_script():
        processes = torch_processes.start_processes(
            work, values, nprocs=count, join=False, start_method="spawn"
        )
    try:
        while not processes.join(grace_period=GRACE):
            pass
    except (
        torch_processes.ProcessExitedException,
        torch_processes.ProcessRaisedException,
    ) as error:
        raise (ValueError(LOST) if errors.empty() else errors.get()) from error
    finally:
        for process in processes.processes:
            process.kill()


@contextmanager
def hidden_script() -> Iterator[None]:
    """Keep spawned processes from running the user's script, which may have called ``train``."""
    script = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = script


def end_with(parent: int) -> None:
    """End this process when ``parent`` ends: a run must have one writer."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def work(rank: int, train: bytes, count: int, port: int, parent: int, errors: Any) -> None:
    """One of the processes of :func:`start`."""
    end_with(parent)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "GROUP_RANK": "0"}
    os.environ |= {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ["TORCHELASTIC_RUN_ID"] = "uncus"
    os.environ.pop("TORCHELASTIC_USE_AGENT_STORE", None)
    try:
        pickle.loads(train)()
    except Exception as error:
        errors.put(error)
        sys.exit(2)
