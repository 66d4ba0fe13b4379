"""A cohort of two sites: leave-one-site-out folds, and a covariate that goes with the class."""

import shutil
from pathlib import Path

import pytest

from tests.conftest import TRAIN
from uncus.data.tables import read_table, write_table
from uncus.pipeline.cli import main
from uncus.pipeline.evaluate import evaluate
from uncus.pipeline.runs import Run

SMALL = [*TRAIN[: TRAIN.index("--folds")], "--epochs", "1", "--accelerator", "cpu"]


@pytest.fixture(scope="module")
def sites(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small cohort: subjects 0 to 5 at A, the others at B; all patients are men."""
    tree = shutil.copytree(source, tmp_path_factory.mktemp("sites") / "source")
    table = read_table(tree / "participants.tsv")
    table["site"] = ["A"] * 6 + ["B"] * 6
    table["sex"] = table["diagnosis"].map({"CN": "F", "AD": "M"})
    write_table(tree / "participants.tsv", table)
    out = tree.parent / "cohort"
    assert main(["prepare", str(tree), str(out), "--spacing", "4", "--workers", "1"]) == 0
    return out


def test_each_fold_tests_a_site_and_the_covariate_is_warned_of(
    sites: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Run(tmp_path / "run")
    command = ["train", str(sites), str(run.path), *SMALL, "--folds", "site"]
    assert main([*command, "--covariates", "sex", "--validation", "0"]) == 0
    printed = capsys.readouterr().out
    warning = "covariate sex goes with the class in the training cohort (Cramér's V 1.00"
    assert f"warning: {warning}" in printed
    tie = run.card["covariates"]["sex"]["tie"]
    assert tie["value"] == pytest.approx(1) and tie["warning"].startswith(warning)
    table = run.scans()
    for fold, site in enumerate("AB"):
        assert run.splits().subjects(fold, "test") == set(
            table["participant_id"][table["site"] == site]
        )
    assert main([*command, "--covariates", "sex", "--validation", "0", "--resume"]) == 0
    report = evaluate(run.path, draws=100)
    assert [row["tested"] for row in report["folds"]] == ["site A", "site B"]
    assert any(line.startswith(warning) for line in report["warnings"])
    assert "site A" in run.report_page.read_text()


@pytest.mark.parametrize(
    ("options", "cause"),
    [
        (["--folds", "center"], "--folds center: no column 'center'"),
        (["--folds", "site", "--where", "site == 'A' or diagnosis == 'CN'"], "B has no AD"),
        (["--folds", "site", "--where", "site == 'A'"], "all scans are of A"),
    ],
)
@pytest.mark.parametrize("recipe", ["none", "small"])
def test_what_cannot_be_left_out_is_refused_in_one_line(
    sites: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    cause: str,
    recipe: str,
) -> None:
    run = tmp_path / "run"
    assert main(["train", str(sites), str(run), *SMALL, *options, "--recipe", recipe]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert cause in line
    assert not run.exists()
