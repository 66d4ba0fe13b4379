"""The search for kernel settings."""

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.pipeline.conftest import parts_of
from uncus.models.fused import kernels
from uncus.models.fused.operation import HAS_TRITON
from uncus.pipeline import cli
from uncus.pipeline.bench import Bench, Limit
from uncus.pipeline.benchmark import tune
from uncus.pipeline.benchmark.journal import Journal

CPU = torch.device("cpu")
FASTEST = {"tile": 1024, "warp_elements": 256, "programs": 4, "channels": 32, "group": 16384}


def test_tuning_ends_where_no_single_change_is_faster() -> None:
    tried: list[tuple[int, int]] = []

    def cost(point: dict[str, int]) -> float:
        tried.append((point["a"], point["b"]))
        return 1 + (point["a"] - 4) ** 2 + 0.1 * (point["b"] - point["a"]) ** 2

    grid = {"a": (1, 2, 4, 8), "b": (1, 2, 4, 8)}
    assert tune.search(cost, {"a": 1, "b": 1}, grid) == {"a": 4, "b": 4}
    assert len(tried) == len(set(tried))
    assert tune.search(lambda point: 1.0, {"a": 2, "b": 8}, grid) == {"a": 2, "b": 8}


def test_tuning_needs_kernels(capsys) -> None:
    assert cli.main(["bench", "tune", "--device", "cpu"]) == 2
    assert "use a GPU" in capsys.readouterr().err


@pytest.fixture
def speeds(monkeypatch) -> dict[str, int]:
    """Kernels whose time (µs) grows with each setting; the search for the best ones, from now on.

    Returns the number of points that were timed, by layout.
    """
    timed = dict.fromkeys(tune.LAYOUTS, 0)

    def microseconds(shape, layout, points, device, rounds):
        timed[layout] += 1
        times = [math.prod(value or 1e6 for value in point.values()) / 1e6 for point in points]
        if any(point["tile"] == 8192 for point in points):
            raise RuntimeError("out of resource: shared memory")
        return times

    monkeypatch.setattr(tune, "uses_kernels", lambda x: True)
    monkeypatch.setattr(tune, "microseconds", microseconds)
    monkeypatch.setattr(kernels, "TUNED", {})
    return timed


needs_triton = pytest.mark.skipif(not HAS_TRITON, reason="needs Triton")


@needs_triton
def test_tuning_goes_on_point_by_point(speeds, tmp_path) -> None:
    """In calls that have time for a single point each."""
    bench = Bench("tune", quick=True, rounds=2, out=tmp_path)
    for _ in range(100):
        limit = Limit(math.inf)
        before = sum(speeds.values())

        def once(seconds: float, limit: Limit = limit, before: int = before) -> bool:
            return sum(speeds.values()) == before

        limit.allows = once  # type: ignore[method-assign]
        part = bench.part("tune", CPU, Journal(tmp_path, bench.facts("tune", CPU)), limit)
        if sum(speeds.values()) == before:
            break
    assert part and [row["best"] for row in part["rows"]] == [
        FASTEST,
        {**FASTEST, "channels": 64},  # of the other layout alone
    ]
    shapes = len(tune.QUICK)
    assert part["cases"] == part["measured"]
    # The start of either layout, and the comparison of the best with it, are no further points.
    tried = sum(row["tried"] for row in part["rows"]) + len(part["rows"])
    assert sum(speeds.values()) <= tried * shapes
    assert kernels.TUNED["", True]._asdict() == FASTEST
    assert "Settings(tile=1024" in "\n".join(tune.remarks(part))
    rows = tune.table(part)
    assert len(rows) == 1 + 2 * shapes and float(rows[1][-1]) > 1


@needs_triton
def test_a_winner_that_is_no_faster_the_second_time_is_not_adopted(speeds) -> None:
    first = {"layout": "contiguous", "shapes": [[8], [9]], "point": {"tile": 2048}}
    other = {**first, "point": {"tile": 1024}}
    compared = {**first, "against": {"tile": 1024}}
    rows = [(first, {"us": [10.0, 20.0]}), (other, {"us": [8.0, 16.0]})]
    for again, best in ((9.8, 2048), (9.0, 1024)):
        both = (compared, {"us": [10.0, 10.0], "against_us": [again, again]})
        (row,) = tune.gather([*rows, both])["rows"]
        assert (row["best"]["tile"], row["tried"]) == (best, 2)
    (row,) = tune.gather(rows)["rows"]
    assert row["best"] == first["point"], "the comparison has not been made yet"


@needs_triton
def test_settings_of_another_device_or_code_are_not_adopted(speeds) -> None:
    row = {"layout": "contiguous", "before": {}, "best": FASTEST}
    part = {"device": "H1", "code": tune.fingerprint("models/fused"), "rows": [row]}
    tune.adopt({**part, "code": "another"}, CPU)
    assert kernels.TUNED == {}
    tune.adopt(part, CPU)
    assert kernels.TUNED["", False]._asdict() == FASTEST


INTERPRETED = """
import sys
from pathlib import Path
from uncus.pipeline import timing
from uncus.pipeline.bench import Bench
from uncus.pipeline.benchmark import tune
timing.WARM_UP = 0.0
tune.GRID, tune.CHANNELS, tune.QUICK = {"tile": (64, 2048)}, (64,), ((1, 8, 3, 3, 3),)
sys.exit(Bench("tune", quick=True, rounds=2, device="cpu", out=Path(sys.argv[1])).run())
"""


@needs_triton
@pytest.mark.slow
def test_the_kernels_themselves_are_timed(tmp_path) -> None:
    """In Triton's interpreter, which is slow, and has to be chosen before Triton is imported."""
    arguments = [sys.executable, "-c", INTERPRETED, str(tmp_path)]
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    subprocess.run(arguments, cwd=Path(__file__).parents[3], env=environment, check=True)
    part = parts_of(tmp_path)["tune"]
    assert part["measured"] == part["cases"] >= 2 * 2
    assert {row["layout"] for row in part["rows"]} == {*tune.LAYOUTS}
    for row in part["rows"]:
        assert row["tried"] == 2 and row["before_us"][0] >= row["best_us"][0] > 0
