"""Centiles are the table's, and monotonous in between."""

import numpy as np
import pytest

from uncus.data.segmentation.centiles import DLMUSE_REGIONS, LEVELS, TABLES, load_curves


def test_the_table_gives_its_own_centiles() -> None:
    curves = load_curves()
    assert curves.keys() == {(sex, region) for sex in TABLES for region in DLMUSE_REGIONS}
    for one in curves.values():
        for age in (one.ages[0], 70, one.ages[-1]):
            row = one.volumes[np.flatnonzero(one.ages == age)[0]]
            found = [one.centile(age, ml) for ml in row]
            assert found == pytest.approx(LEVELS, abs=1e-6)


def test_known_figures() -> None:
    curves = load_curves()
    women = curves["F", "left hippocampus"]
    assert women.volumes[women.ages == 70].tolist() == [[2.983, 3.305, 3.519, 3.726, 4.015]]
    assert women.centile(70, 3.519) == pytest.approx(50)
    assert curves["M", "left hippocampus"].centile(70, 3.519) < 25
    assert curves["M", "brain"].ages[[0, -1]].tolist() == [40, 92]


def test_between_the_curves_and_the_ages() -> None:
    for one in load_curves().values():
        ml = np.linspace(0.5, 1.5, 101) * one.volumes.mean()
        found = np.array([one.centile(63.5, value) for value in ml])
        assert (np.diff(found) >= 0).all() and found.min() >= 5 - 1e-9 and found.max() <= 95 + 1e-9
    women = load_curves()["F", "brain"]
    middle = (women.volumes[women.ages == 70] + women.volumes[women.ages == 71])[0, 2] / 2
    assert women.centile(70.5, middle) == pytest.approx(50)
    # Halfway from the 25th to the 50th, the normal distribution is at its 36.8th.
    assert women.centile(70, np.mean(women.volumes[women.ages == 70][0, 1:3])) == pytest.approx(
        36.8, abs=0.1
    )


def test_old_and_young_people_are_outside() -> None:
    men = load_curves()["M", "brain"]
    assert not men.covers(39.9) and men.covers(40) and men.covers(92) and not men.covers(92.1)
