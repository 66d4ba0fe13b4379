"""Setting up a run: resuming, and the folds of the run that it starts from."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import uncus
from tests.conftest import TRAIN
from tests.pipeline.training.runs import small_task, weights
from uncus.data.design.splits import Splits
from uncus.data.prepared_cohort import PreparedCohort
from uncus.pipeline.cli import main
from uncus.pipeline.environment import why_no_gpu
from uncus.pipeline.runs import Run
from uncus.pipeline.training.optimization import Optimization
from uncus.pipeline.training.options import TrainingOptions
from uncus.pipeline.training.run_setup import check_graphs
from uncus.pipeline.training.task import Devices


def test_resuming_with_other_options_is_an_error(
    cohort: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", str(cohort), str(run), *TRAIN, "--lr", "0.5", "--resume"]) == 2
    assert "optimization" in capsys.readouterr().err


def test_a_run_older_than_an_option_can_be_resumed(cohort: Path, run: Path, tmp_path: Path) -> None:
    older = tmp_path / "older"
    shutil.copytree(run, older)
    options = json.loads((older / "config.json").read_text())
    del options["optimization"]["freeze_norms"]
    (older / "config.json").write_text(json.dumps(options))
    assert main(["train", str(cohort), str(older), *TRAIN, "--resume"]) == 0


def test_the_environment_contains_the_fingerprint_of_the_cohort(cohort: Path, run: Path) -> None:
    assert Run(run).environment["cohort_fingerprint"] == PreparedCohort.open(cohort).fingerprint


def test_a_run_uses_the_folds_of_its_pretraining_without_leakage(
    cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    options = ["--backbone", "tiny", "--epochs", "1", "--accelerator", "cpu", "--folds", "2"]
    target = ["--target", "age", "--regression", "--stratify", "diagnosis"]
    assert main(["train", str(cohort), str(first), *target, *options]) == 0
    # sub-03 has no age, so it is in no fold of the pre-training.
    dementia = ["--target", "diagnosis", "--classes", "CN=CN", "AD=AD", *options]
    assert main(["train", str(cohort), str(second), *dementia, "--init-from", str(first)]) == 2
    assert "sub-03" in capsys.readouterr().err
    dementia += ["--where", "age >= 60", "--init-from", str(first)]
    assert main(["train", str(cohort), str(tmp_path / "third"), *dementia]) == 0
    one, two = Run(first).splits(), Run(tmp_path / "third").splits()
    for fold in (0, 1):
        tested = two.subjects(fold, "test")
        assert tested == one.subjects(fold, "test")
        assert not tested & (one.subjects(fold, "train") | one.subjects(fold, "validation"))
    # With its folds swapped, the run would be tested on subjects of its pre-training.
    names = ["participant_id", "fold-0", "fold-1"]
    swapped = one.frame[["participant_id", "fold-1", "fold-0"]].set_axis(names, axis=1)
    fourth = tmp_path / "fourth"
    fourth.mkdir()
    Splits(swapped).save(fourth / "splits.tsv")
    assert main(["train", str(cohort), str(fourth), *dementia]) == 2
    assert "use the folds of that run" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--groups", "3"], "groups"),
        (["--norm", "batch", "--backbone", "sfcn", "--batch-size", "1"], "batch norm in training"),
        (["--target", "tremor"], "tremor"),
        (["--classes", "CN=CN", "AD=ad"], "AD"),
        (["--covariates", "weight"], "weight"),
        (["--where", "age > 1000"], "age > 1000"),
        (["--folds", "20"], "folds"),
        (["--splits", "none.tsv"], "none.tsv"),
        (["--init-from", "none"], "none"),
        (["--holdout", "none.txt"], "none.txt"),
        (["--accelerator", "gpu"], why_no_gpu()),
        (["--graphs"], "--graphs needs a CUDA device"),
        (["--devices", "2", "--groups", "3"], "groups"),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, list) else "",
)
def test_a_refused_training_leaves_nothing(
    options: list[str],
    reason: str,
    cohort: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    if "gpu" in options and torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    out = tmp_path / "run"
    assert main(["train", str(cohort), str(out), *TRAIN, *options]) == 2
    error = capfd.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("uncus: ") and reason in error
    assert not out.exists()


@pytest.mark.parametrize("resume", [[], ["--resume"]], ids=["anew", "resumed"])
def test_a_run_without_a_trained_epoch_may_be_started_with_other_options(
    resume: list[str], cohort: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    small_task(cohort, out)  # as if killed before the first epoch
    assert Run(out).config_path.exists() and not Run(out).is_begun()
    options = [*TRAIN, "--folds", "3", "--epochs", "1", "--seed", "4", *resume]
    assert main(["train", str(cohort), str(out), *options]) == 0
    assert Run(out).config["seed"] == 4 and Run(out).splits().folds == 3


@pytest.mark.parametrize("named", ["run alone", "cohort and run", "Python"])
def test_a_run_knows_its_options_when_it_is_resumed(
    cohort: Path, run: Path, tmp_path: Path, named: str
) -> None:
    out = tmp_path / "run"
    shutil.copytree(run, out)
    for part in ("model", "fold-1"):
        shutil.rmtree(out / part)
    if named == "Python":
        uncus.train(cohort, out, resume=True, jobs=1)
    else:
        folders = [str(out)] if named == "run alone" else [str(cohort), str(out)]
        assert main(["train", *folders, "--resume", "--jobs", "1"]) == 0
    assert weights(out) == weights(run)


def test_an_option_that_differs_is_refused_when_a_run_is_resumed_by_its_own(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    shutil.copytree(run, out)
    assert main(["train", str(out), "--resume", "--lr", "0.5"]) == 2
    assert "was started with other options: optimization" in capsys.readouterr().err
    assert main(["train", str(tmp_path / "none"), "--resume"]) == 2
    assert "RUN is missing" in capsys.readouterr().err


def test_the_environment_contains_the_calls(run: Path, tmp_path: Path) -> None:
    first = Run(run).environment
    assert first["date"] and first["command"] and first["code"].startswith(uncus.__version__)
    out = tmp_path / "run"
    shutil.copytree(run, out)
    assert main(["train", str(out), "--resume"]) == 0
    later = Run(out).environment
    assert {name: later[name] for name in first} == first
    assert [set(call) for call in later["resumed"]] == [{"date", "command", "code"}]


@pytest.mark.parametrize(
    ("on_gpu", "devices", "line"),
    [
        (True, 1, ""),
        (True, 2, "training without CUDA graphs, which need one device, not 2\n"),
        (False, 1, ""),
        (False, 2, ""),
    ],
)
def test_a_gpu_says_why_it_trains_without_graphs(
    on_gpu: bool, devices: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    check_graphs(TrainingOptions(), on_gpu, devices)
    assert capsys.readouterr().out == line
    asked = TrainingOptions.defaults(["--graphs"])
    if on_gpu and devices == 1:
        check_graphs(asked, on_gpu, devices)
    else:
        with pytest.raises(ValueError, match=r"--graphs needs .*; leave it out"):
            check_graphs(asked, on_gpu, devices)
    hard = TrainingOptions(optimization=Optimization(adversarial=0.1))
    check_graphs(hard, on_gpu, 1)
    assert ("without --adversarial" in capsys.readouterr().out) == on_gpu
    off = replace(TrainingOptions.defaults(["--no-graphs"]), devices=Devices(graphs=False))
    check_graphs(off, on_gpu, devices)
    assert capsys.readouterr().out == ""
