"""Tests that require a GPU: compiled kernels, CUDA graphs, and the same numbers as on a CPU.

Skipped without one. Sizes are those of real training where the kernels' plan depends on them.
"""

import gc
import math
import threading
import warnings
from contextlib import nullcontext
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
from uncus.models.activation_checkpointing import checkpoint_blocks
from uncus.models.build import BACKBONES, ModelConfig, build_model
from uncus.models.fused import layer
from uncus.models.norms import NORMS
from uncus.pipeline.cli import main
from uncus.pipeline.training.learner import Learner
from uncus.pipeline.training.optimization import Optimization, parameter_groups
from uncus.pipeline.training.steps.whole_step import WholeStep

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
        ((1, 8, 91, 109, 91), 2, "relu", True),
        ((1, 128, 16, 16, 16), 8, "relu", True),
        ((2, 64, 20, 20, 20), 16, "silu", True),
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


def stepped(
    model: torch.nn.Module, batches: list[torch.Tensor], how: Optimization, record: bool
) -> WholeStep:
    """Train ``model`` by one step for each batch, in bf16; epsilon keeps noise from being steps."""
    model.train().to(GPU)
    groups = parameter_groups(model, how)
    optimizer = torch.optim.AdamW(groups, eps=0.1, fused=True)
    step = WholeStep(model, torch.nn.functional.cross_entropy, optimizer, how, record)
    for number, volume in enumerate(batches):
        torch.manual_seed(number)
        for group in optimizer.param_groups:
            group["lr"] = how.lr / (1 + number)
        nothing = torch.zeros(len(volume), 0, device=GPU)
        label = torch.arange(len(volume), device=GPU) % 2
        with torch.autocast("cuda", dtype=torch.bfloat16):
            loss = step(volume, nothing, label, update=(number + 1) % how.accumulate == 0)
        assert math.isfinite(float(loss))
    return step


def volumes(*sizes: int) -> list[torch.Tensor]:
    make = torch.Generator().manual_seed(0)
    return [torch.randn(n, 1, 16, 16, 16, generator=make).to(GPU) for n in sizes]


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("norm", NORMS)
def test_graphs_train_like_plain_steps(norm: str, accumulate: int) -> None:
    """With bf16, dropout, running statistics, a schedule, clipping and batches of two sizes."""
    how = Optimization(lr=0.1, accumulate=accumulate)
    weights, last = [], None
    for record in (False, True):
        model = build_model(ModelConfig("tiny", norm, width=16, dropout=0.5), seed=0)
        start = {name: value.clone() for name, value in model.state_dict().items()}
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message=".*cannot be recorded")
            last = stepped(model, volumes(*(10 * [2]), *(8 * [1])), how, record)
        weights.append(model.state_dict())
    assert last is not None and len(last.graphs) == 2 * accumulate
    for name, value in weights[0].items():
        torch.testing.assert_close(weights[1][name], value, rtol=1e-2, atol=2e-3, msg=name)
    assert any(float((weights[1][n].cpu() - v).abs().max()) > 0.02 for n, v in start.items())


@pytest.mark.parametrize("change", ["low memory", "channels last", "compiled"])
def test_other_networks_are_recorded_too(change: str) -> None:
    weights, last = [], None
    for record in (False, True):
        model = build_model(ModelConfig("resnet10", width=16, dropout=0.5), seed=0)
        if change == "low memory":
            checkpoint_blocks(model)
        elif change == "channels last":
            model.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        else:
            torch._dynamo.reset()
            model.compile(dynamic=False)
        last = stepped(model, volumes(*(8 * [2])), Optimization(lr=0.01), record)
        weights.append(model.state_dict())
    assert last is not None and len(last.graphs) == 1
    for name, value in weights[0].items():
        torch.testing.assert_close(weights[1][name], value, rtol=1e-2, atol=2e-3, msg=name)


def test_a_thread_that_pins_memory_does_not_break_a_recording() -> None:
    """Without the lock that our own reading thread heeds, as the one of torch's workers."""
    stop = threading.Event()
    rounds = []

    def pin() -> None:
        with torch.cuda.stream(torch.cuda.Stream()):
            while not stop.is_set():
                size = 1 << (16 + len(rounds) % 8)  # new blocks as well as cached ones
                values = torch.ones(size).pin_memory().to(GPU, non_blocking=True)
                rounds.append(float(values[-1]))

    thread = threading.Thread(target=pin)
    thread.start()
    try:
        for _ in range(3):
            model = build_model(ModelConfig("resnet10", width=16), seed=0)
            assert stepped(model, volumes(*(6 * [2])), Optimization(), record=True).graphs
    finally:
        stop.set()
        thread.join()
    assert len(rounds) > 10 and set(rounds) == {1.0}


def test_training_goes_on_where_a_step_cannot_be_recorded() -> None:
    """Memory of other streams is still freed, and random numbers are still drawn."""
    model = build_model(ModelConfig("tiny", width=16, dropout=0.5), seed=0)
    model.register_forward_hook(lambda module, inputs, output: output + 0 * output.sum().item())
    with pytest.warns(UserWarning, match="cannot be recorded"):
        step = stepped(model, volumes(*(8 * [2])), Optimization(), record=True)
    assert not step.graphs
    torch.cuda.empty_cache()
    before, side = torch.cuda.memory_reserved(), torch.cuda.Stream()
    for _ in range(50):
        block = torch.zeros(1 << 24, device=GPU)  # 64 MiB
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            block.add_(1)
        block.record_stream(side)
        del block
        side.synchronize()
    assert torch.cuda.memory_reserved() - before < 1 << 29
    other = build_model(ModelConfig("tiny", width=16, dropout=0.5), seed=0)
    assert stepped(other, volumes(*(6 * [2])), Optimization(), record=True).graphs


def test_graphs_need_little_more_memory() -> None:
    peaks = []
    for record in (False, True):
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_reserved()
        model = build_model(ModelConfig("resnet18", width=32), seed=0)
        large = [torch.randn(1, 1, 96, 96, 96, device=GPU)] * 6
        step = stepped(model, large, Optimization(), record)
        assert bool(step.graphs) == record
        peaks.append(torch.cuda.max_memory_reserved() - before)
        del model, step
    assert peaks[1] < 1.3 * peaks[0] + (1 << 26), peaks


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
    "options",
    [
        [],
        ["--accumulate", "2", "--memory", "low"],
        ["--compile"],
        ["--no-graphs"],
        ["--no-graphs", "--compile"],
        ["--no-channels-last", "--precision", "32"],
    ],
    ids=" ".join,
)
def test_training_on_a_gpu(options: list[str], cohort: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*cannot be recorded")
        assert main(["train", str(cohort), str(run), *TRAIN, "--accelerator", "gpu", *options]) == 0
    weights = load_file(run / "model" / "fold-0.safetensors")
    assert all(math.isfinite(float(value.float().sum())) for value in weights.values())


@pytest.mark.parametrize("options", [[], ["--no-graphs"]], ids=" ".join)
def test_training_never_waits_for_the_gpu_in_a_step(
    options: list[str], cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading, augmentation, step, log and check of the losses, in Lightning's loop."""
    start = Learner.on_train_batch_start
    checked = []

    def strict(self: Learner, batch: Any, batch_idx: int) -> None:
        last = batch_idx + 1 == self.trainer.num_training_batches
        usual = last or self.current_epoch == 0  # compiles, records and allocates
        torch.cuda.set_sync_debug_mode("default" if usual else "error")
        checked.append(not usual)
        start(self, batch, batch_idx)

    monkeypatch.setattr(Learner, "on_train_batch_start", strict)
    more = ["--folds", "1", "--batch-size", "1", "--accelerator", "gpu", *options]
    try:
        assert main(["train", str(cohort), str(tmp_path / "run"), *TRAIN, *more]) == 0
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert sum(checked) > 5


def test_batches_are_augmented_beside_the_step_before(
    cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a stream of their own, with the numbers that the current stream would give."""
    seen: dict[str, list[torch.Tensor]] = {"beside": [], "in order": []}
    streams = []
    changed, step = Learner.augmented, Learner.training_step

    def augmented(self: Learner, batch: Any, epoch: int) -> Any:
        streams.append(torch.cuda.current_stream() != torch.cuda.default_stream())
        return changed(self, batch, epoch)

    def training_step(self: Learner, batch: Any, batch_idx: int) -> torch.Tensor:
        volume = batch["volume"].clone()
        torch.cuda._sleep(10_000_000)  # the next batch is made meanwhile
        seen[how].append(volume)
        return step(self, batch, batch_idx)

    monkeypatch.setattr(Learner, "augmented", augmented)
    monkeypatch.setattr(Learner, "training_step", training_step)
    options = [*TRAIN, "--folds", "1", "--batch-size", "1", "--accelerator", "gpu"]
    for how in seen:
        if how == "in order":
            monkeypatch.setattr(Learner, "ahead", lambda self: nullcontext())
        assert main(["train", str(cohort), str(tmp_path / how), *options]) == 0
    half = len(streams) // 2
    assert half > 10 and all(streams[:half]) and not any(streams[half:])
    for one, two in zip(*seen.values(), strict=True):
        assert torch.equal(one, two)
