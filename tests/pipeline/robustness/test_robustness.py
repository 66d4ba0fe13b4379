"""uncus evaluate --robust: out of fold, level 0 is the plain metric, attacks raise the loss."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.conftest import write_source
from uncus.data.errors import BadInput
from uncus.data.tables import read_table, write_table
from uncus.data.transforms.disturbances import DISTURBANCES
from uncus.pipeline.cli import main
from uncus.pipeline.evaluate import Evaluate
from uncus.pipeline.evaluation.predictions import Predicted, Study
from uncus.pipeline.robustness.judges import ATTACKS, EPS, UNDISTURBED, key, levels
from uncus.pipeline.robustness.measurement import outputs
from uncus.pipeline.robustness.summary import headline
from uncus.pipeline.robustness.trial import Trial
from uncus.pipeline.runs import Run

ROBUST = ["--robust", "--draws", "100"]


@pytest.fixture(scope="module")
def disturbed(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of two folds that was evaluated with its scans disturbed."""
    copy = tmp_path_factory.mktemp("disturbed") / "run"
    shutil.copytree(run, copy)
    assert main(["evaluate", str(copy), *ROBUST]) == 0
    return Run(copy)


def trial(run: Run) -> Trial:
    """The run's own scans."""
    return Trial.own(run, run.cohort(), Evaluate(run.path).predictions(run))


def cases(run: Run) -> dict[str, Any]:
    """Scan -> what is stored of it."""
    folder = run.disturbed_case("sub-00").parent
    return {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}


def test_level_0_is_the_plain_metric_to_the_last_digit(disturbed: Run) -> None:
    report, result = disturbed.report(), disturbed.robustness()
    assert result and result["plain"] == report["metrics"]["auc"]
    assert result["scans"] == report["counts"]["scans"] == 12
    table = disturbed.predictions()
    found = {name: one["outputs"] for name, one in cases(disturbed).items()}
    for _, row in table[table["part"] == "test"].iterrows():
        (output,) = found[row["participant_id"]][UNDISTURBED]
        assert np.float32(output[1]) == np.float32(row["p_AD"])
    one = trial(disturbed).scan(("sub-00", ""), torch.device("cpu"))[1]
    for disturbance in DISTURBANCES.values():
        assert disturbance(one.volume, 0, one.seed, one.spacing) is one.volume


def test_every_level_is_measured_with_intervals(disturbed: Run) -> None:
    result = disturbed.robustness()
    assert result and set(result["disturbances"]) == {*DISTURBANCES, *ATTACKS}
    plain = result["plain"]["value"]
    for name, one in result["disturbances"].items():
        assert [row["level"] for row in one["levels"]] == list(levels()[name])
        for row in one["levels"]:
            assert row["change"]["value"] == pytest.approx(row["value"] - plain)
            assert row["low"] <= row["value"] <= row["high"]
            assert 0 <= row["calls"]["low"] <= row["calls"]["value"] <= row["calls"]["high"] <= 1
    page = disturbed.robustness_page.read_text()
    assert page.count("<svg") == 2 and "missing slices 40%" in page


def test_attacks_raise_the_loss_and_several_steps_are_not_weaker(disturbed: Run) -> None:
    true = disturbed.predictions().set_index("participant_id")["true"]
    raised = 0
    for name, case in cases(disturbed).items():
        right = ("CN", "AD").index(true[name])
        found = {what: one[0][right] for what, one in case["outputs"].items()}
        for eps in EPS:
            assert found[key("pgd", eps)] <= found[key("fgsm", eps)] + 1e-6
            assert found[key("fgsm", eps)] <= found[UNDISTURBED] + 1e-6
        raised += found[key("fgsm", EPS[-1])] < found[UNDISTURBED] - 1e-4
    assert raised >= 10


def test_no_network_judges_a_subject_that_it_was_trained_on(disturbed: Run) -> None:
    judged, splits = trial(disturbed).judged, disturbed.splits()
    members = disturbed.card["members"]
    assert len(judged) == 12 and set(judged["member"]) == {0, 1}
    for subject, member in zip(judged["participant_id"], judged["member"], strict=True):
        fold = members[member]["fold"]
        assert subject in splits.subjects(fold, "test")
        for part in ("train", "validation"):
            assert subject not in splits.subjects(fold, part)


def test_a_table_that_gives_a_subject_to_its_own_network_is_refused(
    disturbed: Run, tmp_path: Path
) -> None:
    run = Run(Path(shutil.copytree(disturbed.path, tmp_path / "run")))
    table = read_table(run.predictions_path)
    study = Study.of(run.scans(), run.target, run.splits())
    for changed, message in (
        (table.assign(fold=table["fold"].map({"0": "1", "1": "0"})), "not a test subject of fold"),
        (table.assign(seed="7"), "fold 0, seed 7 is no network of the model card"),
    ):
        write_table(run.predictions_path, changed)
        with pytest.raises(BadInput, match=message):
            Trial.own(run, run.cohort(), Predicted(study, run.predictions()))


def test_an_interrupted_measurement_goes_on(disturbed: Run, tmp_path: Path) -> None:
    run = Run(Path(shutil.copytree(disturbed.path, tmp_path / "run")))
    before = outputs(trial(run), run, torch.device("cpu"))
    paths = [run.disturbed_case(name) for name in sorted(cases(run))]
    times = [path.stat().st_mtime_ns for path in paths]
    paths[0].unlink()
    settings = json.loads(paths[1].read_text())["settings"]
    paths[1].write_text(json.dumps({"settings": settings, "outputs": {UNDISTURBED: [[1, 0]]}}))
    paths[2].write_text('{"settings": ')
    after = outputs(trial(run), run, torch.device("cpu"))
    kept = [path.stat().st_mtime_ns == time for path, time in zip(paths, times, strict=True)]
    assert kept == [False, False, False, *[True] * 9]
    for name, values in before.items():
        np.testing.assert_array_equal(values, after[name])


def test_some_subjects_are_drawn(disturbed: Run) -> None:
    whole = trial(disturbed)
    some = whole.some(5, seed=0)
    assert some.judged["participant_id"].nunique() == 5
    assert whole.some(0, seed=0) is whole and whole.some(99, seed=0) is whole
    assert set(some.judged["participant_id"]) != set(whole.some(5, seed=1).judged["participant_id"])
    for seed in range(20):
        two = whole.some(2, seed)
        assert len(set(two.study.labels[two.study.positions(two.judged)])) == 2, "one of each class"


def test_scans_without_a_label_are_not_disturbed(disturbed: Run) -> None:
    study, table = trial(disturbed).study, disturbed.predictions()
    unknown = table["participant_id"] == "sub-03"
    labels = np.where(study.scans["participant_id"] == "sub-03", -1, study.labels)
    found = Predicted(
        replace(study, labels=labels), table.assign(true=table["true"].mask(unknown, ""))
    )
    judged = Trial.own(disturbed, disturbed.cohort(), found).judged
    assert len(judged) == 11 and "sub-03" not in set(judged["participant_id"])


def test_one_subject_cannot_be_measured(disturbed: Run, tmp_path: Path) -> None:
    run = Run(Path(shutil.copytree(disturbed.path, tmp_path / "run")))
    assert main(["evaluate", str(run.path), *ROBUST, "--robust-subjects", "1"]) == 0
    result, card = run.robustness(), run.model_card_path.read_text()
    assert result and result["plain"]["value"] is None and result["fewest"] == 0
    assert "cannot be measured" in run.robustness_page.read_text()
    assert "cannot be measured" in card and "first loss" not in card


def test_the_card_keeps_the_headline_until_the_weights_change(
    disturbed: Run, tmp_path: Path
) -> None:
    card = disturbed.model_card_path.read_text().replace("\\", "")
    result = disturbed.robustness()
    assert result and headline(result) in card
    assert "| 30 | Robustness | filled | Robustness |" in card
    run = Run(Path(shutil.copytree(disturbed.path, tmp_path / "run")))
    path = run.robustness_path
    path.write_text(path.read_text().replace(run.card["members"][0]["sha256"], "0" * 64))
    assert main(["evaluate", str(run.path), "--draws", "100"]) == 0
    card = run.model_card_path.read_text().replace("\\", "")
    assert "is about other weights; evaluate the run again" in card
    assert "Not measured: uncus evaluate RUN --robust" in card


def test_a_regression_of_several_networks_with_covariates(cohort: Path, tmp_path: Path) -> None:
    path = tmp_path / "run"
    options = ["--target", "age", "--regression", "--covariates", "sex", "--seeds", "2"]
    options += ["--backbone", "tiny", "--folds", "2", "--epochs", "1", "--flip-average"]
    assert main(["train", str(cohort), str(path), *options, "--accelerator", "cpu"]) == 0
    assert main(["evaluate", str(path), *ROBUST, "--robust-subjects", "4"]) == 0
    run = Run(path)
    result = run.robustness()
    assert result and (result["subjects"], result["networks"]) == (4, 4)
    assert result["lower_is_better"] and result["name"] == "MAE"
    true = run.predictions().groupby("participant_id")["true_age"].first()
    for name, case in cases(run).items():
        found = case["outputs"]
        assert len(found[UNDISTURBED]) == 2, "the networks of its fold"
        for network in range(2):
            errors = [abs(found[what][network][0] - true[name]) for what in found]
            plain, one = errors[0], errors[list(found).index(key("fgsm", EPS[-1]))]
            assert one > plain


def test_a_model_without_its_run_is_tested_on_another_cohort(run: Path, tmp_path: Path) -> None:
    source = write_source(tmp_path / "source", subjects=16)
    for number in range(12):
        shutil.rmtree(source / f"sub-{number:02d}")
    table = read_table(source / "participants.tsv")
    write_table(source / "participants.tsv", table.iloc[12:])
    options = ["--spacing", "4", "--workers", "1"]
    assert main(["prepare", str(source), str(tmp_path / "other"), *options]) == 0
    model = shutil.copytree(run / "model", tmp_path / "model")
    there = ["--on", str(tmp_path / "other"), "--out", str(tmp_path / "out")]
    assert main(["evaluate", str(model), *there, *ROBUST]) == 0
    out = Run(tmp_path / "out")
    result = out.robustness()
    assert result and result["plain"] == out.report()["metrics"]["auc"]
    assert all(len(case["outputs"][UNDISTURBED]) == 2 for case in cases(out).values())
    assert set(cases(out)) == {f"sub-{number}" for number in range(12, 16)}


def test_options_and_cohorts_that_do_not_fit(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    for options, message in (
        (["--robust-subjects", "4"], "--robust-subjects and --cohort are for --robust"),
        (["--robust", "--robust-subjects", "-1"], "must not be negative"),
    ):
        assert main(["evaluate", str(copy), *options]) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1
    assert not (copy / "report.html").exists()
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"cohort": "gone"}))
    assert main(["evaluate", str(copy), "--robust"]) == 2
    assert "gone: is no longer the cohort of the run; name it with --cohort" in (
        capsys.readouterr().err
    )
