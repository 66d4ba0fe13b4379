"""Folds by subject, held-out subjects, and the check for leakage."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.data.design.subjects import counts, random_subjects
from uncus.data.design.splits import Splits, check_leakage, holdout_subjects, make_splits
from uncus.data.errors import BadInput


def test_every_subject_is_tested_once_and_is_in_one_part() -> None:
    table, y = random_subjects(61)
    splits = make_splits(table, y, folds=5)
    everyone = set(table["participant_id"])
    tested = [splits.subjects(fold, "test") for fold in range(5)]
    assert sorted(name for test in tested for name in test) == sorted(everyone)
    for fold in range(5):
        parts = [splits.subjects(fold, part) for part in ("train", "validation", "test")]
        assert set().union(*parts) == everyone
        assert sum(map(len, parts)) == len(everyone)
    assert sorted(counts(splits, "test")) == [12, 12, 12, 12, 13]
    assert set(counts(splits, "validation")) <= {7, 8}  # 15% of 49 or 48


def test_splits_depend_on_the_seed_but_not_on_the_order_of_rows() -> None:
    table, y = random_subjects(60)
    splits = make_splits(table, y, seed=1)
    order = np.random.default_rng(0).permutation(len(table))
    again = make_splits(table.iloc[order], y[order], seed=1)
    assert again.frame.equals(splits.frame)
    other = make_splits(table, y, seed=2)
    together = [len(splits.subjects(0, "test") & other.subjects(k, "test")) for k in range(5)]
    assert max(together) < 9  # of 12: another seed mixes the folds, and does not only rename them


def test_one_fold_is_a_single_split() -> None:
    table, y = random_subjects(100)
    splits = make_splits(table, y, folds=1)
    assert (splits.folds, counts(splits, "test"), counts(splits, "validation")) == (1, [20], [12])


def test_validation_may_be_none_and_has_every_class_where_it_can() -> None:
    table, y = random_subjects(20)
    assert counts(make_splits(table, y, folds=2, validation=0), "validation") == [0, 0]
    y[:] = 0
    y[table["participant_id"].isin(sorted(set(table["participant_id"]))[:6])] = 1
    splits = make_splits(table, y, folds=2, validation=0.1)
    for fold in range(2):
        names = splits.subjects(fold, "validation")
        assert set(y[table["participant_id"].isin(names)]) == {0, 1}


def test_holdout_is_the_same_in_every_fold() -> None:
    table, y = random_subjects(50)
    held = sorted(set(table["participant_id"]))[:8]
    splits = make_splits(table, y, folds=3, holdout=[held[0].removeprefix("sub-"), *held[1:], "x"])
    assert all(splits.subjects(fold, "holdout") == set(held) for fold in range(3))
    assert sum(counts(splits, "test")) == 42
    with pytest.raises(BadInput, match="none of its subjects"):
        make_splits(table, y, holdout=["sub-unknown"])


@pytest.mark.parametrize(
    ("n", "options", "cause"),
    [
        (4, {"folds": 5}, "4 subjects for 5 folds"),
        (30, {"folds": 0}, "folds 0"),
        (30, {"validation": 0.9}, "validation 0.9"),
    ],
)
def test_impossible_splits_are_rejected(n: int, options: dict, cause: str) -> None:
    table, y = random_subjects(n)
    with pytest.raises(BadInput, match=cause):
        make_splits(table, y, **options)


def test_a_class_missing_from_training_is_rejected() -> None:
    table, y = random_subjects(30)
    y[:] = table["participant_id"] == "sub-007"
    with pytest.raises(BadInput, match="class 1 has 1 subjects, none left"):
        make_splits(table, y, folds=5)


def test_splits_are_saved_and_loaded(tmp_path: Path) -> None:
    table, y = random_subjects(30)
    splits = make_splits(table, y, folds=3, holdout=["sub-001"])
    splits.save(tmp_path / "splits.tsv")
    assert Splits.load(tmp_path / "splits.tsv").frame.equals(splits.frame)
    some = splits.restricted(["sub-001", "sub-002", "sub-003", "sub-004", "sub-005", "sub-006"])
    assert some.parts(0) == {k: v for k, v in splits.parts(0).items() if k in some.parts(0)}


@pytest.mark.parametrize(
    ("rows", "cause"),
    [
        (["participant_id\tfold-0", "sub-1\ttrain", "sub-1\ttest"], "duplicate subject sub-1"),
        (["participant_id\tfold-0", "sub-1\ttrain", "sub-2\ttests"], "'tests' in fold-0"),
        (["participant_id\tfold-0", "sub-1\ttrain", "sub-2\tn/a"], "'' in fold-0"),
        (["participant_id\tfold-0", "sub-1\ttest"], "fold-0 has no train"),
        (["participant_id\tfold-0", "sub-1\ttrain"], "fold-0 has no test"),
        (["participant_id\tfold-1", "sub-1\ttrain"], "name them participant_id, fold-0"),
        (["participant_id", "sub-1"], "name them participant_id, fold-0"),
        (["subject\tfold-0", "1\ttrain"], "no column 'participant_id'"),
        (["participant_id,fold-0", "sub-1,train"], r"a \.tsv file with commas"),
        (
            ["participant_id\tfold-0\tfold-1", "sub-1\tholdout\ttrain", "sub-2\ttrain\ttest"],
            "sub-1 is holdout in some folds only",
        ),
    ],
)
def test_invalid_split_files_are_rejected(tmp_path: Path, rows: list[str], cause: str) -> None:
    path = tmp_path / "splits.tsv"
    path.write_text("\n".join(rows) + "\n")
    with pytest.raises(BadInput, match=cause):
        Splits.load(path)


def split_of(**parts: str) -> Splits:
    names = [f"sub-{name}" for name in parts]
    return Splits(pd.DataFrame({"participant_id": names, "fold-0": list(parts.values())}))


def test_identical_images_in_two_parts_are_leakage() -> None:
    splits = split_of(a="train", b="test", c="train", d="validation")
    rows = pd.DataFrame(
        {"participant_id": ["sub-a", "sub-b", "sub-c", "sub-d"], "voxel_hash": ["1", "2", "1", "4"]}
    )
    check_leakage(splits, rows)  # identical images within one part are no leakage
    check_leakage(splits, pd.concat([rows, rows.iloc[:1]]))  # nor a subject's own second scan
    check_leakage(splits, rows.assign(participant_id=["sub-x", *rows["participant_id"][1:]]))
    for other in ("2", "4"):
        leaking = rows.assign(voxel_hash=["1", "2", other, "4"])
        with pytest.raises(BadInput, match=r"identical images .* of fold 0: sub-\w \("):
            check_leakage(splits, leaking)


def test_a_subject_in_two_parts_and_missing_hashes_are_rejected() -> None:
    splits = split_of(a="train", b="test")
    rows = pd.DataFrame({"participant_id": ["sub-a", "sub-b"], "voxel_hash": ["1", "2"]})
    frame = pd.concat([splits.frame, splits.frame.assign(**{"fold-0": ["test", "train"]})])
    object.__setattr__(splits, "frame", frame)
    with pytest.raises(BadInput, match="duplicate subject sub-a"):
        check_leakage(splits, rows)
    with pytest.raises(BadInput, match="no voxel_hash"):
        check_leakage(split_of(a="train", b="test"), rows.assign(voxel_hash=["1", ""]))
    with pytest.raises(BadInput, match="no column 'voxel_hash'"):
        check_leakage(split_of(a="train", b="test"), rows.drop(columns="voxel_hash"))


def test_a_fixed_test_set_from_an_expression_a_table_or_a_list(tmp_path: Path) -> None:
    table, _ = random_subjects(20)
    site_b = set(table.loc[table["site"] == "B", "participant_id"])
    assert holdout_subjects("site == 'B'", table) == site_b
    names = tmp_path / "test.txt"
    names.write_text("sub-001\n002  # checked by hand\n\n")
    assert holdout_subjects(str(names), table) == {"sub-001", "sub-002"}
    rows = tmp_path / "test.tsv"
    rows.write_text("participant_id\tage\n001\t60\n")
    assert holdout_subjects(str(rows), table) == {"sub-001"}
    names.write_text("sub-001\nsub-typo\n")
    with pytest.raises(BadInput, match="not in the cohort: sub-typo"):
        holdout_subjects(str(names), table)
    names.write_text("\n")
    with pytest.raises(BadInput, match="no participants"):
        holdout_subjects(str(names), table)
    with pytest.raises(BadInput, match="no column 'sit'"):
        holdout_subjects("sit == 'B'", table)
