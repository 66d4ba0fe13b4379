"""The linear covariate term of a network."""

from pathlib import Path

import pytest
import torch

from uncus.models.build import ModelConfig, build_model
from uncus.models.covariates import Covariates
from uncus.models.inference import predict
from uncus.models.weights import load_weights, save_weights, transfer


def test_the_term_is_linear_in_standardized_values_and_zero_if_missing() -> None:
    term = Covariates(2, 3)
    values = torch.tensor([[60.0, 0], [80, 1], [float("nan"), 1]])
    term.standardize(values)
    torch.nn.init.normal_(term.weight)
    deviations = torch.tensor([[-1.0, -(2**0.5)], [1, 0.5**0.5], [0, 0.5**0.5]])
    assert torch.allclose(term(values), deviations @ term.weight.T, atol=1e-6)
    assert torch.equal(term(torch.full((1, 2), torch.nan)), torch.zeros(1, 3))
    with pytest.raises(ValueError, match="covariate 1 is constant"):
        term.standardize(torch.tensor([[1.0, 0], [1, 1]]))


def test_the_term_is_added_to_the_output_of_the_scan() -> None:
    model = build_model(ModelConfig(backbone="tiny", covariates=1), seed=0).eval()
    assert model.covariates is not None
    torch.nn.init.normal_(model.covariates.weight)
    x = torch.randn(2, 1, 16, 16, 16)
    known = torch.tensor([[1.0], [-2.0]])
    assert torch.equal(model(x), model.classify(model.features(x)))
    added = model(x, known) - model(x)
    assert torch.allclose(added, model.covariates(known), atol=1e-6)
    for flip, each in ((False, (x[:1],)), (True, (x[:1], x[:1].flip(2)))):
        output, feature_map = predict(model, x[:1], flip, known[:1])
        expected = torch.stack([model(one, known[:1]) for one in each]).mean(0)
        assert torch.allclose(output, expected, atol=1e-6)
        assert torch.allclose(feature_map, model.features(x[:1]), atol=1e-6)


def test_the_term_is_not_transferred_to_another_task(tmp_path: Path) -> None:
    one, other = (
        build_model(ModelConfig(backbone="tiny", covariates=1), seed=seed) for seed in (0, 1)
    )
    assert one.covariates is not None
    assert other.covariates is not None
    torch.nn.init.ones_(one.covariates.weight)
    save_weights(one, tmp_path / "one.safetensors")
    transfer(other, one.state_dict(), head=False)
    assert not other.covariates.weight.any()
    load_weights(other, tmp_path / "one.safetensors")
    assert other.covariates.weight.all()


def test_a_polynomial_term_is_zero_if_missing() -> None:
    term = Covariates(1, 2, degree=2)
    term.standardize(torch.tensor([[60.0], [80]]))
    torch.nn.init.normal_(term.weight)
    output = term(torch.tensor([[100.0], [torch.nan]]))
    assert torch.allclose(output[0], term.weight @ torch.tensor([3.0, 9]), atol=1e-5)
    assert not output[1].any()
