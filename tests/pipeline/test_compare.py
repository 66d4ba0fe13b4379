"""uncus compare: runs, table and page, and continuing after an interruption."""

import html
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.conftest import TRAIN
from uncus.data.files import sha256
from uncus.pipeline.cli import main
from uncus.pipeline.comparison.summary import at_batch
from uncus.pipeline.runs import Run

OPTIONS = [*TRAIN, "--epochs", "1", "--folds", "1", "--draws", "100"]


@pytest.fixture(scope="module")
def compared(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two norms at two batch sizes with two seeds."""
    out = tmp_path_factory.mktemp("compare") / "out"
    grid = ["--norms", "group", "batch", "--batch-sizes", "2", "4", "--seeds", "2"]
    assert main(["compare", str(cohort), str(out), *OPTIONS, *grid]) == 0
    return out


def test_a_comparison_writes_runs_a_table_and_a_page(compared: Path) -> None:
    result = json.loads((compared / "compare.json").read_text())
    assert result["metric"] == "error"
    assert {c["status"] for c in result["cells"]} == {"done"}
    for cell in result["cells"]:
        run = Run(compared / "cells" / cell["name"])
        run.verify()
        predictions = run.predictions()
        for seed, value in zip((0, 1), cell["metrics"]["error"]["seeds"], strict=True):
            some = predictions[predictions["seed"] == seed]
            called = np.where(some["p_AD"] > some["p_CN"], "AD", "CN")
            assert value == pytest.approx(float((called != some["true"]).mean()))
        rates = pd.read_csv(run.path / "fold-0_seed-0" / "metrics.csv")["lr"]
        assert rates.max() <= cell["lr"] + 1e-9
        assert cell["lr"] == pytest.approx(0.01 * math.sqrt(cell["batch_size"] / 2))
    splits = {sha256(p) for p in compared.glob("cells/*/splits.tsv")}
    assert len(splits) == 1
    difference = result["differences"][0]
    errors = {c["name"]: c["metrics"]["error"]["value"] for c in result["cells"]}
    expected = errors["batch-b2"] - errors["group-b2"]
    assert difference["error"]["value"] == pytest.approx(expected)
    page = (compared / "index.html").read_text()
    assert html.escape(at_batch(result, 2)) in page
    assert "http" not in page.replace("http://www.w3.org", "")
    table = pd.read_csv(compared / "table.tsv", sep="\t")
    assert set(table["metric"]) == {"error", "balanced_accuracy", "auc"}
    assert len(table) == 12


def test_an_interrupted_comparison_trains_nothing_twice(
    compared: Path, cohort: Path, tmp_path: Path
) -> None:
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
