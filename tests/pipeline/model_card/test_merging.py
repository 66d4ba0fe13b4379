"""The mean of networks with one trunk gives the mean of their outputs."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from uncus.data.errors import BadInput
from uncus.models.build import ModelConfig, build_model
from uncus.pipeline.model_card.merging import mean_network, merge
from uncus.pipeline.prediction.predictor import Predictor
from uncus.pipeline.runs import Run
from uncus.pipeline.train import train
from uncus.pipeline.training.optimization import Optimization


@pytest.mark.parametrize("regression", [False, True])
def test_the_mean_network_gives_the_mean_output(regression: bool) -> None:
    rng = np.random.default_rng(0)
    config = ModelConfig(backbone="tiny", classes=2, covariates=2, covariate_degree=2)
    networks = [build_model(config, seed=0) for _ in range(3)]
    members: list[dict[str, Any]] = [{} for _ in networks]
    for network, member in zip(networks, members, strict=True):
        assert network.covariates
        torch.nn.init.normal_(network.head.weight)
        torch.nn.init.normal_(network.head.bias)
        torch.nn.init.normal_(network.covariates.weight)
        network.covariates.standardize(torch.from_numpy(rng.normal(70, 9, (8, 2))))
        if regression:
            member |= {"mean": [70.0, rng.normal()], "std": [9.0, float(rng.uniform(1, 2))]}
    x, values = torch.randn(2, 1, 16, 16, 16), torch.tensor([[65.0, 80.0], [90.0, 61.0]])

    def output(network: Any, member: dict[str, Any]) -> np.ndarray:
        found = network.eval()(x, values).detach().double().numpy()
        return found * np.array(member.get("std", 1.0)) + np.array(member.get("mean", 0.0))

    each = [output(network, one) for network, one in zip(networks, members, strict=True)]
    mean = mean_network(networks, members)
    np.testing.assert_allclose(output(mean, members[0]), np.mean(each, 0), rtol=1e-4, atol=1e-4)


def test_a_run_with_one_trunk_is_merged(cohort: Path, run: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="differ before their heads"):
        merge(Run(run), tmp_path / "merged")
    options: Any = {"optimization": Optimization(epochs=0, refit_head=1.0), "folds": 2}
    options |= {"model": ModelConfig(backbone="tiny"), "classes": ("CN=CN", "AD=AD")}
    weights = run / "model" / "fold-0.safetensors"
    train(cohort, tmp_path / "run", target=("diagnosis",), init_from=weights, **options)
    merged = merge(Run(tmp_path / "run"), tmp_path / "merged")
    both, one = (Predictor(path, segment=None) for path in (tmp_path / "run", merged.path))
    assert len(both.networks) == 2 and len(one.networks) == 1
    x = torch.randn(1, 1, *one.grid.shape)
    expected = torch.stack([network(x) for network in both.networks]).mean(0)
    assert torch.allclose(one.networks[0](x), expected, atol=1e-4)
    with pytest.raises(BadInput, match="exists"):
        merge(Run(tmp_path / "run"), merged.path)
