"""Starting from another run: no fold is tested on a person, or a scan, that its weights saw."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from tests.conftest import TRAIN
from uncus.data import files
from uncus.data.cohorts.scans import write_table
from uncus.data.design.splits import Splits
from uncus.data.errors import BadInput
from uncus.pipeline.cli import main
from uncus.pipeline.runs import Run
from uncus.pipeline.training.pretraining import check, seen

Parts = dict[str, list[str]]
"""Subject -> its part in each fold."""

PARTS: Parts = {
    "sub-a": ["test", "train"],
    "sub-b": ["validation", "test"],
    "sub-c": ["train", "validation"],
    "sub-d": ["train", "train"],
    "sub-h": ["holdout", "holdout"],
}


def as_splits(parts: Parts) -> Splits:
    frame = pd.DataFrame(
        [
            {"participant_id": subject, **{f"fold-{k}": part for k, part in enumerate(row)}}
            for subject, row in parts.items()
        ]
    )
    return Splits(frame)


def scans(parts: Parts) -> pd.DataFrame:
    """One scan a subject; the hash is the subject's letter."""
    rows = [{"participant_id": name, "voxel_hash": name[-1] * 8} for name in parts]
    return pd.DataFrame(rows)


Make = Callable[..., Run]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Writes what a run folder says about who was seen."""

    def write(name: str, parts: Parts, init_from: Path | None = None) -> Run:
        run = Run(tmp_path / name)
        files.write_json(run.config_path, {"init_from": init_from})
        as_splits(parts).save(run.splits_path)
        write_table(run.scans_path, scans(parts))
        return run

    return write


def refusal(run: Run, parts: Parts, table: pd.DataFrame | None = None) -> str:
    with pytest.raises(BadInput) as caught:
        check(run, as_splits(parts), scans(parts) if table is None else table)
    return str(caught.value)


def test_what_a_fold_saw(make: Make) -> None:
    run = make("run", PARTS)
    assert seen(run, 0).subjects == {"sub-b", "sub-c", "sub-d"}
    assert seen(run, 1).subjects == {"sub-a", "sub-c", "sub-d"}
    assert seen(run, 1).voxels == {"a" * 8, "c" * 8, "d" * 8}


def test_the_same_folds_pass_and_exchanged_ones_do_not(make: Make) -> None:
    run = make("run", PARTS)
    check(run, as_splits(PARTS), scans(PARTS))
    exchanged = {name: row[::-1] for name, row in PARTS.items()}
    assert "sub-b, which fold 0 of the new run tests on" in refusal(run, exchanged)


def test_a_holdout_that_was_trained_on_is_refused(make: Make) -> None:
    held = {**PARTS, "sub-c": ["holdout", "holdout"]}
    assert "sub-c" in refusal(make("run", PARTS), held)


def test_the_same_voxels_under_another_name_are_refused(make: Make) -> None:
    run = make("run", PARTS)
    renamed = {name.replace("sub-", "sub-x"): row[::-1] for name, row in PARTS.items()}
    table = scans(renamed)
    assert not set(renamed) & set(PARTS)
    assert "sub-xb, which fold 0 of the new run tests on" in refusal(run, renamed, table)
    check(run, as_splits(renamed), table.assign(voxel_hash="other"))


def test_a_run_of_one_fold_saw_the_same_for_every_new_fold(make: Make) -> None:
    single = make("single", {"sub-a": ["train"], "sub-b": ["test"]})
    assert seen(single, 4).subjects == {"sub-a"}
    new = {"sub-b": ["test", "train", "train"], "sub-y": ["train", "test", "test"]}
    check(single, as_splits(new), scans(new))
    assert "sub-a, which fold 2" in refusal(single, {**new, "sub-a": ["train", "train", "test"]})


def test_other_numbers_of_folds_cannot_be_paired(make: Make) -> None:
    three = {name: [*row, row[0]] for name, row in PARTS.items()}
    assert "has 2 folds, the new run 3" in refusal(make("run", PARTS), three)


def test_the_pretraining_of_the_pretraining_counts(make: Make) -> None:
    first = make("first", {"sub-e": ["train", "train"], "sub-a": ["test", "test"]})
    second = make("second", PARTS, init_from=first.path)
    assert "sub-e" in seen(second, 0).subjects
    assert "e" * 8 in seen(second, 1).voxels
    later = {**PARTS, "sub-e": ["train", "test"]}
    assert "sub-e, which fold 1" in refusal(second, later)
    copied = {**PARTS, "sub-n": ["train", "test"]}
    table = scans(copied).replace({"voxel_hash": {"n" * 8: "e" * 8}})
    assert "sub-n, which fold 1" in refusal(second, copied, table)


def test_train_refuses_a_renamed_copy_of_the_cohort(
    source: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "copy"
    participants = (source / "participants.tsv").read_text().replace("sub-", "sub-other")
    for path in source.glob("sub-*/anat/*.nii.gz"):
        there = copy / str(path.relative_to(source)).replace("sub-", "sub-other")
        there.parent.mkdir(parents=True)
        there.write_bytes(path.read_bytes())
    (copy / "participants.tsv").write_text(participants)
    (copy / "dataset_description.json").write_text('{"Name": "copy", "BIDSVersion": "1.9.0"}')
    # other voxels on disk, but the hash is that of the scan, whatever grid it is brought onto
    prepare = ["prepare", str(copy), str(tmp_path / "cohort"), "--spacing", "5", "--workers", "1"]
    assert main(prepare) == 0
    capsys.readouterr()
    options = [*TRAIN, "--seed", "3", "--init-from", str(run)]
    assert main(["train", str(tmp_path / "cohort"), str(tmp_path / "run"), *options]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "sub-other" in error
    assert "of the new run tests on" in error
    assert not (tmp_path / "run" / "model").exists()
