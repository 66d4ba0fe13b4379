"""Cells that cannot be trained, and cells that start from a pre-training."""

import json
from pathlib import Path

from tests.conftest import TRAIN
from uncus.data.prepared_cohort import PreparedCohort
from uncus.pipeline.cli import main
from uncus.pipeline.comparison.summary import plain_summary
from uncus.pipeline.runs import Run

OPTIONS = [*TRAIN, "--epochs", "1", "--folds", "1"]


def test_a_cell_that_cannot_be_trained_is_not_an_error(cohort: Path, tmp_path: Path) -> None:
    # a resnet halves 16 voxels five times, to a single one
    options = [*OPTIONS, "--backbone", "resnet10", "--width", "8", "--stem-pool"]
    grid = ["--norms", "group", "batch", "--batch-sizes", "1", "--seeds", "1"]
    assert main(["compare", str(cohort), str(tmp_path / "out"), *options, *grid]) == 0
    result = json.loads((tmp_path / "out" / "compare.json").read_text())
    status = {c["norm"]: c["status"] for c in result["cells"]}
    assert status == {"group": "done", "batch": "cannot"}
    assert "one value per channel" in result["cells"][1]["reason"]
    assert "not trainable: batch" in plain_summary(result)


def test_a_comparison_goes_on_with_more_seeds(cohort: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = [*OPTIONS, "--norms", "group", "--batch-sizes", "2", "--seeds"]
    assert main(["compare", str(cohort), str(out), *options, "2"]) == 0
    before = Run(out / "cells" / "group-b2").weights_sums()
    assert main(["compare", str(cohort), str(out), *options, "3"]) == 0
    cell = Run(out / "cells" / "group-b2")
    after = cell.weights_sums()
    assert {name: after[name] for name in before} == before and len(after) == 3
    assert cell.verify()
    result = json.loads((out / "compare.json").read_text())
    assert len(result["cells"][0]["metrics"]["error"]["seeds"]) == 3
    assert main(["compare", str(cohort), str(out), *options, "2"]) == 2, "fewer are refused"


def test_cells_and_their_pretraining_use_the_same_folds(cohort: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = ["--norms", "batch", "--batch-sizes", "2", "--seeds", "1", "--transfer", "age"]
    assert main(["compare", str(cohort), str(out), *OPTIONS, *options]) == 0
    result = json.loads((out / "compare.json").read_text())
    assert [c["start"] for c in result["cells"]] == ["scratch", "tuned", "frozen"]
    pretrained = Run(out / "pretrained" / "batch-b2")
    trained = pretrained.splits().subjects(0, "train") | pretrained.splits().subjects(
        0, "validation"
    )
    for name in ("batch-b2", "batch-b2-tuned", "batch-b2-frozen"):
        assert not Run(out / "cells" / name).splits().subjects(0, "test") & trained


def test_cells_and_their_pretraining_take_the_splits_of_a_file(
    cohort: Path, tmp_path: Path
) -> None:
    ids = dict.fromkeys(PreparedCohort.open(cohort).table["participant_id"])
    parts = {name: ("test", "train", "train")[k % 3] for k, name in enumerate(ids)}
    rows = [f"{name}\t{part}" for name, part in parts.items()]
    splits = tmp_path / "splits.tsv"
    splits.write_text("\n".join(["participant_id\tfold-0", *rows]) + "\n")
    options = ["--norms", "group", "--batch-sizes", "2", "--seeds", "1", "--transfer", "age"]
    command = ["compare", str(cohort), str(tmp_path / "out"), *OPTIONS, *options]
    assert main([*command, "--splits", str(splits)]) == 0
    for name in ("cells/group-b2-tuned", "cells/group-b2", "pretrained/group-b2"):
        tested = Run(tmp_path / "out" / name).splits().subjects(0, "test")
        assert tested <= {one for one, part in parts.items() if part == "test"} and tested
