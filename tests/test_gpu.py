"""Tests that require a GPU: compiled kernels, CUDA graphs, and the same numbers as on a CPU.

Skipped without one. Sizes are those of real training where the kernels' plan depends on them.
"""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.conftest import TRAIN
from tests.models.fused.checks import (
    LAYOUTS,
    TOLERANCE,
    check_against_float64,
    results,
    tensors,
)
from uncus.data.augment import Augment
from uncus.data.noise import normal
from uncus.data.transforms import Augmentation
from uncus.models.build import BACKBONES, ModelConfig, build_model
from uncus.models.fused import layer
from uncus.models.norms import NORMS
from uncus.pipeline.cli import main
from uncus.pipeline.training.cuda_graphs import GraphedNetwork

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
GPU = torch.device("cuda")
CPU = torch.device("cpu")


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("shape", "groups", "activation", "residual"),
    [
        ((1, 32, 96, 96, 96), 8, "relu", False),
        ((1, 64, 48, 48, 48), 8, "relu", True),
        ((2, 128, 24, 24, 24), 8, "silu", True),
        ((3, 30, 13, 7, 11), 5, "none", True),
        ((1, 6, 1, 1, 5), 3, "silu", False),
        ((4, 512, 4, 4, 4), 32, "relu", True),
    ],
)
def test_the_kernels_agree_with_float64(shape, groups, activation, residual, layout, dtype) -> None:
    check_against_float64(shape, groups, layout, activation, residual, dtype, device="cuda")
    assert layer.is_fused(torch.empty(1, device=GPU, dtype=dtype))


def test_the_kernels_and_torch_agree() -> None:
    for layout in LAYOUTS:
        inputs, dy = tensors((2, 16, 19, 17, 15), torch.float32, layout, True)
        here = results(inputs, dy, 4, "relu")
        moved = [tensor.detach().to(GPU).requires_grad_() for tensor in inputs]
        there = results(moved, dy.to(GPU), 4, "relu")
        for a, b in zip(here, there, strict=True):
            torch.testing.assert_close(b.cpu(), a, rtol=1e-4, atol=1e-4)


def test_compiled_networks_keep_the_kernels() -> None:
    model = build_model(ModelConfig("resnet10", width=8, dropout=0.0), seed=0).to(GPU)
    x = torch.randn(1, 1, 33, 40, 36, device=GPU)
    wanted = [model(x), *torch.autograd.grad(model(x).sum(), list(model.parameters()))]
    fast = torch.compile(model, fullgraph=True)
    got = [fast(x), *torch.autograd.grad(fast(x).sum(), list(model.parameters()))]
    torch.testing.assert_close(got, wanted, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_network_is_the_same_on_both_devices(backbone: str) -> None:
    model = build_model(ModelConfig(backbone, width=16), seed=0).eval()
    x = torch.randn(1, 1, 48, 56, 48)
    with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        here, there = model(x), model.to(GPU)(x.to(GPU)).cpu()
    torch.testing.assert_close(there, here, rtol=1e-2, atol=1e-3)


def test_augmentation_is_the_same_on_both_devices() -> None:
    x = torch.zeros(2, 1, 40, 48, 44)
    x[:, :, 5:35, 5:43, 5:39] = torch.randn(2, 1, 30, 38, 34)
    augmentation = Augmentation.of(Augment(), (2.0, 2.0, 2.0), seed=0)
    here, there = (
        augmentation({"volume": x.to(device), "scan": torch.arange(2)})["volume"].cpu()
        for device in (CPU, GPU)
    )
    # A voxel with a value at the threshold may count as background on only one device.
    assert float(((there - here).abs() > 1e-3).float().mean()) < 1e-4
    torch.testing.assert_close(normal([1, 2], 10_001, GPU).cpu(), normal([1, 2], 10_001, CPU))


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("norm", NORMS)
def test_graphs_train_like_plain_passes(norm: str, accumulate: int) -> None:
    """With bf16, dropout, running statistics and a smaller last batch."""
    make = torch.Generator().manual_seed(0)
    batches = [torch.randn(n, 1, 16, 16, 16, generator=make).to(GPU) for n in (2, 2, 2, 1)]
    weights: list[dict[str, Any]] = []
    for graphs in (False, True):
        model = build_model(ModelConfig("tiny", norm, width=16, dropout=0.5), seed=0)
        model.train().to(GPU)
        network = GraphedNetwork(model, accumulate > 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)  # AdamW turns noise into steps
        for step, volume in enumerate(batches):
            torch.manual_seed(step)
            nothing = torch.zeros(len(volume), 0, device=GPU)
            with torch.autocast("cuda", dtype=torch.bfloat16):
                output = network(volume, nothing) if graphs else model(volume, nothing)
            if step % accumulate == 0:
                optimizer.zero_grad(set_to_none=not graphs or accumulate == 1)
            output.float().square().sum().backward()
            if (step + 1) % accumulate == 0:
                optimizer.step()
        weights.append(model.state_dict())
    for name, value in weights[0].items():
        torch.testing.assert_close(weights[1][name], value, rtol=1e-2, atol=1e-3, msg=name)


def test_a_step_never_waits_for_the_gpu() -> None:
    """Augmentation, forward, backward and AdamW are queued; torch raises if one synchronizes."""
    model = build_model(ModelConfig("resnet10", width=8), seed=0).train().to(GPU)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    x, target = torch.randn(2, 1, 32, 32, 32, device=GPU), torch.arange(2, device=GPU)
    augmentation = Augmentation.of(Augment(), (2.0, 2.0, 2.0), seed=0)
    for mode in ("default", "error"):  # the first compilation and allocation may wait
        torch.cuda.set_sync_debug_mode(mode)
        try:
            changed = augmentation({"volume": x, "scan": torch.arange(2)})["volume"]
            with torch.autocast("cuda", dtype=torch.bfloat16):
                output = model(changed)
            torch.nn.functional.cross_entropy(output.float(), target).backward()
            optimizer.step()
        finally:
            torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize(
    "options", [[], ["--graphs"], ["--compile"], ["--compile", "--graphs"], ["--channels-last"]]
)
def test_training_on_a_gpu(options: list[str], cohort: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert main(["train", str(cohort), str(run), *TRAIN, "--accelerator", "gpu", *options]) == 0
    weights = load_file(run / "model" / "fold-0.safetensors")
    assert all(math.isfinite(float(value.float().sum())) for value in weights.values())
