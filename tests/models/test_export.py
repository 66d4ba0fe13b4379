"""Export of feature extractors: group norm as convolutions, and graphs that take any weights."""

import pytest
import torch

from tests.models.networks import network
from uncus.models.export import export_features, normalized_by_group, open_weights
from uncus.models.norms import NORMS
from uncus.pipeline.prediction.openvino_engine import synthetic_volumes

SHAPE = (2, 1, 16, 24, 16)


@pytest.mark.parametrize("groups", [1, 4, 8])
def test_exported_group_norm_is_group_norm(groups: int) -> None:
    x = 3 + torch.randn(2, 8, 4, 5, 6)
    weight, bias = torch.randn(8), torch.randn(8)
    want = torch.nn.functional.group_norm(x, groups, weight, bias)
    torch.testing.assert_close(
        normalized_by_group(x, groups, weight, bias), want, rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("norm", NORMS)
def test_every_norm_can_be_exported(norm: str) -> None:
    """The graph, run by torch, with other weights than those of its export."""
    model, _ = network(norm)
    program = export_features(model, SHAPE)
    other, _ = network(norm, seed=1)
    x = synthetic_volumes(SHAPE)
    with torch.no_grad():
        want, got = other.features(x), program.module()(x, open_weights(other))
    # batch-channel norm has group means far from zero here: see normalized_by_group
    assert float((got - want).abs().max() / want.abs().max()) < 2e-3
