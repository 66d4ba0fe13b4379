"""Weight standardization: its formula."""

import torch
from torch.nn import functional as F

from uncus.models.build import ModelConfig, build_model
from uncus.models.weight_standardization import StandardizedConv3d, standardized


def test_standardized_weights_are_their_formula_and_keep_names() -> None:
    w = torch.randn(4, 3, 3, 3, 3, dtype=torch.float64, requires_grad=True)
    flat = w.flatten(1)
    expected = (flat - flat.mean(1, keepdim=True)) / (flat.std(1, keepdim=True) + 1e-5)
    torch.testing.assert_close(standardized(w).flatten(1), expected)
    plain = build_model(ModelConfig("tiny"), seed=0)
    network = build_model(ModelConfig("tiny", weight_standardization=True), seed=0)
    assert network.state_dict().keys() == plain.state_dict().keys()
    network.load_state_dict(plain.state_dict())
    layer = network.stages[0][0]
    assert type(layer) is StandardizedConv3d
    x = torch.randn(1, 1, 8, 8, 8)
    torch.testing.assert_close(
        layer(x), F.conv3d(x, standardized(layer.weight), None, 2, 1), atol=1e-5, rtol=1e-5
    )
    assert not torch.allclose(network.eval()(x), plain.eval()(x))
