"""Two runs compared on the scans that both predicted."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import TRAIN
from tests.pipeline.test_evaluate import CN_AD, people, predictions
from uncus.data.design.splits import make_splits
from uncus.data.design.targets import Target
from uncus.data.errors import BadInput
from uncus.data.tables import read_table
from uncus.pipeline.cli import main
from uncus.pipeline.evaluation.paired import compare
from uncus.pipeline.evaluation.predictions import Predicted, Study
from uncus.pipeline.runs import Run


def predicted(seed: int, skill: float, n: int = 120, target: Target = CN_AD) -> Predicted:
    scans = people(n)
    splits = make_splits(scans, folds=3, seed=seed)
    return Predicted(
        Study.of(scans, target, splits), predictions(scans, splits, target, skill=skill)
    )


def test_a_difference_is_paired_and_has_a_direction() -> None:
    good, bad = predicted(0, 2.0), predicted(1, 0.5)
    ahead = compare(good, bad, "bad", 200, 0)
    behind = compare(bad, good, "good", 200, 0)
    assert ahead["counts"]["scans"] == 120
    found = ahead["differences"]["auc"]
    assert found["value"] == pytest.approx(
        ahead["metrics"]["auc"]["value"] - ahead["other"]["auc"]["value"]
    )
    assert found["low"] > 0, "a clear difference"
    assert found["value"] == pytest.approx(-behind["differences"]["auc"]["value"])
    same = compare(good, good, "itself", 200, 0)["differences"]
    assert all(entry["low"] == entry["high"] == 0 for entry in same.values() if entry["low"])
    assert same["auc"] == {"value": 0, "low": 0, "high": 0}


def test_only_scans_of_both_are_compared() -> None:
    more, fewer = predicted(0, 2.0), predicted(0, 1.0, n=60)
    common = compare(more, fewer, "fewer", 100, 0)
    reverse = compare(fewer, more, "more", 100, 0)
    assert common["counts"]["scans"] == reverse["counts"]["scans"] <= 60
    assert common["metrics"]["auc"]["value"] == reverse["other"]["auc"]["value"]


def test_other_targets_labels_and_scans_are_refused() -> None:
    ours = predicted(0, 2.0)
    other = Target.parse(["dx"], ["AD=AD", "CN=CN"])
    with pytest.raises(BadInput, match="it predicts AD, CN, not CN, AD"):
        compare(ours, predicted(0, 2.0, target=other), "b", 100, 0)
    swapped = Target.parse(["dx"], ["CN=AD", "AD=CN"])
    with pytest.raises(BadInput, match="labels the same scans otherwise"):
        compare(ours, predicted(0, 2.0, target=swapped), "b", 100, 0)
    theirs = predicted(0, 2.0)
    for table in (theirs.study.scans, theirs.predictions, theirs.study.splits.frame):
        table["participant_id"] = "sub-x" + table["participant_id"].str.removeprefix("sub-")
    with pytest.raises(BadInput, match="no scan in common"):
        compare(ours, theirs, "b", 100, 0)


def test_the_command_writes_prints_and_shows_it(
    run: Path, cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy, other = Path(shutil.copytree(run, tmp_path / "run")), tmp_path / "sfcn"
    assert main(["train", str(cohort), str(other), *TRAIN, "--epochs", "1", "--seed", "4"]) == 0
    capsys.readouterr()
    assert main(["evaluate", str(copy), "--against", str(other), "--draws", "100"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "Compared with sfcn on 12 scans of 12 subjects" in printed and "significant" in printed
    trained = Run(copy)
    against = trained.report()["against"]
    table = read_table(other / "predictions.tsv")
    hit = (table["p_AD"].astype(float) > 0.5) == (table["true"] == "AD")
    assert against["other"]["accuracy"]["value"] == pytest.approx(np.mean(hit))
    assert against["metrics"] == trained.report()["metrics"]
    assert "Compared with sfcn" in trained.report_page.read_text()
