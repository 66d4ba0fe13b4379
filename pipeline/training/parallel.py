"""Training several networks at once, on the CPU or over all GPUs.

Small networks at tiny batches leave most cores idle: two at once finish sooner than one after the
other with twice as many threads.
"""

import multiprocessing
import os
import pickle
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from rich.console import Console

from uncus.data import files
from uncus.data.errors import BadInput
from uncus.pipeline.environment import cpu_count, shielded
from uncus.pipeline.progress_bars import progress_bar, time_left
from uncus.pipeline.runs import Member, Run
from uncus.pipeline.training.epoch_bar import NO_BAR
from uncus.pipeline.training.member import train_member
from uncus.pipeline.training.processes import end_with, hidden_script, this_group
from uncus.pipeline.training.task import Task

GPU = "UNCUS_GPU"
"""Environment variable of a worker: the index of its GPU; "" to keep the task's devices."""


@dataclass(frozen=True)
class Job:
    """One network to train.

    Attributes
    ----------
    cell: its cell of a comparison, which is given up if the network cannot be trained; "" if
        that is an error.
    label: its name on the terminal.
    """

    cell: str
    label: str
    run: Run
    member: Member
    task: Task


def train_networks(jobs: Sequence[Job], at_once: int) -> dict[str, str]:
    """Train all networks, ``at_once`` at a time on the CPU or on each GPU.

    Returns
    -------
    cell -> why it could not be trained.

    Raises
    ------
    ValueError: a worker process was killed, an input is wrong (BadInput), or a network without a
        cell cannot be trained, also MemoryError. No further network is started.
    """
    gpus = count_gpus(jobs)
    workers = min(at_once * max(1, gpus), len(jobs))
    return train_in_pool(jobs, workers, gpus) if workers > 1 else train_one_by_one(jobs)


def count_gpus(jobs: Sequence[Job]) -> int:
    """GPUs to distribute the networks over: 0 on a CPU, or if a network uses several devices."""
    devices = [job.task.devices for job in jobs]
    single = all(d.accelerator != "cpu" and (d.devices, d.nodes) == ("1", 1) for d in devices)
    return torch.cuda.device_count() if single else 0


def train_one_by_one(jobs: Sequence[Job]) -> dict[str, str]:
    """Train in this process, with a progress bar for each network."""
    failed: dict[str, str] = {}
    console = Console(stderr=True, highlight=False, quiet=this_group().rank > 0)
    started = time.monotonic()
    for number, job in enumerate(jobs, start=1):
        if job.cell in failed:
            continue
        left = time_left(started, number - 1, len(jobs))
        console.print(f"[{number}/{len(jobs)}] {job.label}  {left}".rstrip(), markup=False)
        if reason := attempt(job):
            failed[job.cell] = reason
            console.print(f"{job.label}: {reason}", markup=False)
    return failed


def train_in_pool(jobs: Sequence[Job], workers: int, gpus: int) -> dict[str, str]:
    """Train in ``workers`` processes, with one progress bar for all epochs."""
    context = multiprocessing.get_context("spawn")
    slots: Any = context.Queue()
    for worker in range(workers):
        slots.put(str(worker % gpus) if gpus else "")
    threads = max(1, cpu_count() // workers)
    epochs = [job.task.optimization.epochs for job in jobs]
    failed: dict[str, str] = {}
    with (
        ProcessPoolExecutor(workers, context, start_worker, (threads, os.getpid(), slots)) as pool,
        progress_bar("epochs, {task.fields[done]} networks") as bar,
    ):
        with shielded(), hidden_script():  # workers are started by submit
            # Pickled here, so that an error is raised here rather than in the pool's thread.
            waiting = {pool.submit(train_pickled, pickle.dumps(job)): job for job in jobs}
        started = time.monotonic()
        shown = bar.add_task("training", total=sum(epochs), done=f"0/{len(jobs)}")
        try:
            while waiting:
                ready, _ = wait(waiting, timeout=2, return_when=FIRST_COMPLETED)
                for future in ready:
                    job = waiting.pop(future)
                    reason = future.result()
                    if reason:
                        failed.setdefault(job.cell, reason)
                    count = f"[{len(jobs) - len(waiting)}/{len(jobs)}]"
                    done = len(jobs) - len(waiting)
                    left = time_left(started, done, len(jobs))
                    line = f"{count} {job.label}{': ' * bool(reason)}{reason}  {left}"
                    bar.console.print(line.rstrip(), markup=False)
                for future, job in list(waiting.items()):
                    if job.cell in failed and future.cancel():
                        del waiting[future]
                todo = sum(
                    job.task.optimization.epochs - epochs_done(job) * future.running()
                    for future, job in waiting.items()
                )
                trained = f"{len(jobs) - len(waiting)}/{len(jobs)}"
                bar.update(shown, completed=sum(epochs) - todo, done=trained)
        except BrokenProcessPool as error:
            raise ValueError(
                "a training process was killed, perhaps for lack of memory; continue with the same "
                "command (uncus train needs --resume), and fewer --jobs"
            ) from error
        except KeyboardInterrupt:
            for child in multiprocessing.active_children():
                child.kill()  # their files are whole at any moment
            raise
        finally:
            pool.shutdown(cancel_futures=True)
    return failed


def attempt(job: Job) -> str:
    """Train a network; returns why its cell cannot be trained, "" for success."""
    folder, rank = job.run.member_folder(job.member), this_group().rank
    try:
        with files.locked(folder, "network", wait=2) if rank == 0 else nullcontext():
            train_member(job.run, job.member, job.task)
    except (ValueError, MemoryError) as error:
        if not job.cell or isinstance(error, BadInput):
            raise
        return " ".join(str(error).split()) or type(error).__name__
    return ""


def start_worker(threads: int, parent: int, slots: Any) -> None:
    """Set a worker's threads and GPU."""
    end_with(parent)
    torch.set_num_threads(threads)
    os.environ[NO_BAR] = "1"
    os.environ[GPU] = slots.get()


def train_pickled(pickled: bytes) -> str:
    """Train a network in a worker, on its GPU; returns what :func:`attempt` returns."""
    job: Job = pickle.loads(pickled)
    if gpu := os.environ[GPU]:
        devices = replace(job.task.devices, accelerator="gpu", devices=f"{gpu},")
        job = replace(job, task=replace(job.task, devices=devices))
    return attempt(job)


def epochs_done(job: Job) -> int:
    """Number of epochs of a network that are done."""
    try:
        return max(0, job.run.metrics(job.member).read_text(encoding="utf-8").count("\n") - 1)
    except OSError:
        return 0
