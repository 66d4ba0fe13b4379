"""Verdicts on differences, with p corrected for their number."""

import numpy as np
import pytest

from uncus.pipeline.comparison.verdicts import compared, judged, spoken


def cell(seed: int, shift: float) -> dict[int, np.ndarray]:
    """Seed -> pseudovalues of 400 subjects around ``shift``."""
    rng = np.random.default_rng(seed)
    return {k: shift + rng.normal(0, 0.1, 400) for k in range(5)}


def test_a_family_has_each_kind_of_verdict() -> None:
    reference = cell(20, 0.2)
    family = [compared(cell(k + 1, 0.2 + d), reference, 1) for k, d in enumerate((0.1, -0.1, 0))]
    noisy = {k: v + np.random.default_rng(k).normal(0, 0.2) for k, v in cell(9, 0.2).items()}
    family.append(compared(noisy, reference, 1))
    found = judged(family, 0.03, lower_is_better=True)
    assert [one["verdict"] for one in found] == ["worse", "better", "equal", "inconclusive"]
    assert spoken(found[2], 0.03) == "equal within 0.030"
    assert found[3]["detectable"] > 0.1 > 0.03 > found[2]["detectable"]
    flipped = judged(family, 0.03, lower_is_better=False)
    assert [one["verdict"] for one in flipped] == ["better", "worse", "equal", "inconclusive"]
    assert judged(family, 0.2, True)[0]["small"]  # a difference, yet below what is worth seeing
    assert spoken(judged(family, 0.2, True)[0], 0.2) == "worse, by less than 0.200"


def test_differences_are_paired_by_the_seeds_that_both_have() -> None:
    one, other = cell(1, 0.3), cell(1, 0.2)
    found = compared({k: one[k] for k in (1, 2, 7) if k in one}, other, 1)
    assert found["seeds"] == 2 and found["value"] == pytest.approx(0.1)
    assert found["high"] - found["low"] < 1e-9


def test_one_seed_decides_nothing() -> None:
    """How networks vary is unknown then."""
    one, other = ({0: cell(k, shift)[0]} for k, shift in ((1, 0.9), (2, 0.2)))
    found = judged([compared(one, other, 1)], 0.03, True)[0]
    assert found["value"] > 0.6 and found["verdict"] == "inconclusive"


def test_p_is_corrected_for_the_number_of_differences() -> None:
    entry = compared(cell(3, 0.21), cell(4, 0.2), 1)
    alone, many = judged([entry], 0.03, True)[0], judged([entry] * 20, 0.03, True)[0]
    assert many["p"] == pytest.approx(min(1, 20 * alone["p"]))
    assert many["detectable"] > alone["detectable"]
