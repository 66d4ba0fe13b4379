"""Loading a run's networks and reference: the same outputs, and nothing that does not fit."""

import json
import resource
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from uncus.data.errors import BadInput
from uncus.models.build import ModelConfig, build_model
from uncus.models.weights import load_weights
from uncus.pipeline.predict import Predictor
from uncus.pipeline.prediction.trained_networks import read_networks
from uncus.pipeline.runs import Run


@pytest.fixture
def copied(run: Path, tmp_path: Path) -> Run:
    """A run whose files may be changed."""
    shutil.copytree(run / "model", tmp_path / "run" / "model")
    return Run(tmp_path / "run")


def sealed(run: Run, **values: Any) -> Path:
    """Change values of the card and seal it again."""
    run.card_path.write_text(json.dumps(json.loads(run.card_path.read_text()) | values))
    run.seal()
    return run.path


@torch.inference_mode()
def test_networks_without_memory_take_the_weights_and_compute_the_same(run: Path) -> None:
    config, networks = read_networks(Run(run), torch.device("cpu"))
    x = torch.randn(1, 1, 16, 16, 16)
    for network, member in zip(networks, Run(run).card["members"], strict=True):
        usual = build_model(config)
        load_weights(usual, Run(run).model_folder / member["file"])
        assert torch.equal(network(x), usual.eval()(x))
        assert not network.training


def test_a_network_that_the_weights_do_not_fit_costs_nothing(copied: Run) -> None:
    model = {**copied.card["model"], "backbone": "resnet50", "width": 512}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match="weights of another network"):
        Predictor(sealed(copied, model=model))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1 << 20  # kB; it has 12 GB
    parameters = build_model_size(ModelConfig(backbone="resnet50", width=512))
    assert parameters > 2 * 10**9


def build_model_size(config: ModelConfig) -> int:
    """Number of parameters."""
    with torch.device("meta"):
        return sum(p.numel() for p in build_model(config).parameters())


@pytest.mark.parametrize(
    ("values", "cause"),
    [
        ({"backbone": "resnet9000"}, "unknown backbone"),
        ({"width": 1 << 40}, "width=1099511627776: must be 2 to 512"),
        ({"groups": 3}, "groups=3 does not divide"),
        ({"dropout": 1}, "dropout=1"),
        ({"widht": 16}, "did you mean 'width'"),
        ({"classes": 3}, "lists 2 classes for a network of 3"),
        ({"covariates": 1}, "lists 0 covariates for a network of 1"),
    ],
)
def test_an_architecture_that_does_not_fit_names_the_card(
    copied: Run, values: dict[str, Any], cause: str
) -> None:
    path = sealed(copied, model=copied.card["model"] | values)
    with pytest.raises(BadInput, match=cause) as caught:
        Predictor(path)
    assert str(copied.card_path) in str(caught.value)


@pytest.mark.parametrize("case", ["shape", "nan", "lacks one", "text"])
def test_a_reference_that_does_not_fit_is_rejected(copied: Run, case: str) -> None:
    tensors = load_file(copied.reference_path)
    if case == "shape":
        tensors = {name: value[1:] for name, value in tensors.items()}
    elif case == "nan":
        tensors["mean"][0, 0, 0] = np.nan
    elif case == "lacks one":
        del tensors["region"]
    save_file(tensors, copied.reference_path)
    if case == "text":
        copied.reference_path.write_text("text")
    with pytest.raises(BadInput, match=r"reference\.safetensors: "):
        Predictor(sealed(copied))


def test_a_grid_larger_than_any_scan_is_rejected_before_it_is_made(copied: Run) -> None:
    grid = copied.card["grid"]
    with pytest.raises(BadInput, match="its grid has 4096 x 4096 x 4096 voxels"):
        Predictor(sealed(copied, grid={**grid, "shape": [4096] * 3}))
    with pytest.raises(BadInput, match=r"on a grid of .* \(500, 500, 500\)"):
        Predictor(sealed(Run(copied.path), grid={**grid, "shape": [500] * 3}))
