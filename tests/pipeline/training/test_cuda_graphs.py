"""CUDA graphs, but for the recording itself, which tests/test_gpu.py tests."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from tests.conftest import TRAIN
from uncus.models.build import ModelConfig, build_model
from uncus.pipeline.cli import main
from uncus.pipeline.training.cuda_graphs import GraphedNetwork, check_graphs


@pytest.fixture
def recorded(monkeypatch) -> list[tuple[int, ...]]:
    """Shapes that were recorded; replaces torch's recorder, which needs a GPU.

    Like torch's, it runs some steps first and returns all gradients in the same memory.
    """
    shapes: list[tuple[int, ...]] = []

    def record(module, samples: tuple[Tensor, ...], allow_unused_input: bool):
        shapes.append(tuple(samples[0].shape))
        parameters = [p for p in module.parameters() if p.requires_grad]
        gradients = [torch.empty_like(p) for p in parameters]

        class Replayed(torch.autograd.Function):
            @staticmethod
            def forward(ctx, volume, covariates, *parameters):
                with torch.enable_grad():
                    ctx.output = module(volume, covariates)
                return ctx.output.detach()

            @staticmethod
            def backward(ctx, dy):
                for gradient, value in zip(
                    gradients, torch.autograd.grad(ctx.output, parameters, dy), strict=True
                ):
                    gradient.copy_(value)
                return None, None, *(gradient.detach() for gradient in gradients)

        for _ in range(3):
            module(*samples)
        return lambda *inputs: Replayed.apply(*inputs, *parameters)

    monkeypatch.setattr(torch.cuda, "make_graphed_callables", record)
    return shapes


def batches(*sizes: int) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [(torch.randn(n, 1, 8, 9, 8, generator=generator), torch.zeros(n, 0)) for n in sizes]


@pytest.mark.parametrize("accumulate", [1, 2])
def test_graphs_compute_the_same_steps(recorded, accumulate: int) -> None:
    """With running statistics, dropout, a smaller last batch and accumulated gradients."""
    weights = []
    for graphs in (False, True):
        model = build_model(ModelConfig("tiny", "batch", width=4, dropout=0.5), seed=0).train()
        network = GraphedNetwork(model, accumulate > 1) if graphs else model
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
        for step, (volume, covariates) in enumerate(batches(2, 2, 2, 1)):
            torch.manual_seed(step)
            output = network(volume, covariates)
            if step % accumulate == 0:
                optimizer.zero_grad(set_to_none=not graphs or accumulate == 1)
            output.square().sum().backward()
            if (step + 1) % accumulate == 0:
                optimizer.step()
        weights.append(model.state_dict())
    assert recorded == [(2, 1, 8, 9, 8)]
    for name, value in weights[0].items():
        assert torch.equal(weights[1][name], value), name


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"on_gpu": False}, "needs a CUDA device"),
        ({"devices": 2}, "needs one device, not 2"),
    ],
)
def test_what_cannot_be_recorded_is_an_error(facts, message: str) -> None:
    usual = SimpleNamespace(on_gpu=True, devices=1)
    check_graphs(**vars(usual))
    with pytest.raises(ValueError, match=message):
        check_graphs(**{**vars(usual), **facts})


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_graphs_on_a_cpu_are_an_error(cohort: Path, tmp_path: Path, capsys) -> None:
    assert main(["train", str(cohort), str(tmp_path / "run"), *TRAIN, "--graphs"]) == 2
    error = capsys.readouterr().err
    assert "--graphs needs a CUDA device; leave it out" in error
    assert "Traceback" not in error
