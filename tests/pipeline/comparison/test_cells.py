"""The cells of a comparison, and the rule that makes them comparable."""

from dataclasses import replace

import pytest

from uncus.models.build import ModelConfig
from uncus.pipeline.comparison.cells import Cell, check_norm, grid, model_of, optimization_of
from uncus.pipeline.training.optimization import Optimization


@pytest.mark.parametrize(("rule", "factor"), [("sqrt", 2.0), ("linear", 4.0), ("none", 1.0)])
def test_learning_rate_and_weight_decay_scale_with_the_batch(rule: str, factor: float) -> None:
    base = Optimization(lr=1e-3, weight_decay=0.02)
    cell = optimization_of(base, 8, 2, rule)  # type: ignore[arg-type]
    assert cell.lr == pytest.approx(1e-3 * factor)
    assert cell.batch_size == 8
    # weights shrink by the same share per epoch, in a quarter of the steps
    assert cell.lr * cell.weight_decay / 4 == pytest.approx(base.lr * base.weight_decay)
    assert optimization_of(base, 2, 2, rule) == replace(base, batch_size=2)  # type: ignore[arg-type]


def test_several_groups_are_compared_for_norms_with_groups() -> None:
    cells = grid(("group", "batch"), (2, 4), (1, 8))
    assert [c.name for c in cells] == [
        "group-g2-b1",
        "group-g2-b8",
        "group-g4-b1",
        "group-g4-b8",
        "batch-b1",
        "batch-b8",
    ]
    assert Cell("group", 1, 2, "frozen").line == "group (1 group, pre-trained, frozen)"
    with pytest.raises(ValueError, match="did you mean 'group'"):
        check_norm("grup")


def test_the_network_of_a_cell_differs_in_its_norm() -> None:
    base = ModelConfig(width=32)
    assert model_of(Cell("group", None, 2), base, 8) == replace(base, groups=8)
    assert model_of(Cell("group", 4, 2), base, 8) == replace(base, groups=4)
    assert model_of(Cell("batch_group", None, 2), base, 8) == replace(base, norm="batch_group")
    standardized = replace(base, groups=8, weight_standardization=True)
    assert model_of(Cell("group+ws", None, 2), base, 8) == standardized
    sized = replace(base, channels_per_group=4)
    assert model_of(Cell("group", None, 2), sized, 8) == sized
