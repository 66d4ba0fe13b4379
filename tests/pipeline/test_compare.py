"""uncus compare: runs, table and page, and continuing after an interruption."""

import html
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.conftest import TRAIN
from uncus.data.files import sha256
from uncus.pipeline.cli import main
from uncus.pipeline.comparison.summary import at_batch
from uncus.pipeline.runs import Run

OPTIONS = [*TRAIN, "--epochs", "1", "--folds", "1"]


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


def test_jobs_of_a_cell_each_make_the_same_comparison(
    compared: Path, cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    grid = ["--norms", "group", "batch", "--batch-sizes", "2", "4", "--seeds", "2"]
    command = ["compare", str(cohort), str(out)]
    assert main([*command, *OPTIONS, *grid, "--only", "group-b2", "seed-1"]) == 0
    assert not (out / "compare.json").exists()
    for only in (["group-b2"], ["batch-b2", "batch-b4"], ["group-b4", "seed-0"]):
        assert main([*command, "--only", *only]) == 0
    assert main([*command, "--finish"]) == 2
    assert "fold-0_seed-1 is not trained" in capsys.readouterr().err
    assert main([*command, "--only", "group-b4"]) == 0
    assert main([*command, "--finish"]) == 0
    one, two = (json.loads((path / "compare.json").read_text()) for path in (compared, out))
    for cell in (*one["cells"], *two["cells"]):
        cell.pop("seconds")
    assert two["cells"] == one["cells"] and two["differences"] == one["differences"]
    assert main([*command, "--only", "layer-b2"]) == 2
    assert "--only layer-b2: must be of group-b2, group-b4" in capsys.readouterr().err


def test_a_refused_comparison_leaves_nothing(cohort: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for wrong in (["--target", "tremor"], ["--folds", "20"], ["--only", "fold-7"]):
        assert main(["compare", str(cohort), str(out), *OPTIONS, *wrong]) == 2
        assert not out.exists()


def test_an_unknown_metric_is_refused_before_training(
    cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["compare", str(cohort), str(out), *OPTIONS, "--metric", "aucc"]) == 2
    assert "--metric aucc: unknown; choose from error, balanced" in capsys.readouterr().err
    assert not out.exists()


def test_cells_that_cannot_be_paired_are_refused(
    compared: Path, cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    grid = ["--norms", "group", "batch", "--batch-sizes", "2", "4", "--seeds", "2"]

    def refused(name: str, change: Callable[[Path], None]) -> str:
        """The error of a comparison one of whose cells is changed."""
        broken = tmp_path / name
        shutil.copytree(compared, broken)
        change(broken / "cells" / "batch-b2")
        command = ["compare", str(cohort), str(broken), *OPTIONS, *grid, "--so-far"]
        assert main(command) == 2
        error = capsys.readouterr().err
        assert len(error.splitlines()) == 1 and "batch-b2" in error
        return error

    def without_a_subject(cell: Path) -> None:
        path = cell / "fold-0_seed-1" / "predictions.tsv"
        table = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
        table = table[table["participant_id"] != table["participant_id"][0]]
        table.to_csv(path, sep="\t", index=False)

    def other_folds(cell: Path) -> None:
        path = cell / "splits.tsv"
        table = pd.read_csv(path, sep="\t", dtype=str)
        table.loc[(table["fold-0"] == "train").idxmax(), "fold-0"] = "validation"
        table.to_csv(path, sep="\t", index=False)

    def without_seconds(cell: Path) -> None:
        (cell / "fold-0_seed-1" / "metrics.csv").write_text("x,y\n1,2\n")

    error = refused("subjects", without_a_subject)
    assert "networks of seed 1 tested other subjects than group-b2" in error
    assert "has other folds than group-b2" in refused("folds", other_folds)
    assert "metrics.csv: no column 'seconds'" in refused("seconds", without_seconds)


def test_a_comparison_is_shown_so_far_and_plans_its_size(
    compared: Path, cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "out"
    shutil.copytree(compared, broken)
    shutil.rmtree(broken / "cells" / "batch-b4")
    for lost in ("predictions.tsv", "model/SHA256SUMS", "model/fold-0_seed-1.safetensors"):
        (broken / "cells" / "group-b4" / lost).unlink()
    grid = ["--norms", "group", "batch", "--batch-sizes", "2", "4", "--seeds", "2"]
    assert main(["compare", str(cohort), str(broken), *OPTIONS, *grid, "--so-far"]) == 0
    result = json.loads((broken / "compare.json").read_text())
    assert result["networks"] == [5, 8]
    status = {c["name"]: c["status"] for c in result["cells"]}
    assert status.pop("batch-b4") == "waiting" and set(status.values()) == {"done"}
    assert [e["error"]["seeds"] for e in result["falls"]] == [1]  # of the seed that both have
    page = (broken / "index.html").read_text()
    assert "not trained yet" in page and "So far 5 of 8 networks are trained." in page
    capsys.readouterr()
    plan = ["compare", str(broken), "--plan"]
    assert main([*plan, "--effect", "0.2"]) == 0
    text = capsys.readouterr().out
    assert "to see 0.200" in text and "with a power of 0.8" in text
    damaged = {**result, "differences": "none", "effect": 0.1}
    (broken / "compare.json").write_text(json.dumps(damaged))
    assert main(plan) == 2
    assert "is not a result of uncus compare" in capsys.readouterr().err
    assert main(["compare", str(cohort), str(tmp_path / "none"), "--plan"]) == 2
    assert "no comparison to plan from" in capsys.readouterr().err
