"""Training steps: errors for losses that are not finite, and gradient clipping."""

from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from torch import nn

from tests.conftest import TRAIN
from tests.pipeline.training.runs import weights
from uncus.data.scan_dataset import ScanDataset
from uncus.models.build import ModelConfig, build_model
from uncus.pipeline.cli import main
from uncus.pipeline.runs import Run
from uncus.pipeline.training.data_loading import EpochSampler, loader
from uncus.pipeline.training.learner import Learner
from uncus.pipeline.training.member import quiet_lightning
from uncus.pipeline.training.optimization import Optimization


def fit(
    kind: type[Learner], corrupt: int | None = None, adversarial: float = 0.0, **options: Any
) -> None:
    """Train one epoch of 6 scans at batch size 2; one voxel of scan ``corrupt`` is NaN."""
    volumes = np.random.default_rng(0).standard_normal((6, 8, 8, 8)).astype(np.float16)
    if corrupt is not None:
        volumes[corrupt, 0, 0, 0] = np.nan
    data = ScanDataset(volumes, range(6), np.array([0, 1] * 3))
    learner = kind(
        model=build_model(ModelConfig(backbone="tiny"), seed=0),
        optimization=Optimization(batch_size=2, adversarial=adversarial),
        augmentation=[],
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


@pytest.mark.parametrize("corrupt", [0, 2, 5])
def test_a_loss_that_is_not_finite_is_an_error(corrupt: int) -> None:
    step = list(EpochSampler(6, seed=0)).index(corrupt) // 2
    with pytest.raises(ValueError, match=f"nan at epoch 0, step {step}, .*scan-{corrupt}"):
        fit(Learner, corrupt)


def test_gradients_are_clipped_for_a_fused_optimizer_in_bf16() -> None:
    norms: list[float] = []

    class Recording(Learner):
        def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
            assert optimizer.defaults["fused"]
            self.record()

        def on_train_batch_end(self, *values: Any) -> None:
            self.record()
            super().on_train_batch_end(*values)

        def record(self) -> None:
            grads = [p.grad.norm() for p in self.parameters() if p.grad is not None]
            norms.append(float(torch.stack(grads).norm()))

    with torch.backends.mkldnn.flags(enabled=False):  # wrong in bf16 on some CPUs
        fit(Recording, precision="bf16-mixed", gradient_clip_val=0.01)
    assert len(norms) == 6
    for before, after in zip(norms[::2], norms[1::2], strict=True):
        assert before > 0.02 and after == pytest.approx(0.01, rel=1e-3)


@pytest.mark.parametrize("eps", [0.0, 0.5])
def test_a_network_trains_on_volumes_within_eps(eps: float) -> None:
    seen: list[torch.Tensor] = []

    class Recording(Learner):
        def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
            hook = self.model.register_forward_pre_hook(lambda _, inputs: passes.append(inputs[0]))
            passes: list[torch.Tensor] = []
            loss = super().training_step(batch, batch_idx)
            hook.remove()
            assert len(passes) == (2 if eps else 1)  # the attack, and the step
            seen.append((passes[-1] - batch["volume"]).abs().amax())
            return loss

    fit(Recording, adversarial=eps)
    assert len(seen) == 3 and torch.allclose(torch.stack(seen), torch.tensor(eps), atol=1e-3)


def test_adversarial_training_is_reproducible_and_recorded(
    cohort: Path, run: Path, tmp_path: Path
) -> None:
    options = {"without": [], "zero": ["0"], "one": ["0.1"], "again": ["0.1"]}
    for name, eps in options.items():
        given = ["--adversarial", *eps] if eps else []
        assert main(["train", str(cohort), str(tmp_path / name), *TRAIN, *given]) == 0
    made = {name: Run(tmp_path / name) for name in options}
    assert weights(made["zero"].path) == weights(made["without"].path) == weights(run)
    assert weights(made["one"].path) == weights(made["again"].path) != weights(run)
    assert made["one"].card["training"]["adversarial"] == 0.1
    assert "adversarial" not in made["zero"].card["training"]
    assert made["one"].config["optimization"]["adversarial"] == 0.1
    text = made["one"].model_card_path.read_text()
    assert "changed by up to 0.1 SD" in text and "adversarial" not in str(made["zero"].card)


def test_adversarial_training_needs_epochs_and_a_small_limit() -> None:
    with pytest.raises(ValueError, match=r"adversarial=2.0: must be 0 \(off\) to 1"):
        Optimization(adversarial=2.0)
    with pytest.raises(ValueError, match="--epochs 0 has none"):
        Optimization(adversarial=0.1, epochs=0, refit_head=0.1)


def test_the_error_of_a_nan_loss_names_step_and_scans(
    cohort: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def diverge(self: nn.Module, x: torch.Tensor, covariates: object = None) -> torch.Tensor:
        return self.head.weight.new_full((len(x), 2), torch.nan).requires_grad_()

    monkeypatch.setattr("uncus.models.backbones.tiny.Tiny.forward", diverge, raising=False)
    assert main(["train", str(cohort), str(tmp_path / "run"), *TRAIN]) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert "step 0" in line and "sub-" in line
