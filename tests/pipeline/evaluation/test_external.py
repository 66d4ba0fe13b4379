"""Evaluation on another cohort than the one of the training."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import TRAIN, write_source
from uncus.data.files import read_json
from uncus.data.tables import read_table, write_table
from uncus.pipeline.cli import main
from uncus.pipeline.evaluate import evaluate
from uncus.pipeline.evaluation.metrics import auc
from uncus.pipeline.runs import Run


def prepared(source: Path, out: Path, spacing: str = "4") -> Path:
    assert main(["prepare", str(source), str(out), "--spacing", spacing, "--workers", "1"]) == 0
    return out


@pytest.fixture(scope="module")
def abroad(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A source of 20 subjects, of which the first 12 are those of the small cohort."""
    return write_source(tmp_path_factory.mktemp("abroad") / "source", subjects=20)


@pytest.fixture(scope="module")
def other(abroad: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight other subjects, whose cohort names the diagnosis and its values otherwise."""
    source = tmp_path_factory.mktemp("other") / "source"
    shutil.copytree(abroad, source)
    for number in range(12):
        shutil.rmtree(source / f"sub-{number:02d}")
    table = read_table(source / "participants.tsv").iloc[12:]
    table["diagnosis"] = table["diagnosis"].map({"AD": "Dementia", "CN": "Normal"})
    table.loc[table.index[0], "diagnosis"] = ""
    write_table(source / "participants.tsv", table.rename(columns={"diagnosis": "DX"}))
    return prepared(source, source.parent / "other")


LABELS = {"target": ("DX",), "classes": ("CN=Normal", "AD=Dementia")}
WORDS = ["--target", "DX", "--classes", "CN=Normal", "AD=Dementia"]


def test_the_same_report_on_another_cohort(
    run: Path, other: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = shutil.copytree(run, tmp_path / "run")
    assert main(["evaluate", str(copy), "--on", str(other), *WORDS, "--baseline", "age"]) == 0
    printed = capsys.readouterr().out
    assert "run: on other, 7 scans of 7 subjects" in " ".join(printed.split())
    made = Run(copy).external("other")
    report, table = made.report(), made.predictions()
    assert report["counts"] == {"scans": 7, "subjects": 7, "classes": {"CN": 3, "AD": 4}}
    assert set(report["baselines"]) == {"majority", "age+sex", "age"}
    assert report["folds"][0]["trained_subjects"] == 12
    assert report["headline"]["metric"] == "auc" and report["adjustment"] is None, "too few scans"
    assert report["subgroups"]["sex"]["F"]["few"] == ["CN", "AD"]
    assert "1 scans of other are not labelled and left out" in report["warnings"]
    value = auc((table["true"] == "AD").to_numpy(), table["p_AD"].to_numpy(), np.ones((1, 7)))
    assert report["metrics"]["auc"]["value"] == pytest.approx(value[0])
    page = made.report_page.read_text()
    assert "Metrics on other" in page and "by networks trained on 12 subjects of another" in page
    assert not Run(copy).report_path.exists(), "the run's own report is another one"
    # The predictions are those of uncus predict.
    assert main(["predict", str(run), str(other), "--out", str(tmp_path / "out")]) == 0
    for row in table.itertuples():
        said = read_json(tmp_path / "out" / str(row.participant_id) / "prediction.json")
        assert row.p_AD == pytest.approx(said["probabilities"]["AD"], abs=1e-6)


def test_subjects_of_the_training_are_refused(
    run: Path, cohort: Path, abroad: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = shutil.copytree(run, tmp_path / "run")
    before = sorted(copy.rglob("*"))
    for overlap in ("refuse", "other-people"):
        assert main(["evaluate", str(copy), "--on", str(cohort), "--overlap", overlap]) == 2
        error = capsys.readouterr().err.strip().splitlines()
        assert len(error) == 1 and "the same voxels" in error[0] and "sub-00, sub-01" in error[0]
    assert sorted(copy.rglob("*")) == before
    both = prepared(abroad, tmp_path / "both", "5")
    report = evaluate(copy, on=both, overlap="leave-out", draws=100)
    assert report["counts"]["subjects"] == 8
    assert report["external"]["left_out"] == [f"sub-{number:02d}" for number in range(12)]


def test_equal_names_are_refused_unless_they_are_other_people(
    run: Path, other: Path, abroad: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "source"
    shutil.copytree(abroad, source)
    for number in range(12):  # other scans under the names of the training
        shutil.rmtree(source / f"sub-{number:02d}")
    for number in range(12, 20):
        for path in sorted((source / f"sub-{number}").rglob("*.nii.gz")):
            new = Path(str(path).replace(f"sub-{number}", f"sub-{number - 12:02d}"))
            new.parent.mkdir(parents=True)
            path.rename(new)
        shutil.rmtree(source / f"sub-{number}")
    table = read_table(source / "participants.tsv").iloc[:8]
    write_table(source / "participants.tsv", table)
    named = prepared(source, tmp_path / "named")
    copy = shutil.copytree(run, tmp_path / "run")
    assert main(["evaluate", str(copy), "--on", str(named)]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "named like those" in error and "other-people" in error
    report = evaluate(copy, on=named, overlap="other-people", draws=100)
    assert report["counts"]["subjects"] == 8


def test_a_shared_model_is_evaluated_without_its_run(
    run: Path, other: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = str(shutil.copytree(run / "model", tmp_path / "adni"))
    assert main(["evaluate", model, "--on", str(other), *WORDS]) == 2
    assert "add --out" in capsys.readouterr().err
    out = tmp_path / "out"
    command = ["evaluate", model, "--on", str(other), *WORDS, "--out", str(out)]
    assert main([*command, "--baseline", "age"]) == 2
    assert "no table of the training scans" in capsys.readouterr().err
    assert main(command) == 0
    report = json.loads((out / "report.json").read_text())
    assert report["counts"]["scans"] == 7 and report["baselines"] == {}
    assert any("training subjects are not known" in line for line in report["warnings"])


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        (["--classes", "CN=Normal", "MCI=Dementia"], "the run predicts CN, AD"),
        (["--classes", "CN=Normal", "AD=AD"], "'Dementia'"),
        (["--target", "diagnosis"], "no column 'diagnosis'"),
    ],
)
def test_labels_that_do_not_fit_are_refused(
    run: Path, other: Path, words: list[str], cause: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(run), "--on", str(other), *WORDS, *words]) == 2
    assert cause in capsys.readouterr().err
    assert not Run(run).external("other").path.exists()


def test_a_cohort_of_one_class_is_measured(run: Path, other: Path, tmp_path: Path) -> None:
    report = evaluate(run, on=other, where="DX == 'Normal'", out=tmp_path, draws=100, **LABELS)
    assert report["metrics"]["auc"]["value"] is None
    assert report["metrics"]["specificity"]["value"] is not None
    assert (tmp_path / "report.html").is_file()


def test_a_regression_on_another_cohort(cohort: Path, other: Path, tmp_path: Path) -> None:
    out = tmp_path / "age"
    options = ["--target", "age", "--regression", *TRAIN[TRAIN.index("--backbone") :]]
    assert main(["train", str(cohort), str(out), *options, "--epochs", "1"]) == 0
    report = evaluate(out, on=other, draws=100)
    assert report["counts"]["columns"] == {"age": 8}
    assert report["metrics"]["mae"]["value"] > 0


def test_options_of_another_cohort_need_one(run: Path) -> None:
    with pytest.raises(ValueError, match="add --on COHORT"):
        evaluate(run, where="age > 60")


def test_another_cohort_is_judged_as_a_new_scan_is(sure_run: Path, tmp_path: Path) -> None:
    source = write_source(tmp_path / "source", subjects=52)  # the first 40 are those of the run
    cohort, copy = prepared(source, tmp_path / "new"), shutil.copytree(sure_run, tmp_path / "run")
    report = evaluate(copy, on=cohort, where="age >= 100", draws=100)
    table = Run(copy).external("new").predictions()
    assert report["calibration"]["scans"] == len(table) == 12
    assert "not calibrated" not in Run(copy).external("new").report_page.read_text()
    raw = read_table(Run(copy).external("new").predictions_path)["uncalibrated_AD"].astype(float)
    true = table["true"] == "AD"
    for when, p in (("before", raw), ("after", table["p_AD"])):
        brier = report["calibration"][when]["brier"]["value"]
        assert brier == pytest.approx(((p - true) ** 2).mean(), abs=1e-6)
    fits = table.loc[true, "fits_AD"].astype(float)
    assert report["conformal"]["of"]["AD"]["covered"]["value"] == pytest.approx(fits.mean())
