"""Losses are read a step late, and a training that diverged ends before anything is saved."""

from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tests.conftest import TRAIN
from uncus.pipeline.cli import main
from uncus.pipeline.training.learner import Learner
from uncus.pipeline.training.steps.loss_check import LossCheck, all_finite


def scans(*rows: int) -> torch.Tensor:
    return torch.tensor(rows)


def test_a_loss_is_read_when_the_next_step_is_queued() -> None:
    check = LossCheck(lambda rows: " ".join(f"scan-{row}" for row in rows))
    check.add(torch.tensor(0.5), 3, 0, scans(1))
    check.add(torch.tensor(torch.inf), 3, 1, scans(2, 5))
    with pytest.raises(ValueError, match=r"loss is inf at epoch 3, step 1, scans scan-2 scan-5;"):
        check.add(torch.tensor(torch.nan), 3, 2, scans(7))
    with pytest.raises(ValueError, match="loss is nan at epoch 3, step 2, scans scan-7"):
        check.finish()
    check.finish()


def test_what_is_finite() -> None:
    assert all_finite([]) and all_finite([torch.ones(3), torch.tensor(2)])
    assert not all_finite([torch.ones(3), torch.tensor([1.0, -torch.inf])])
    assert not all_finite([torch.tensor(torch.nan, dtype=torch.bfloat16)])


class Reads(TorchDispatchMode):
    """Counts numbers that Python reads from tensors, each of which a GPU would be waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


def test_a_step_reads_one_number(
    cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That is the loss of the step before; Lightning, the progress and the optimizer read none."""
    reads = Reads()
    counts: list[tuple[int, int]] = []
    start = Learner.on_train_batch_start

    def counted(self: Learner, batch: Any, batch_idx: int) -> None:
        counts.append((batch_idx, reads.count))
        start(self, batch, batch_idx)

    monkeypatch.setattr(Learner, "on_train_batch_start", counted)
    options = [*TRAIN, "--folds", "1", "--epochs", "2", "--batch-size", "1"]
    with reads:
        assert main(["train", str(cohort), str(tmp_path / "run"), *options]) == 0
    between = Counter(
        later - now
        for (step, now), (following, later) in pairwise(counts)
        if step >= 2 and following > step
    )
    assert between and set(between) == {1}


def test_nothing_is_saved_of_weights_that_are_not_finite(
    cohort: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also where all losses are: the epoch's last update went wrong."""

    def overflow(self: Learner) -> None:
        if self.trainer.is_last_batch and self.current_epoch == 1:
            for parameter in self.parameters():
                assert parameter.grad is not None
                parameter.grad.fill_(torch.inf)

    monkeypatch.setattr(Learner, "on_after_backward", overflow, raising=False)
    run = tmp_path / "run"
    assert main(["train", str(cohort), str(run), *TRAIN, "--folds", "1"]) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert "the weights are not finite after epoch 1, step" in line and "lower --lr" in line
    saved = torch.load(run / "fold-0" / "checkpoints" / "last.ckpt", weights_only=True)
    assert saved["epoch"] == 0 and all_finite(saved["state_dict"].values())
