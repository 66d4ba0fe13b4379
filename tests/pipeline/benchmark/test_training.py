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
    learner = training.train(task, clock, augmented=False, on_start=lambda: started.append(""))
    assert clock.timing().rounds == 3 and started == [""]
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
