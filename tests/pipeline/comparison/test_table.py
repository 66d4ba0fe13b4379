"""Intervals and paired differences."""

import numpy as np
import pytest

from uncus.pipeline.comparison.table import mean_over_seeds


def test_seeds_are_resampled_in_the_same_way_for_all_cells() -> None:
    rng = np.random.default_rng(0)
    one = [rng.standard_normal(101) for _ in range(3)]
    two = [values + 2 for values in one]
    assert mean_over_seeds(one, 5)[0] == pytest.approx(np.mean([v[0] for v in one]))
    assert np.allclose(mean_over_seeds(two, 5) - mean_over_seeds(one, 5), 2)
