"""Timings."""

import time

import pytest
import torch

from uncus.pipeline import timing

CPU = torch.device("cpu")


def test_median_and_quartiles() -> None:
    got = timing.Timing.of([1.0, 2.0, 3.0, 4.0, 100.0])
    assert (got.median, got.rounds) == (3.0, 5)
    assert got.low < 3.0 < got.high


def test_works_are_interleaved_after_a_warm_up_of_its_time(monkeypatch) -> None:
    monkeypatch.setattr(timing, "WARM_UP", 0.01)
    started = time.perf_counter()
    calls: list[tuple[str, float]] = []
    works = {
        name: (lambda name=name: calls.append((name, time.perf_counter() - started)))
        for name in "ab"
    }
    assert timing.measure(works, CPU, rounds=3)["b"].rounds == 3
    assert [name for name, _ in calls] == ["a", "b"] * (len(calls) // 2)
    assert len(calls) >= 2 * (2 + 3)
    assert calls[-2 * 3][1] >= 0.01


def test_slow_work_is_warmed_up_twice(monkeypatch) -> None:
    monkeypatch.setattr(timing, "WARM_UP", 0.0)
    calls: list[str] = []
    timing.measure({"a": lambda: calls.append("a")}, CPU, rounds=4)
    assert len(calls) == 2 + 4


def test_a_clock_times_steps_in_rounds_without_a_pause(monkeypatch) -> None:
    now = {"s": 100.0}
    monkeypatch.setattr(timing.time, "perf_counter", lambda: now["s"])
    started: list[float] = []
    clock = timing.Clock(CPU, rounds=4, steps=10, on_start=lambda: started.append(now["s"]))
    steps = 0
    while not clock.done:
        steps += 1
        # The first compile; then 16 steps take the time of a warm-up.
        now["s"] += 9.0 if steps <= 3 else 0.013 if steps <= 19 else 0.002 if steps <= 39 else 0.004
        clock.tick()
    assert steps == 19 + 4 * 10
    assert started == [pytest.approx(100 + 3 * 9 + 16 * 0.013)]
    got = clock.timing()
    assert (got.rounds, got.median) == (4, pytest.approx(3.0))
    clock.tick()  # a training may go on
    assert clock.timing() == got
