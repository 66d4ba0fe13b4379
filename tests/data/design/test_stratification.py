"""Folds are alike in class, sex, age and other columns."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.data.design.subjects import counts, random_subjects
from uncus.data.cohorts.readers import read_cohort
from uncus.data.design.row_filter import select
from uncus.data.design.splits import make_splits
from uncus.data.design.stratification import describe_subjects, strata
from uncus.data.design.targets import Target, labelled
from uncus.data.errors import BadInput

OASIS = Path(__file__).parents[4] / "shared" / "mri" / "oasis1-slab"


@pytest.mark.parametrize("seed", range(5))
def test_folds_are_alike_even_in_small_strata(seed: int) -> None:
    table, y = random_subjects(83, seed)
    splits = make_splits(table, y, folds=5, seed=seed)
    rows = table.assign(y=y).drop_duplicates("participant_id").set_index("participant_id")
    for _, some in [*rows.groupby("y"), *rows.groupby(["y", "sex"])]:
        per_fold = [len(splits.subjects(fold, "test") & set(some.index)) for fold in range(5)]
        assert max(per_fold) - min(per_fold) <= 1
    sexes = [
        [int((rows.loc[sorted(splits.subjects(k, "test")), "sex"] == s).sum()) for k in range(5)]
        for s in "FM"
    ]
    assert all(max(sex) - min(sex) <= 2 for sex in sexes)


def test_age_is_alike_in_the_folds() -> None:
    gaps = []
    for seed in range(5):
        table, y = random_subjects(100, 3)
        splits = make_splits(table, y, folds=5, seed=seed)
        age = table.drop_duplicates("participant_id").set_index("participant_id")["age"]
        means = [age[list(splits.subjects(k, "test"))].astype(float).mean() for k in range(5)]
        gaps.append(np.std(means))
    # Drawn at random, the mean of 20 subjects of SD 10 years has an SD of 10 / sqrt(20) = 2.2.
    assert np.mean(gaps) < 1.3


def test_continuous_targets_are_balanced_by_quintile() -> None:
    table, _ = random_subjects(100)
    y = table["age"].astype(float).to_numpy().copy()
    y[:4] = np.nan
    splits = make_splits(table.drop(columns="age"), y[:, None], folds=5)
    age = pd.Series(y, index=table["participant_id"])
    age = age[~age.index.duplicated()]
    fifth = np.searchsorted(np.nanquantile(y, [0.2, 0.4, 0.6, 0.8]), age, side="right")
    for group in (*range(5), np.nan):
        same = age.isna() if np.isnan(group) else age.notna() & (fifth == group)
        per_fold = [len(splits.subjects(k, "test") & set(age.index[same])) for k in range(5)]
        assert max(per_fold) - min(per_fold) <= 1
    assert sum(counts(splits, "test")) == 100


def test_unlabelled_subjects_are_spread_too() -> None:
    table, y = random_subjects(100)
    table, y = table.drop_duplicates("participant_id"), y[~table["participant_id"].duplicated()]
    y[::2] = -1
    splits = make_splits(table, y, folds=5)
    for label in (-1, 0, 1):
        names = set(table["participant_id"][y == label])
        per_fold = [len(names & splits.subjects(k, "test")) for k in range(5)]
        assert max(per_fold) - min(per_fold) <= 1


def test_further_columns_are_spread() -> None:
    table, y = random_subjects(80)
    splits = make_splits(table, y, folds=4, stratify=["site"])
    rows = table.assign(y=y).drop_duplicates("participant_id").set_index("participant_id")
    for _, some in rows.groupby(["y", "site"]):
        per_fold = [len(splits.subjects(k, "test") & set(some.index)) for k in range(4)]
        assert max(per_fold) - min(per_fold) <= 1
    with pytest.raises(BadInput, match="no column 'scanner'"):
        make_splits(table, y, stratify=["scanner"])


@pytest.mark.skipif(not OASIS.is_dir(), reason="../shared/mri/oasis1-slab is absent")
def test_oasis_folds_are_balanced() -> None:
    rows = select(read_cohort(OASIS).table(), "age >= 60 and cdr is not missing")
    table, y, _ = labelled(rows, Target.parse(["cdr"], ["CN=0", "AD=0.5,1,2"]))
    splits = make_splits(table, y, folds=5, seed=0)
    positives, ages = [], []
    for fold in range(5):
        test = table["participant_id"].isin(splits.subjects(fold, "test")).to_numpy()
        positives.append(int(y[test].sum()))
        ages.append(float(table.loc[test, "age"].astype(float).mean()))
    assert sorted(positives) == [14] * 5
    assert np.ptp(ages) < 2.5


def test_one_cell_of_text_leaves_a_column_its_quintiles() -> None:
    cells = [str(age) for age in range(60, 100)]
    expected = strata(cells)
    assert set(expected) == {"0.0", "1.0", "2.0", "3.0", "4.0"}
    assert strata([*cells, "89+", "unknown"])[:-2] == strata([*cells, "89", ""])[:-2]
    assert strata(["A", "B", "1"]) == ["A", "B", "1"]


def test_ages_that_are_limits_are_sorted_among_the_others() -> None:
    table = pd.DataFrame({"participant_id": ["sub-1", "sub-2"], "age": ["60", "89+"]})
    assert describe_subjects(table, None)["age"].tolist() == [60, 89]


def test_age_and_sex_are_found_in_any_case() -> None:
    table, y = random_subjects(40, 2)
    shouted = table.rename(columns={"age": "AGE", "sex": "Sex"})
    one, two = (make_splits(some, y, folds=4) for some in (table, shouted))
    pd.testing.assert_frame_equal(one.frame, two.frame)
