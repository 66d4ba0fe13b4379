"""A step as one function, plain and recorded, against Lightning's own steps, to the bit.

A GPU's recorder is replaced by one for the CPU; tests/test_gpu.py has the real one.
"""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.conftest import TRAIN
from tests.pipeline.training.steps import tape
from uncus.models.build import ModelConfig, build_model
from uncus.pipeline.cli import main
from uncus.pipeline.training import learner
from uncus.pipeline.training.learner import Learner
from uncus.pipeline.training.optimization import Optimization, parameter_groups
from uncus.pipeline.training.steps import graphs, whole_step
from uncus.pipeline.training.steps.whole_step import WholeStep


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for each step that was recorded."""
    steps: list[int] = []

    def record(*arguments: Any) -> Any:
        steps.append(len(steps))
        return tape.record(*arguments)

    monkeypatch.setattr(graphs, "record", record)
    monkeypatch.setattr(learner, "can_record", lambda device: True)
    # On a CPU, AdamW reads the rate as it is; Lightning's steps have one of 64 bits.
    monkeypatch.setattr(whole_step, "RATE", torch.float64)
    return steps


def trained(
    cohort: Path, out: Path, *options: str, graphs: bool = False, code: int = 0
) -> dict[str, Any]:
    """The weights of a run of one network; none where it ends with another exit ``code`` than 0."""
    arguments = [
        *TRAIN,
        "--folds",
        "1",
        "--keep",
        "last",
        *options,
        *["--no-graphs"] * (not graphs),
    ]
    assert main(["train", str(cohort), str(out), *arguments]) == code
    if code:
        return {}
    return load_file(out / "model" / "fold-0.safetensors")


def check_equal(one: dict[str, Any], two: dict[str, Any]) -> None:
    assert one.keys() == two.keys()
    for name, value in one.items():
        assert torch.equal(two[name], value), name


CASES = {
    "tiny batch": (["--batch-size", "1"], 1),
    "last batch smaller": (["--batch-size", "3", "--epochs", "6"], 2),
    "accumulated": (["--batch-size", "1", "--accumulate", "3", "--epochs", "5"], 2),
    "accumulated, last smaller": (["--batch-size", "3", "--accumulate", "2", "--epochs", "9"], 3),
    "not clipped": (["--batch-size", "1", "--clip", "0"], 1),
    "clipped": (["--batch-size", "1", "--clip", "0.01"], 1),
    "dropout, batch norm": (["--dropout", "0.5", "--norm", "batch", "--batch-size", "3"], 1),
    "memory low": (["--backbone", "resnet10", "--memory", "low", "--batch-size", "1"], 1),
    "frozen": (["--trunk-lr", "0", "--freeze-norms", "--batch-size", "1"], 1),
    "covariates, weights": (
        ["--covariates", "age", "--balance", "weights", "--batch-size", "1"],
        1,
    ),
}


@pytest.mark.parametrize(("options", "kinds"), CASES.values(), ids=CASES)
def test_recorded_steps_give_the_same_weights(
    options: list[str],
    kinds: int,
    recorded: list[int],
    cohort: Path,
    tmp_path: Path,
) -> None:
    plain = trained(cohort, tmp_path / "plain", *options)
    assert not recorded
    check_equal(plain, trained(cohort, tmp_path / "graphs", *options, graphs=True))
    assert len(recorded) == kinds


def batches(*sizes: int) -> list[tuple[torch.Tensor, ...]]:
    """Volumes of 8 x 9 x 8, no covariates, labels 0 and 1 in turn."""
    make = torch.Generator().manual_seed(1)
    volumes = [torch.randn(n, 1, 8, 9, 8, generator=make) for n in sizes]
    return [(v, torch.zeros(len(v), 0), torch.arange(len(v)) % 2) for v in volumes]


def make_step(record: bool = True, **options: Any) -> tuple[torch.nn.Module, WholeStep]:
    how = Optimization(lr=0.01, **options)
    model = build_model(ModelConfig("tiny", width=16, dropout=0.5), seed=0).train()
    optimizer = torch.optim.AdamW(parameter_groups(model, how), fused=True)
    loss = torch.nn.functional.cross_entropy
    return model, WholeStep(model, loss, optimizer, how, record)


def test_a_replay_takes_batch_rate_and_random_numbers_as_they_are(recorded: list[int]) -> None:
    results = []
    for record in (False, True):
        model, step = make_step(record)
        losses = []
        for number, batch in enumerate(batches(*(8 * [2]))):
            torch.manual_seed(number // 2)
            for group in step.optimizer.param_groups:
                group["lr"] = 0.02 / (1 + number)
            losses.append(step(*batch))
        assert all(group["lr"] == 0.02 / 8 for group in step.optimizer.param_groups)
        assert not any(group["capturable"] for group in step.optimizer.param_groups)
        results.append([torch.stack(losses), *model.parameters()])
    assert len(recorded) == 1 and len(step.graphs) == 1
    for plain, replayed in zip(*results, strict=True):
        assert torch.equal(plain, replayed)


def test_each_kind_of_step_is_recorded_once(recorded: list[int]) -> None:
    _, step = make_step(accumulate=2)
    for number, batch in enumerate(batches(*(12 * [2]), *(4 * [1]))):
        step(*batch, update=number % 2 == 1 or len(batch[0]) == 1)
    assert {(kind[0], kind[1][0]) for kind in step.graphs} == {(False, 2), (True, 2), (True, 1)}
    assert len(recorded) == 3


def test_gradients_that_others_drop_are_kept(recorded: list[int]) -> None:
    """Lightning drops them before a validation; graphs of several batches add to their memory."""
    results = []
    for drops in (False, True):
        model, step = make_step(accumulate=2)
        for number, batch in enumerate(batches(*(14 * [2]))):
            torch.manual_seed(number)
            step(*batch, update=number % 2 == 1)
            if drops and number % 2 == 1:
                model.zero_grad()
        results.append(list(model.parameters()))
    for kept, dropped in zip(*results, strict=True):
        assert torch.equal(kept, dropped)


def test_what_cannot_be_recorded_is_run_as_it_is(recorded: list[int]) -> None:
    class Reading(torch.nn.Module):
        def __init__(self, model: torch.nn.Module, reads: bool) -> None:
            super().__init__()
            self.model, self.reads = model, reads

        def forward(self, volume: torch.Tensor, covariates: torch.Tensor) -> torch.Tensor:
            if self.reads:
                volume.mean().item()
            return self.model(volume, covariates)

    results = []
    for reads in (False, True):
        model, step = make_step(record=reads, accumulate=2)
        step.network = Reading(model, reads)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for number, batch in enumerate(batches(*(12 * [2]))):
                torch.manual_seed(number)
                step(*batch, update=number % 2 == 1)
        results.append(list(model.parameters()))
        said = [str(warning.message) for warning in caught]
        assert len(said) == reads, said
    assert "cannot be recorded: operation not permitted" in said[0] and "--no-graphs" in said[0]
    assert len(recorded) == 1 and not step.graphs
    for plain, tried in zip(*results, strict=True):
        assert torch.equal(plain, tried)


def test_an_interrupted_run_with_graphs_continues_to_the_same_weights(
    recorded: list[int], cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where it began without graphs, and the other way round."""
    options = ["--batch-size", "1", "--accumulate", "2", "--epochs", "2"]
    whole = trained(cohort, tmp_path / "whole", *options, graphs=True)
    start = Learner.on_train_epoch_start

    def interrupted(self: Learner) -> None:
        if self.current_epoch == 1:
            raise KeyboardInterrupt
        start(self)

    for first, then in ((True, True), (False, True), (True, False)):
        out = tmp_path / f"{first}-{then}"
        with monkeypatch.context() as patch:
            patch.setattr(Learner, "on_train_epoch_start", interrupted)
            trained(cohort, out, *options, graphs=first, code=130)
        before = len(recorded)
        check_equal(whole, trained(cohort, out, *options, "--resume", graphs=then))
        assert (len(recorded) > before) == then


def test_a_loss_that_is_not_finite_names_its_step_in_a_replay(
    recorded: list[int], cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    augmented = Learner.augmented

    def corrupted(self: Learner, batch: Any, epoch: int) -> Any:
        batch = augmented(self, batch, epoch)
        if epoch == 1 and self.trainer.fit_loop.batch_idx == 0:  # the batch before
            batch["volume"][0, 0, 0, 0, 0] = np.nan
        return batch

    monkeypatch.setattr(Learner, "augmented", corrupted)
    options = [*TRAIN, "--folds", "1", "--batch-size", "1"]
    assert main(["train", str(cohort), str(tmp_path / "run"), *options]) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert "the loss is nan at epoch 1, step 1, scans sub-" in line
    assert recorded
