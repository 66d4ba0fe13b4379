"""Networks trained side by side on one machine's CPU.

Small networks at tiny batches leave most cores idle: two folds at once finish sooner than one
after the other with twice the threads each.
"""

import multiprocessing
import os
import pickle
import threading
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool

import torch

from uncus.pipeline.environment import cpu_count
from uncus.pipeline.runs import Member, Run
from uncus.pipeline.training.member import train_member
from uncus.pipeline.training.task import Task


def train_members(run: Run, members: tuple[Member, ...], task: Task, jobs: int) -> None:
    """Train ``members``, ``jobs`` at a time; after one fails no more are started.

    Raises
    ------
    ValueError: what a member raised, or that its process was killed.
    """
    if jobs == 1 or len(members) < 2:
        for member in members:
            train_member(run, member, task)
        return
    # Pickled here, so that what cannot be sent fails here and not in the pool's feeding thread.
    pickled = pickle.dumps(task)
    threads = max(1, cpu_count() // jobs)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, context, start_in_worker, (threads, os.getpid())) as pool:
        waiting = [pool.submit(train_pickled, run, member, pickled) for member in members]
        try:
            for one in as_completed(waiting):
                one.result()
        except BrokenProcessPool as error:
            raise ValueError(
                f"{run.path}: a training process was killed (out of memory?); "
                "go on with --resume, with fewer --jobs"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


def train_pickled(run: Run, member: Member, pickled: bytes) -> None:
    """Train one member in a worker."""
    train_member(run, member, pickle.loads(pickled))


def start_in_worker(threads: int, parent: int) -> None:
    """Set a worker's threads; end it when its parent is gone, so that no run has two writers."""
    torch.set_num_threads(threads)
    os.environ["UNCUS_PLAIN_PROGRESS"] = "1"  # several live bars would overwrite each other

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
