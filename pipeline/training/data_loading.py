"""Batches from a memory-mapped cohort, in an order that the seed determines."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler

from uncus.data.scan_dataset import ScanDataset

READING = threading.Lock()
"""Held by a thread that reads and pins a batch: whoever records a CUDA graph holds it meanwhile."""
Batch = dict[str, torch.Tensor]
"""A batch of the items of uncus.data.scan_dataset, such as ``volume`` [N, 1, X, Y, Z]."""


class EpochSampler(Sampler[int]):
    """An order of the scans for each epoch, determined by (seed, epoch) alone.

    MONAI's and torch's samplers have a generator, whose state a resumed run would have to restore.

    With ``weights`` the scans are drawn with replacement in proportion to them; otherwise each
    occurs once. Several processes get shares of equal length.
    """

    def __init__(
        self,
        length: int,
        seed: int,
        weights: np.ndarray | None = None,
        rank: int = 0,
        processes: int = 1,
    ) -> None:
        self.length, self.seed, self.rank, self.processes = length, seed, rank, processes
        self.weights = None if weights is None else weights / weights.sum()
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        rng = np.random.default_rng((self.seed, self.epoch))
        if self.weights is None:
            order = rng.permutation(self.length)
        else:
            order = rng.choice(self.length, self.length, p=self.weights)
        padded = np.resize(order, len(self) * self.processes)
        return iter(padded[self.rank :: self.processes].tolist())

    def __len__(self) -> int:
        return -(-self.length // self.processes)


def balanced(labels: np.ndarray) -> np.ndarray:
    """Weights [N] of scans that give every class the same total."""
    counts = np.bincount(labels)
    return np.asarray(1.0 / counts[labels])


class AheadLoader(DataLoader[Batch]):
    """A loader that reads and pins the next batch in a thread while the device computes.

    Unlike in a process, nothing that is read from the memory map has to be copied.
    """

    def __iter__(self) -> Any:
        batches = super().__iter__()
        return batches if self.num_workers else read_ahead(batches)


def read_ahead(batches: Iterator[Batch]) -> Iterator[Batch]:
    """The same batches, each read while the previous one is in use."""
    on_gpu = torch.cuda.is_available()
    initial = (torch.cuda.set_device, (torch.cuda.current_device(),)) if on_gpu else (None, ())

    def read() -> Batch | None:
        with READING:
            return next(batches, None)

    with ThreadPoolExecutor(1, "uncus-batches", *initial) as reader:
        upcoming = reader.submit(read)
        while (batch := upcoming.result()) is not None:
            upcoming = reader.submit(read)
            yield batch


def loader(dataset: ScanDataset, batch_size: int, **options: Any) -> DataLoader[Batch]:
    """A loader; where there is a GPU, it pins batches and reads ahead."""
    kind = AheadLoader if torch.cuda.is_available() else DataLoader
    return kind(
        dataset,
        batch_size=batch_size,
        pin_memory=torch.cuda.is_available(),
        persistent_workers=options.get("num_workers", 0) > 0,
        **options,
    )
