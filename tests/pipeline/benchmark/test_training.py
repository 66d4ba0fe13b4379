"""Steps of ``uncus train``, timed."""

import torch

from uncus.models.build import ModelConfig
from uncus.pipeline.benchmark import training
from uncus.pipeline.timing import Clock

CPU = torch.device("cpu")
TINY = ModelConfig("tiny", "group", width=16, dropout=0.0)


def test_a_clock_ticks_after_every_step_of_a_training() -> None:
    task = training.synthetic_task(TINY, (16, 16, 16), 2, CPU, memory="low")
    assert task.optimization.memory == "low"
    clock = Clock(CPU, rounds=3, steps=2)
    started: list[str] = []
    learner, graphs = training.train(
        task, clock, augmented=False, on_start=lambda: started.append("")
    )
    assert clock.timing().rounds == 3 and started == [""] and not graphs
    assert learner.global_step == clock.warm_up + 3 * 2
    assert learner.trainer.optimizers[0].param_groups[0]["lr"] > 0
    assert "loss" in learner.trainer.callback_metrics


def test_augmentation_is_that_of_a_training(monkeypatch) -> None:
    changed: list[torch.Tensor] = []
    kind = training.Learner
    augmented = kind.augmented

    def recorded(self, batch, epoch):
        after = augmented(self, batch, epoch)
        changed.append((after["volume"] != batch["volume"]).any())
        return after

    monkeypatch.setattr(kind, "augmented", recorded)
    task = training.synthetic_task(TINY, (16, 16, 16), 1, CPU)
    for augment in (False, True):
        changed.clear()
        training.train(task, Clock(CPU, rounds=2, steps=1), augment)
        assert len(changed) >= 5
        assert all(changed) if augment else not any(changed)


def test_a_bare_step_is_the_same_step() -> None:
    """As many steps of either kind give the same weights, but for the warm-up of the rate."""
    weights = []
    for bare in (False, True):
        task = training.synthetic_task(TINY, (16, 16, 16), 2, CPU, warmup=0.0, lr=1e-3)
        clock = Steps(7)
        if bare:
            learner, _ = training.run_bare(task, clock, CPU)
        else:
            learner, _ = training.train(task, clock, augmented=False)
        assert clock.taken == 7
        weights.append(learner.model.state_dict())
    for name, value in weights[0].items():
        torch.testing.assert_close(weights[1][name], value, rtol=1e-5, atol=1e-7)


class Steps(Clock):
    """A clock that is done after a number of steps."""

    def __init__(self, steps: int) -> None:
        super().__init__(CPU, 2, 1)
        self.number, self.taken = steps, 0

    @property
    def done(self) -> bool:
        return self.taken >= self.number

    def tick(self) -> None:
        self.taken += 1
