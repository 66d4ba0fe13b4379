"""Recipes: what is chosen for a cohort of a size, what stays as given, and that it trains."""

import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from tests.conftest import TRAIN, write_source
from tests.pipeline.training.runs import weights
from uncus.data.errors import BadInput
from uncus.data.tables import write_table
from uncus.models.build import ModelConfig
from uncus.pipeline.cli import main
from uncus.pipeline.demo import Demo
from uncus.pipeline.recipes.choice import describe, steps
from uncus.pipeline.runs import Run
from uncus.pipeline.train import Train
from uncus.pipeline.training.optimization import Optimization
from uncus.pipeline.training.options import TrainingOptions
from uncus.pipeline.training.task import MIN_VALIDATION, Devices

Values = dict[str, object]


def cohort_of(folder: Path, subjects: int, **columns: object) -> Path:
    """The table of a cohort, which is all that a choice needs."""
    table = pd.DataFrame(
        {
            "participant_id": [f"sub-{k}" for k in range(subjects)],
            "session_id": "",
            "diagnosis": [("CN", "AD", "")[k % 3] for k in range(subjects)],
            "age": [str(50 + k % 40) for k in range(subjects)],
            **columns,
        }
    )
    write_table(folder / "scans.tsv", table)
    return folder


def options(cohort: Path, *arguments: str) -> Train:
    """The options of a command."""
    import tyro

    words = [str(cohort), str(cohort / "run"), "--target", "diagnosis", *arguments]
    return tyro.cli(Train, args=words, default=Train.defaults(words))


@pytest.mark.parametrize(
    ("subjects", "name"), [(60, "small"), (747, "small"), (750, "medium"), (4500, "large")]
)
def test_the_recipe_goes_by_the_number_of_labelled_subjects(
    tmp_path: Path, subjects: int, name: str
) -> None:
    assert steps(options(cohort_of(tmp_path, subjects)))[-1].recipe == name
    assert steps(options(cohort_of(tmp_path, subjects), "--recipe", "large"))[-1].recipe == "large"


def test_a_small_cohort_is_pretrained_on_what_every_scan_has(tmp_path: Path) -> None:
    volumes = [f"{1000 + k}" for k in range(90)]
    gaps = ["", *volumes[1:]]  # not every labelled scan has it
    given = options(cohort_of(tmp_path, 90, eTIV=volumes, nWBV=gaps), "--where", "age > 60")
    first, last = steps(given)
    assert (first.target, first.regression, first.where) == (("age", "nWBV", "eTIV"), True, "")
    assert first.stratify == ("diagnosis",) and first.out == last.init_from
    assert first.optimization.epochs == 36 and first.validation == 0
    assert last.target == ("diagnosis",) and last.where == "age > 60"
    assert last.optimization.epochs == 0 and last.optimization.refit_head == 0.1
    assert first.model.backbone == last.model.backbone == "resnet10"
    assert steps(last) == [last], "nothing is left to choose"
    hard = options(tmp_path, "--adversarial", "0.05")
    assert steps(hard)[-1].recipe == "none", "it says how to train"
    asked = [one.optimization.adversarial for one in steps(replace(hard, recipe="small"))]
    assert asked == [0.05, 0.0], "the head is fitted, not trained"
    everybody = steps(options(tmp_path))[0]
    assert everybody.target == ("age", "eTIV"), "nWBV is missing for a labelled scan"
    regression = options(tmp_path, "--regression", "--target", "age")
    assert steps(regression)[0].target == ("eTIV",), "the target itself is none"


def test_a_text_in_a_column_is_no_reason_to_fail(tmp_path: Path) -> None:
    """Scans without a label (every third) are pre-trained on too."""
    ages = [str(50 + k % 40) for k in range(90)]
    for missing, columns in (("", ("age",)), ("unknown", ()), ("89+", ("age",))):
        cohort = cohort_of(tmp_path, 90, age=[*ages[:2], missing, *ages[3:]])
        trainings = steps(options(cohort))
        assert (trainings[0].target if trainings[1:] else ()) == columns


def test_without_such_a_column_it_is_trained_from_scratch(tmp_path: Path) -> None:
    (only,) = steps(options(cohort_of(tmp_path, 90, age=[""] * 90)))
    assert only.recipe == "small" and only.init_from is None
    assert (only.optimization.epochs, only.optimization.keep) == (25, "last")
    assert steps(only) == [only]
    assert "without pre-training" in describe([only], asked=False)


def test_what_is_given_stays_even_where_it_is_the_default(tmp_path: Path) -> None:
    cohort = cohort_of(tmp_path, 90)
    for how in (["--epochs", "50"], ["--lr", "0.1"], ["--patience", "3"], ["--keep", "best"]):
        (only,) = steps(options(cohort, *how))
        assert only.recipe == "none" and only.optimization.refit_head == 0
    network = ["--backbone", "resnet18", "--width", "16", "--seeds", "1", "--no-flip-average"]
    first, last = steps(options(cohort, *network))
    for one in (first, last):
        assert (one.model.backbone, one.seeds, one.flip_average) == ("resnet18", 1, False)
    first, last = steps(options(cohort, "--recipe", "small", "--epochs", "50"))
    assert (first.optimization.epochs, last.optimization.epochs) == (50, 0)
    python = Train(cohort, tmp_path / "run", target=("diagnosis",), model=ModelConfig("tiny"))
    assert steps(python)[0].model.backbone == "tiny"
    python = Train(cohort, tmp_path, target=("diagnosis",), optimization=Optimization(epochs=9))
    assert steps(python)[0].recipe == "none"


def test_the_demo_has_no_recipe(tmp_path: Path) -> None:
    training = Demo(tmp_path, epochs=50).training()
    cohort_of(training.cohort, 120)
    (only,) = steps(training)
    assert only == type(training)(**{**vars(training), "recipe": "none"})


def test_several_devices_have_no_recipe_of_two_trainings(tmp_path: Path) -> None:
    cohort = cohort_of(tmp_path, 90)
    assert steps(options(cohort, "--devices", "2"))[0].recipe == "none"
    with pytest.raises(BadInput, match="leave out --devices"):
        steps(options(cohort, "--recipe", "small", "--devices", "2"))


def test_labels_are_checked_before_anything_exists(
    cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert main(["train", str(cohort), str(out), "--target", "diagnosi"]) == 2
    assert "no column 'diagnosi'" in capsys.readouterr().err
    assert not out.exists()


def test_a_small_cohort_trains_in_one_command(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Pre-training on age, then the head; an interrupted run goes on where it was."""
    aged = tmp_path / "source"
    write_source(aged)
    table = (aged / "participants.tsv").read_text().replace("n/a", "66")
    (aged / "participants.tsv").write_text(table)
    cohort, out = tmp_path / "cohort", tmp_path / "run"
    assert main(["prepare", str(aged), str(cohort), "--spacing", "4", "--workers", "1"]) == 0
    capsys.readouterr()
    command = ["train", str(cohort), str(out), "--target", "diagnosis", "--classes", "CN=CN"]
    command += ["AD=AD", "--backbone", "tiny", "--folds", "2", "--seeds", "1"]
    command += ["--accelerator", "cpu", "--recipe", "small", "--epochs", "2"]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "recipe small, as asked: tiny, 2 epochs, 1 seeds, pre-trained on age" in printed
    run = Run(out)
    assert "recipe small, as asked: tiny" in run.log_path.read_text()
    assert run.config["recipe"] == "small" and run.config["optimization"]["epochs"] == 0
    assert len(run.pretraining.training_curves()["fold-0"]) == 2
    assert run.splits().frame.equals(run.pretraining.splits().frame)
    before, after = (
        load_file(one.model_folder / "fold-0.safetensors") for one in (run.pretraining, run)
    )
    for name in before.keys() - {"head.weight", "head.bias"}:
        assert torch.equal(before[name], after[name])
    assert main(["evaluate", str(out)]) == 0
    assert main(command) == 2
    assert "add --resume" in capsys.readouterr().err
    assert main([*command, "--resume"]) == 0
    kept = weights(out)
    # Interrupted while it was pre-trained: the run alone goes on, with the same weights.
    shutil.rmtree(out / "model")
    shutil.rmtree(out / "pretraining" / "model")
    shutil.rmtree(out / "pretraining" / "fold-1")
    assert main(["train", str(out), "--resume"]) == 0
    assert weights(out) == kept

    # Jobs of a fold each: the first one pre-trains for all. Then without options, cut off before.
    jobs = ["train", str(cohort), str(tmp_path / "jobs")]
    assert main([*jobs, *command[3:], "--only", "fold-1"]) == 0
    made = Run(tmp_path / "jobs")
    assert made.pretraining.is_sealed() and not made.is_sealed()
    made.pretraining.seal_path.unlink()
    assert main([*jobs, "--only", "fold-0"]) == 0
    assert main([*jobs, "--finish"]) == 0
    assert made.predictions().equals(run.predictions())


def test_few_validation_subjects_never_choose_the_epoch(
    cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["train", str(cohort), str(tmp_path / "run"), *TRAIN, "--patience", "1"]
    assert main(command) == 0
    assert "the last one is kept" in capsys.readouterr().out
    run = Run(tmp_path / "run")
    assert all(len(run.training_curves()[f"fold-{fold}"]) == 3 for fold in (0, 1))
    last = torch.load(tmp_path / "run" / "fold-0" / "checkpoints" / "last.ckpt", weights_only=True)
    kept = load_file(run.model_folder / "fold-0.safetensors")
    for name, value in kept.items():
        assert torch.equal(value, last["state_dict"][f"model.{name}"])
    assert MIN_VALIDATION == 30


def test_defaults_are_of_no_recipe_in_a_comparison() -> None:
    from uncus.pipeline.compare import Compare

    assert Compare().recipe == "none" and TrainingOptions().recipe == "auto"
    assert Devices() == TrainingOptions().devices
