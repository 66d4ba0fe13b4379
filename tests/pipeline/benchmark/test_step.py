"""A training step at the quick size."""

import pytest

from tests.pipeline.conftest import parts_of
from uncus.models.base import count_parameters
from uncus.models.norms import GroupNorm
from uncus.pipeline.benchmark import step


def test_a_step_is_compared_with_the_rate_of_matrix_products(speed_folder) -> None:
    part = parts_of(speed_folder)["step"]
    ours = next(row for row in part["rows"] if row["network"] == "uncus")
    assert ours["flop"] > 1e6
    for row in part["rows"]:
        rate = ours["flop"] / row["step_ms"]["median"] / 1e9
        assert row["of_matrix_rate"] == pytest.approx(rate / part["matrix_tflop_s"])
        assert row["parameters"] == ours["parameters"]


@pytest.mark.parametrize("depth", [18, 50])
def test_both_networks_have_one_shape_and_only_group_norm(depth: int) -> None:
    ours, theirs = step.ours(depth, 8), step.monai(depth, 8)
    assert count_parameters(ours) == count_parameters(theirs)
    for network in (ours, theirs):
        norms = [type(m) for m in network.modules() if "Norm" in type(m).__name__]
        assert set(norms) == {GroupNorm}
        assert len(norms) == {18: 20, 50: 53}[depth]
