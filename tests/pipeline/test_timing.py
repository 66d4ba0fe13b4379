"""Timings."""

import torch

from uncus.pipeline import timing


def test_median_and_quartiles() -> None:
    got = timing.Timing.of([1.0, 2.0, 3.0, 4.0, 100.0])
    assert (got.median, got.rounds) == (3.0, 5)
    assert got.low < 3.0 < got.high
    calls: list[str] = []
    works = {name: (lambda name=name: calls.append(name)) for name in "ab"}
    timing.measure(works, torch.device("cpu"), rounds=2)
    assert calls == ["a", "b"] * 4  # two warm-up rounds, interleaved
