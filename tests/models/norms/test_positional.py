"""Positional normalization and its moment shortcut."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.models.norms.formulas import affine, standardize, trained
from uncus.models.build import ModelConfig, build_model
from uncus.models.norms.positional import PositionalNorm, position_moments


def test_positional_norm_is_its_formula_and_layer_norm_of_the_channels(x: Tensor) -> None:
    layer = trained(PositionalNorm(12))
    torch.testing.assert_close(layer(x), affine(layer, standardize(x, (1,))))
    theirs = F.layer_norm(x.movedim(1, -1), (12,), layer.weight, layer.bias).movedim(-1, 1)
    torch.testing.assert_close(layer(x), theirs)
    with pytest.raises(ValueError, match="1 channel would erase it"):
        PositionalNorm(1)


def test_the_moment_shortcut_restores_the_moments(x: Tensor) -> None:
    layer = PositionalNorm(12).double()
    torch.testing.assert_close(layer(x, position_moments(x)), x)


def test_a_block_with_moment_shortcut_starts_as_its_shortcut_and_uses_the_moments() -> None:
    for depth in (18, 50):
        config = ModelConfig(f"resnet{depth}", "positional", width=4, moment_shortcut=True)
        block = build_model(config, seed=0).layer2[1]
        x = torch.rand(1, 8 * block.expansion, 4, 4, 4)
        torch.testing.assert_close(block(x), x)
        last = block.norm3 if depth == 50 else block.norm2
        nn.init.ones_(last.weight)
        with_moments = block(x)
        block.moment_shortcut = False
        assert not torch.allclose(block(x), with_moments)
