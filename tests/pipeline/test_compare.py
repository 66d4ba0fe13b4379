"""uncus compare: the rule, the grid, cells that cannot be, intervals, and going on after a kill."""

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.conftest import TRAIN
from uncus.data.files import sha256
from uncus.models.build import ModelConfig
from uncus.pipeline.cli import main
from uncus.pipeline.comparison import page
from uncus.pipeline.comparison.cells import Cell, check_norm, grid, model_of, optimization_of
from uncus.pipeline.comparison.table import crossed
from uncus.pipeline.runs import Run
from uncus.pipeline.training.optimization import Optimization

OPTIONS = [*TRAIN, "--epochs", "1", "--folds", "1", "--draws", "100"]


@pytest.fixture(scope="module")
def compared(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two norms at two batch sizes with two seeds."""
    out = tmp_path_factory.mktemp("compare") / "out"
    grid = ["--norms", "group", "batch", "--batch-sizes", "2", "4", "--seeds", "2"]
    assert main(["compare", str(cohort), str(out), *OPTIONS, *grid]) == 0
    return out


@pytest.mark.parametrize(("rule", "factor"), [("sqrt", 2.0), ("linear", 4.0), ("none", 1.0)])
def test_the_rule(rule: str, factor: float) -> None:
    base = Optimization(lr=1e-3, weight_decay=0.02)
    cell = optimization_of(base, 8, 2, rule)  # type: ignore[arg-type]
    assert cell.lr == pytest.approx(1e-3 * factor)
    assert cell.batch_size == 8
    # a quarter of the steps shrinks the weights by the same share an epoch
    assert cell.lr * cell.weight_decay / 4 == pytest.approx(base.lr * base.weight_decay)
    assert optimization_of(base, 2, 2, rule) == replace(base, batch_size=2)  # type: ignore[arg-type]


def test_groups_are_compared_where_there_are_groups() -> None:
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


def test_a_cell_is_its_norm_in_the_network_of_all() -> None:
    base = ModelConfig(width=32)
    assert model_of(Cell("group", None, 2), base, 8) == replace(base, groups=8)
    assert model_of(Cell("group", 4, 2), base, 8) == replace(base, groups=4)
    assert model_of(Cell("batch_group", None, 2), base, 8) == replace(base, norm="batch_group")
    standardized = replace(base, groups=8, weight_standardization=True)
    assert model_of(Cell("group+ws", None, 2), base, 8) == standardized
    sized = replace(base, channels_per_group=4)
    assert model_of(Cell("group", None, 2), sized, 8) == sized


def test_a_comparison_leaves_runs_a_table_and_a_page(compared: Path) -> None:
    found = json.loads((compared / "compare.json").read_text())
    assert found["metric"] == "error"
    assert {c["status"] for c in found["cells"]} == {"done"}
    for cell in found["cells"]:
        run = Run(compared / "cells" / cell["name"])
        run.verify()
        told = run.predictions()
        for seed, value in zip((0, 1), cell["metrics"]["error"]["seeds"], strict=True):
            some = told[told["seed"] == seed]
            called = np.where(some["p_AD"] > some["p_CN"], "AD", "CN")
            assert value == pytest.approx(float((called != some["true"]).mean()))
        rates = [v for v in pd.read_csv(run.path / "fold-0_seed-0" / "metrics.csv")["lr"]]
        assert max(rates) <= cell["lr"] + 1e-9
        assert cell["lr"] == pytest.approx(0.01 * math.sqrt(cell["batch_size"] / 2))
    splits = {sha256(p) for p in compared.glob("cells/*/splits.tsv")}
    assert len(splits) == 1
    difference = found["differences"][0]
    values = {(c["line"], c["batch_size"]): c["metrics"]["error"]["value"] for c in found["cells"]}
    expected = values["batch", 2] - values["group", 2]
    assert difference["error"]["value"] == pytest.approx(expected)
    page = (compared / "index.html").read_text()
    assert "At batch 2, group has error" in page
    assert "http" not in page.replace("http://www.w3.org", "")
    table = pd.read_csv(compared / "table.tsv", sep="\t")
    assert set(table["metric"]) == {"error", "balanced_accuracy", "auc"}
    assert len(table) == 12


def test_it_goes_on_and_trains_nothing_twice(compared: Path, cohort: Path, tmp_path: Path) -> None:
    broken = tmp_path / "out"
    shutil.copytree(compared, broken)
    shutil.rmtree(broken / "cells" / "batch-b4" / "model")
    kept = broken / "cells" / "group-b2" / "model" / "fold-0_seed-0.safetensors"
    before = kept.stat().st_mtime_ns
    lost = "cells/batch-b4/model/fold-0_seed-1.safetensors"
    grid = ["--norms", "group", "batch", "--batch-sizes", "2", "4", "--seeds", "2"]
    assert main(["compare", str(cohort), str(broken), *OPTIONS, *grid]) == 0
    assert kept.stat().st_mtime_ns == before
    assert sha256(broken / lost) == sha256(compared / lost)
    assert json.loads((broken / "compare.json").read_text())["cells"][0]["status"] == "done"


def test_a_cell_that_cannot_be_is_no_failure(cohort: Path, tmp_path: Path) -> None:
    # 16 voxels an edge are one voxel after a resnet's five halvings
    options = [*OPTIONS, "--backbone", "resnet10", "--width", "8", "--stem-pool"]
    grid = ["--norms", "group", "batch", "--batch-sizes", "1", "--seeds", "1"]
    assert main(["compare", str(cohort), str(tmp_path / "out"), *options, *grid]) == 0
    found = json.loads((tmp_path / "out" / "compare.json").read_text())
    status = {c["norm"]: c["status"] for c in found["cells"]}
    assert status == {"group": "done", "batch": "cannot"}
    assert "one value per channel" in found["cells"][1]["reason"]
    assert "cannot be trained" in page.plain_summary(found)


def test_transfer_shares_folds_and_freezes(cohort: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = ["--norms", "batch", "--batch-sizes", "2", "--seeds", "1", "--transfer", "age"]
    assert main(["compare", str(cohort), str(out), *OPTIONS, *options]) == 0
    found = json.loads((out / "compare.json").read_text())
    assert [c["start"] for c in found["cells"]] == ["scratch", "tuned", "frozen"]
    pretrained = Run(out / "pretrained" / "batch-b2")
    seen = pretrained.splits().subjects(0, "train") | pretrained.splits().subjects(0, "validation")
    for name in ("batch-b2", "batch-b2-tuned", "batch-b2-frozen"):
        assert not Run(out / "cells" / name).splits().subjects(0, "test") & seen


def test_seeds_are_drawn_alike_for_every_cell() -> None:
    rng = np.random.default_rng(0)
    one = [rng.standard_normal(101) for _ in range(3)]
    two = [values + 2 for values in one]
    assert crossed(one, 5)[0] == pytest.approx(np.mean([v[0] for v in one]))
    assert np.allclose(crossed(two, 5) - crossed(one, 5), 2)


def test_readings() -> None:
    def cell(line: str, value: float) -> dict[str, object]:
        found = {"value": value, "low": value - 0.05, "high": value + 0.05}
        return {"line": line, "batch_size": 2, "status": "done", "metrics": {"error": found}}

    def minus(line: str, value: float) -> dict[str, object]:
        found = {"value": value, "low": value - 0.05, "high": value + 0.05}
        return {"line": line, "batch_size": 2, "error": found}

    found = {
        "metric": "error",
        "lower_is_better": True,
        "reference": "group",
        "batch_sizes": [2],
        "cells": [cell("group", 0.2), cell("instance", 0.21), cell("batch", 0.4)],
        "differences": [minus("instance", 0.01), minus("batch", 0.2)],
    }
    said = page.at_batch(found, 2)
    assert "instance cannot be told from it" in said
    assert "worse than it is batch by 0.200 (0.150 to 0.250)" in said
