"""GroupNorm + ReLU at the quick sizes."""

import pytest
import torch

from tests.pipeline.conftest import parts_of
from uncus.pipeline.benchmark import norm


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


def test_bandwidth_counts_eight_passes(speed_folder) -> None:
    part = parts_of(speed_folder)["norm"]
    row = part["rows"][0]
    seconds = (row["graph_ms"] or row["stream_ms"])["fused"]["median"] / 1e3
    moved = 8 * 2 * torch.Size(row["shape"]).numel()
    assert row["gb_s"] == pytest.approx(moved / seconds / 1e9)
    assert row["of_copy_bandwidth"] == pytest.approx(row["gb_s"] / part["copy_bandwidth_gb_s"])


def test_an_implementation_that_fails_is_left_out(monkeypatch) -> None:
    implementations = norm._implementations

    class Failing(torch.nn.Module):
        def forward(self, x):
            raise RuntimeError("no C compiler")

    def with_a_failing_one(shape, device):
        yield from implementations(shape, device)
        yield "compiled", Failing()

    monkeypatch.setattr(norm, "_implementations", with_a_failing_one)
    cpu = torch.device("cpu")
    cases = norm.cases(cpu, True)[:2]
    part = norm.gather([(case, norm.measure(case, cpu, 2)) for case in cases])
    (row,) = part["rows"]
    assert row["left_out"] == {"compiled": "RuntimeError: no C compiler"}
    assert row["stream_ms"].keys() == {"fused", "eager", "autocast"}
    assert "no C compiler" in "\n".join(norm.remarks({**part, "kernels": None}))
