"""The planned numbers have the power that they promise."""

import numpy as np
import pytest
from scipy import stats

from uncus.pipeline.comparison.crossed import Components, estimate
from uncus.pipeline.comparison.sample_size import (
    power_of_equality,
    power_to_see,
    subjects_needed,
)

PARTS = Components(subject=0.02, network=0.0002, rest=0.06)


def test_many_seeds_without_an_effect_of_their_own_are_a_paired_t_test() -> None:
    """n = ((1.96 + 0.84) sd / d)^2, for one value of each subject."""
    parts = Components(subject=0.09, network=0.0, rest=1e-9)
    needed = subjects_needed(power_to_see, parts, 0.03, 0.05, 1, 20)
    z = stats.norm.ppf(0.975) + stats.norm.ppf(0.8)
    assert needed == pytest.approx(0.09 * (z / 0.03) ** 2, rel=0.02)


def test_the_fewest_subjects_are_two() -> None:
    certain = Components(subject=1e-9, network=0.0, rest=1e-9)
    assert subjects_needed(power_to_see, certain, 0.03, 0.05, 1, 5) == 2
    sizes = [Components(subject=s, network=0.0, rest=s / 9) for s in np.geomspace(1e-6, 1e-2, 40)]
    for parts in sizes:
        needed = subjects_needed(power_to_see, parts, 0.03, 0.05, 1, 5)
        assert power_to_see(parts, 0.03, 0.05, needed, 1, 5) >= 0.8


def test_networks_limit_what_any_number_of_subjects_can_show() -> None:
    parts = Components(subject=0.02, network=0.01, rest=0.06)
    assert subjects_needed(power_to_see, parts, 0.03, 0.05, 1, 5) is None
    few, many = (subjects_needed(power_to_see, PARTS, 0.03, 0.05, 1, s) for s in (3, 20))
    assert few is None or few > many
    in_folds = subjects_needed(power_to_see, PARTS, 0.03, 0.05, 5, 5)
    assert in_folds < subjects_needed(power_to_see, PARTS, 0.03, 0.05, 1, 5)


@pytest.mark.parametrize("power", [power_to_see, power_of_equality])
def test_a_planned_study_succeeds_as_often_as_planned(power) -> None:
    subjects = subjects_needed(power, PARTS, 0.03, 0.05, 1, 8)
    rng, found = np.random.default_rng(0), []
    true = 0.03 if power is power_to_see else 0.0
    for _ in range(400):
        values = (
            true
            + rng.normal(0, PARTS.subject**0.5, subjects)
            + rng.normal(0, PARTS.network**0.5, (8, 1))
            + rng.normal(0, PARTS.rest**0.5, (8, subjects))
        )
        one = estimate(values)
        found.append((one.p if power is power_to_see else one.p_equal(0.03)) < 0.05)
    assert 0.7 < np.mean(found) < 0.9
