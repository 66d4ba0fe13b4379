"""Training the networks of many runs, side by side on the CPU or over all GPUs."""

import multiprocessing
import os
import pickle
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from pathlib import Path
from queue import Empty
from typing import Any

import torch
from rich.console import Console

from uncus.data.errors import BadInput
from uncus.pipeline.environment import cpu_count
from uncus.pipeline.parallel import start_in_worker
from uncus.pipeline.progress_bars import progress_bar
from uncus.pipeline.runs import Member, Run
from uncus.pipeline.training.member import train_member
from uncus.pipeline.training.task import Devices, Task

DEVICE = "UNCUS_DEVICE"
"""The GPU that a worker process trains on."""


@dataclass(frozen=True)
class Job:
    """One network to train: a member of the run of one cell.

    Attributes
    ----------
    cell: the name of its cell.
    label: what to call it on the terminal.
    """

    cell: str
    label: str
    run: Run
    member: Member
    task: Task


def gpus(accelerator: str) -> int:
    """GPUs to spread over; 0 where the CPU is to be used or there are none."""
    return 0 if accelerator == "cpu" else torch.cuda.device_count()


def train_jobs(
    jobs: Sequence[Job], side_by_side: int, accelerator: str, epochs: int
) -> dict[str, str]:
    """Train every job, ``side_by_side`` at once on the CPU or on each GPU, with a progress bar.

    A network that cannot be trained (its loss is not finite, the GPU's memory is too small) ends
    its cell alone.

    Returns
    -------
    cell -> why it could not be trained, for those that could not.

    Raises
    ------
    BadInput: what a user has to mend before anything can go on.
    ValueError: a worker process was killed.
    """
    cards = gpus(accelerator)
    workers = min(side_by_side * max(1, cards), len(jobs))
    if workers < 2:
        return one_by_one(jobs)
    context = multiprocessing.get_context("spawn")
    places: Any = context.Queue()
    for worker in range(workers):
        places.put(str(worker % cards) if cards else "")
    threads = max(1, cpu_count() // workers)
    failed: dict[str, str] = {}
    with (
        ProcessPoolExecutor(workers, context, take_place, (threads, os.getpid(), places)) as pool,
        progress_bar("epochs, {task.fields[done]} networks") as shown,
    ):
        waiting = {pool.submit(train_sent, pickle.dumps(job)): job for job in jobs}
        shown_task = shown.add_task("training", total=len(jobs) * epochs, done=f"0/{len(jobs)}")
        done = 0
        try:
            while waiting:
                ready, _ = wait(waiting, timeout=2, return_when=FIRST_COMPLETED)
                for future in ready:
                    job = waiting.pop(future)
                    done += 1
                    note(shown.console, job, future, failed, f"{done}/{len(jobs)}")
                for future, job in list(waiting.items()):
                    if job.cell in failed and future.cancel():
                        waiting.pop(future)
                        done += 1
                running = sum(
                    epochs_done(job) for future, job in waiting.items() if future.running()
                )
                shown.update(
                    shown_task, completed=done * epochs + running, done=f"{done}/{len(jobs)}"
                )
        except BrokenProcessPool as error:
            raise ValueError(
                "a training process was killed (out of memory?); the same command goes on where "
                "it stopped, perhaps with fewer --jobs"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)
    return failed


def one_by_one(jobs: Sequence[Job]) -> dict[str, str]:
    """Train in this process, each network with its own bar."""
    failed: dict[str, str] = {}
    console = Console(stderr=True, highlight=False)
    for number, job in enumerate(jobs, start=1):
        if job.cell in failed:
            continue
        console.print(f"[{number}/{len(jobs)}] {job.label}", markup=False)
        reason = attempt(train_member, job.run, job.member, job.task)
        if reason:
            failed[job.cell] = reason
            console.print(f"{job.label}: {reason}", markup=False)
    return failed


def attempt(work: Callable[..., None], *arguments: Any) -> str:
    """Why ``work`` could not be done, "" where it was; what a user must mend is raised."""
    try:
        work(*arguments)
    except BadInput:
        raise
    except (ValueError, MemoryError) as error:
        return " ".join(str(error).split()) or type(error).__name__
    return ""


def note(
    console: Console, job: Job, future: "Future[str]", failed: dict[str, str], count: str
) -> None:
    """Take a network's end into account, and say it."""
    if future.cancelled():
        return
    reason = future.result()
    if reason:
        failed.setdefault(job.cell, reason)
    console.print(f"[{count}] {job.label}{': ' + reason if reason else ''}", markup=False)


def take_place(threads: int, parent: int, places: Any) -> None:
    """Start a worker: its threads, and the GPU that is its own."""
    start_in_worker(threads, parent)
    os.environ["UNCUS_PLAIN_PROGRESS"] = "none"
    try:
        os.environ[DEVICE] = places.get(timeout=60)
    except Empty:  # a worker more than there are places
        os.environ[DEVICE] = ""


def train_sent(pickled: bytes) -> str:
    """Train one job in a worker; returns why it could not be trained, or ""."""
    job: Job = pickle.loads(pickled)
    return attempt(train_member, job.run, job.member, placed(job.task))


def placed(task: Task) -> Task:
    """The task on the worker's own GPU."""
    card = os.environ.get(DEVICE, "")
    if not card:
        return task
    devices: Devices = replace(task.devices, accelerator="gpu", devices=f"{card},")
    return replace(task, devices=devices)


def epochs_done(job: Job) -> int:
    """Epochs behind a network that is being trained."""
    path: Path = job.run.metrics(job.member)
    try:
        return max(0, path.read_text(encoding="utf-8").count("\n") - 1)
    except OSError:
        return 0
