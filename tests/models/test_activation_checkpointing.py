"""Activation checkpointing: the same gradients and statistics in less memory."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from tests.conftest import TRAIN
from uncus.models import activation_checkpointing
from uncus.models.activation_checkpointing import checkpoint_blocks, find_blocks
from uncus.models.build import ModelConfig, build_model
from uncus.models.norms import NORMS
from uncus.pipeline.cli import main


def trained(config: ModelConfig, *, low: bool) -> tuple[dict, dict, torch.Tensor, int]:
    """Gradients, buffers and output of a step on random volumes, and the bytes saved for it."""
    model = build_model(config, seed=0).train()
    for name, value in model.named_parameters():
        if name.endswith("weight") and value.ndim == 1:
            torch.nn.init.ones_(value)
    if low:
        assert checkpoint_blocks(model) > 0
    x = torch.randn(2, 1, 24, 24, 24, generator=torch.Generator().manual_seed(1))
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = model(x)
    output.square().sum().backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return gradients, dict(model.named_buffers()), output.detach(), sum(kept.values())


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("backbone", ["tiny", "resnet10"])
def test_the_same_step_with_less_memory(backbone: str, norm: str) -> None:
    config = ModelConfig(backbone=backbone, norm=norm, width=16, dropout=0.0)
    (want, statistics, output, much), (got, kept, again, less) = (
        trained(config, low=low) for low in (False, True)
    )
    assert torch.equal(again, output)
    assert got.keys() == want.keys()
    for name, gradient in want.items():
        torch.testing.assert_close(got[name], gradient, rtol=1e-5, atol=1e-6, msg=name)
    for name, value in statistics.items():
        assert torch.equal(kept[name], value), name
    assert less < 0.7 * much


@pytest.mark.parametrize("backbone", ["tiny", "sfcn", "resnet50"])
def test_each_convolution_is_in_one_block_at_most(backbone: str) -> None:
    model = build_model(ModelConfig(backbone=backbone, width=16), seed=0)
    blocks = list(find_blocks(model))
    inside = [m for block in blocks for m in block.modules() if isinstance(m, torch.nn.Conv3d)]
    everywhere = [m for m in model.modules() if isinstance(m, torch.nn.Conv3d)]
    assert len(inside) == len(set(map(id, inside)))
    assert len(inside) >= 0.8 * len(everywhere) and len(blocks) > 2


def test_the_weights_keep_their_names_and_predictions() -> None:
    plain, low = (build_model(ModelConfig(backbone="resnet10"), seed=0).eval() for _ in "ab")
    checkpoint_blocks(low)
    assert low.state_dict().keys() == plain.state_dict().keys()
    x = torch.randn(1, 1, 16, 16, 16)
    assert torch.equal(low(x), plain(x))


class Dropped(torch.nn.Module):
    """A convolution with some of its outputs 0."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.conv, self.p = torch.nn.Conv3d(1, 4, 3), p

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.dropout(self.conv(x), self.p) if self.p else self.conv(x)


@pytest.mark.parametrize("p", [0.5, 0.0])
def test_random_numbers_are_drawn_again_and_their_state_kept_only_then(
    p: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[bool] = []

    def checkpoint(*args: Any, **options: Any) -> Any:
        kept.append(options["preserve_rng_state"])
        return torch.utils.checkpoint.checkpoint(*args, **options)

    monkeypatch.setattr(activation_checkpointing, "checkpoint", checkpoint)
    block = Dropped(p).train()
    x = torch.randn(2, 1, 8, 8, 8, generator=torch.Generator().manual_seed(1))
    low = activation_checkpointing.checkpointed(block)
    for step in range(3):
        gradients = []
        for forward in (block, low):
            torch.manual_seed(step)
            gradients.append(torch.autograd.grad(forward(x).sum(), list(block.parameters())))
        torch.testing.assert_close(gradients[1], gradients[0])
    assert kept == [True, p > 0, p > 0]


def test_training_has_the_option(cohort: Path, tmp_path: Path) -> None:
    once = [*TRAIN, "--epochs", "1"]
    for memory in ("full", "low"):
        assert main(["train", str(cohort), str(tmp_path / memory), *once, "--memory", memory]) == 0
    full, low = (load_file(tmp_path / m / "model" / "fold-0.safetensors") for m in ("full", "low"))
    for name, value in full.items():
        np.testing.assert_allclose(low[name], value, rtol=1e-4, atol=1e-5, err_msg=name)
