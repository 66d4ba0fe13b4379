"""Batches, and the order of scans: by seed and epoch, shared between processes."""

import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from uncus.data.scan_dataset import ScanDataset
from uncus.pipeline.training.data_loading import (
    READING,
    AheadLoader,
    Batch,
    EpochSampler,
    balanced,
    loader,
    read_ahead,
)


def order(sampler: EpochSampler, epoch: int) -> list[int]:
    sampler.set_epoch(epoch)
    return list(sampler)


def test_each_epoch_has_every_scan_once_in_another_order() -> None:
    sampler = EpochSampler(30, seed=1)
    epochs = [order(sampler, epoch) for epoch in range(4)]
    assert all(sorted(epoch) == list(range(30)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4
    assert len(sampler) == 30


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    one, two = EpochSampler(30, seed=1), EpochSampler(30, seed=1)
    for epoch in (3, 0, 2):
        np.random.default_rng().random()
        torch.rand(3)
        assert order(one, epoch) == order(two, epoch)
        order(one, epoch + 1)
    assert order(EpochSampler(30, seed=2), 0) != order(one, 0)


@pytest.mark.parametrize(("length", "processes"), [(30, 3), (31, 3), (2, 4), (1, 1)])
def test_processes_share_an_epoch_evenly(length: int, processes: int) -> None:
    shares = [EpochSampler(length, 1, rank=r, processes=processes) for r in range(processes)]
    drawn = [order(sampler, 5) for sampler in shares]
    assert {len(share) for share in drawn} == {len(shares[0])} == {-(-length // processes)}
    together = [scan for share in drawn for scan in share]
    assert set(together) == set(range(length))
    assert max(together.count(scan) for scan in set(together)) <= -(-processes // length) + 1
    if length % processes == 0:
        assert sorted(together) == list(range(length))


def test_weights_draw_with_replacement_in_proportion() -> None:
    labels = np.array([0] * 900 + [1] * 100)
    sampler = EpochSampler(1000, 0, weights=balanced(labels))
    drawn = np.array(order(sampler, 0))
    assert len(drawn) == 1000
    assert 430 < (labels[drawn] == 1).sum() < 570  # 9 standard deviations
    assert order(sampler, 0) == drawn.tolist()
    assert order(sampler, 1) != drawn.tolist()
    never = EpochSampler(4, 0, weights=np.array([0.0, 1, 2, 0]))
    assert {scan for epoch in range(20) for scan in order(never, epoch)} == {1, 2}


def test_balanced_weights_give_each_class_the_same_total() -> None:
    labels = np.array([0, 0, 0, 1, 2, 2])
    weights = balanced(labels)
    totals = [weights[labels == c].sum() for c in range(3)]
    assert totals == pytest.approx([totals[0]] * 3)


def test_a_batch_is_read_while_the_previous_one_is_in_use() -> None:
    read: list[int] = []

    def batches() -> Iterator[dict[str, torch.Tensor]]:
        for number in range(4):
            read.append(number)
            yield {"scan": torch.tensor(number)}

    for number, batch in enumerate(upcoming := read_ahead(batches())):
        assert int(batch["scan"]) == number
        end = time.monotonic() + 10
        while len(read) < min(4, number + 2):
            assert time.monotonic() < end
        if number == 2:
            break
    upcoming.close()
    with pytest.raises(ValueError, match="broken"):
        list(read_ahead(broken()))
    assert not [t for t in threading.enumerate() if t.name.startswith("uncus-batches")]


def test_reading_ahead_gives_the_same_batches() -> None:
    stored = np.random.default_rng(0).standard_normal((7, 2, 2, 2)).astype(np.float16)
    dataset = ScanDataset(stored, range(7), np.arange(7))
    sampler = EpochSampler(7, 3)
    plain, ahead = (kind(dataset, 2, sampler=sampler) for kind in (DataLoader, AheadLoader))
    for epoch in (0, 1):
        sampler.set_epoch(epoch)
        for one, two in zip(plain, ahead, strict=True):
            assert one.keys() == two.keys()
            assert all(torch.equal(one[name], two[name]) for name in one)


def broken() -> Iterator[dict[str, torch.Tensor]]:
    yield {}
    raise ValueError("broken")


def test_batches_contain_the_requested_rows() -> None:
    stored = np.arange(5 * 8, dtype=np.float16).reshape(5, 2, 2, 2)
    dataset = ScanDataset(stored, [4, 1, 3], np.array([1, 0, 1]))
    sampler = EpochSampler(3, 0)
    batches = list(loader(dataset, 2, sampler=sampler))
    assert [b["volume"].shape for b in batches] == [(2, 1, 2, 2, 2), (1, 1, 2, 2, 2)]
    scans = torch.cat([b["scan"] for b in batches]).tolist()
    labels = torch.cat([b["label"] for b in batches]).tolist()
    read = torch.cat([b["volume"] for b in batches])
    assert scans == [[4, 1, 3][i] for i in sampler]
    assert dict(zip(scans, labels, strict=True)) == {4: 1, 1: 0, 3: 1}
    assert read.dtype == torch.float32
    assert torch.equal(read[:, 0], torch.from_numpy(stored[scans].astype(np.float32)))
    read += 1  # does not change the memory map
    assert stored.flat[0] == 0


def test_nothing_is_read_while_a_graph_is_recorded() -> None:
    started = threading.Event()

    def batches() -> Iterator[Batch]:
        started.set()
        yield {"volume": torch.ones(1)}

    read: list[Batch] = []
    consumer = threading.Thread(target=lambda: read.extend(read_ahead(batches())))
    with READING:  # as graphs.record does
        consumer.start()
        assert not started.wait(0.2)
    consumer.join(60)
    assert started.is_set() and len(read) == 1
