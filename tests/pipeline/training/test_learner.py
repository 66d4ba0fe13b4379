"""One training step: a loss that is not finite ends it and names the scans; clipping is done."""

from typing import Any

import lightning as L
import numpy as np
import pytest
import torch

from uncus.models.build import ModelConfig, build_model
from uncus.pipeline.training.data_loading import EpochSampler, ScanDataset, loader
from uncus.pipeline.training.learner import Learner
from uncus.pipeline.training.member import quiet_lightning
from uncus.pipeline.training.optimization import Optimization


def fit(kind: type[Learner], spoilt: int | None = None, **options: Any) -> None:
    """One epoch of 6 scans at batch 2; one voxel of scan ``spoilt`` is not a number."""
    volumes = np.random.default_rng(0).standard_normal((6, 8, 8, 8)).astype(np.float16)
    if spoilt is not None:
        volumes[spoilt, 0, 0, 0] = np.nan
    data = ScanDataset(volumes, range(6), np.array([0, 1] * 3))
    learner = kind(
        model=build_model(ModelConfig(backbone="tiny"), seed=0),
        optimization=Optimization(batch_size=2),
        augmentation=None,
        spacing=(1.0, 1.0, 1.0),
        seed=0,
        class_weights=None,
        scale=None,
        name_scans=lambda rows: " ".join(f"scan-{row}" for row in rows),
    )
    with quiet_lightning():
        L.Trainer(
            accelerator="cpu",
            max_epochs=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            **options,
        ).fit(learner, loader(data, 2, sampler=EpochSampler(6, seed=0)))


@pytest.mark.parametrize("spoilt", [0, 2, 5])
def test_a_loss_that_is_not_finite_ends_the_training(spoilt: int) -> None:
    step = list(EpochSampler(6, seed=0)).index(spoilt) // 2
    with pytest.raises(ValueError, match=f"nan at epoch 0, step {step}, .*scan-{spoilt}"):
        fit(Learner, spoilt)


def test_gradients_are_clipped_for_a_fused_optimizer_in_bf16() -> None:
    norms: list[float] = []

    class Watched(Learner):
        def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
            assert optimizer.defaults["fused"]
            self.note()

        def on_train_batch_end(self, *values: Any) -> None:
            self.note()
            super().on_train_batch_end(*values)

        def note(self) -> None:
            grads = [p.grad.norm() for p in self.parameters() if p.grad is not None]
            norms.append(float(torch.stack(grads).norm()))

    with torch.backends.mkldnn.flags(enabled=False):  # oneDNN's are wrong in bf16 on some CPUs
        fit(Watched, precision="bf16-mixed", gradient_clip_val=0.01)
    assert len(norms) == 6
    for before, after in zip(norms[::2], norms[1::2], strict=True):
        assert before > 0.02 and after == pytest.approx(0.01, rel=1e-3)
