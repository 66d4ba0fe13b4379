"""GroupNorm + ReLU at the quick sizes."""

import pytest
import torch

from tests.pipeline.conftest import parts_of
from uncus.pipeline.benchmark import norm

CPU = torch.device("cpu")


def test_every_implementation_is_measured_on_every_shape(speed_folder) -> None:
    part = parts_of(speed_folder)["norm"]
    assert len(part["rows"]) == len(norm.QUICK) * len(norm.LAYOUTS)
    for row in part["rows"]:
        assert {"fused", "eager", "autocast"} <= row["stream_ms"].keys()
        for time in row["stream_ms"].values():
            assert 0 < time["low"] <= time["median"] <= time["high"]
        times = row["graph_ms"] or row["stream_ms"]
        ratio = times["eager"]["median"] / times["fused"]["median"]
        assert row["times_faster_than"]["eager"] == pytest.approx(ratio)
        assert row["same_bits_again"]
        assert max(row["error"].values()) < 1e-2  # bf16
    assert part["copy_bandwidth_gb_s"] > 0


@pytest.mark.parametrize(
    ("size", "cache", "passes"),
    [(10, 100, 5), (50, 100, 5), (60, 100, 7), (200, 100, 8), (1, 0, 8)],
)
def test_passes_needed(size: int, cache: int, passes: int) -> None:
    assert norm.passes_needed(size, cache) == passes


def test_bandwidth_counts_the_passes_needed(speed_folder) -> None:
    part = parts_of(speed_folder)["norm"]
    for row in part["rows"]:
        assert row["passes"] == 8  # the cache of a CPU is not known
        seconds = (row["graph_ms"] or row["stream_ms"])["fused"]["median"] / 1e3
        moved = 8 * 2 * torch.Size(row["shape"]).numel()
        assert row["gb_s"] == pytest.approx(moved / seconds / 1e9)
        assert row["of_copy_bandwidth"] == pytest.approx(row["gb_s"] / part["copy_bandwidth_gb_s"])


def of_two_cases(cpu: torch.device) -> tuple[dict, dict]:
    """The part with the first shape alone, and its row."""
    cases = norm.cases(cpu, True)[:2]
    part = norm.gather([(case, norm.measure(case, cpu, 2)) for case in cases])
    return {**part, "kernels": None}, part["rows"][0]


def test_small_tensors_are_also_measured_in_the_cache(monkeypatch) -> None:
    size = 2 * 16 * 12**3
    for cache, warm, passes in ((4 * size, {"fused", "eager", "autocast"}, 5), (3 * size, {}, 5)):
        monkeypatch.setattr(norm, "cache_size", lambda device, cache=cache: cache)
        part, row = of_two_cases(CPU)
        assert row["warm_ms"].keys() == set(warm)
        assert row["passes"] == passes
        assert norm.table(part)[1][-1] == (
            f"{row['times_faster_than_warm']['eager']:.2f}" if warm else "-"
        )


def test_an_implementation_that_fails_is_left_out(monkeypatch) -> None:
    implementations = norm._implementations

    class Failing(torch.nn.Module):
        def forward(self, x):
            raise RuntimeError("no C compiler")

    def with_a_failing_one(shape, device):
        yield from implementations(shape, device)
        yield "compiled", Failing()

    monkeypatch.setattr(norm, "_implementations", with_a_failing_one)
    part, row = of_two_cases(CPU)
    assert row["left_out"] == {"compiled": "RuntimeError: no C compiler"}
    assert row["stream_ms"].keys() == {"fused", "eager", "autocast"}
    assert "no C compiler" in "\n".join(norm.remarks(part))


def test_one_that_cannot_be_captured_costs_its_own_time(monkeypatch) -> None:
    captured: list[str] = []

    def graphed(work, device):
        captured.append("")
        if len(captured) == 2:
            raise RuntimeError("operation not permitted when stream is capturing")
        return work

    monkeypatch.setattr(norm, "cache_size", lambda device: 2**30)
    monkeypatch.setattr(norm, "graphed", graphed)
    part, row = of_two_cases(CPU)
    assert row["warm_ms"].keys() == {"fused", "autocast"}
    assert row["stream_ms"].keys() == {"fused", "eager", "autocast"}
    assert "eager as a graph: RuntimeError: operation not permitted" in "\n".join(
        norm.remarks(part)
    )
    assert norm.table(part)[1][-1] == "-"


def test_what_a_row_depends_on() -> None:
    copy, contiguous, last = norm.cases(CPU, True)[:3]
    assert norm.depends(copy, CPU) == {}
    assert norm.depends(contiguous, CPU) == norm.depends(last, CPU)  # there are no kernels
    assert norm.depends(last, CPU)["code"]
