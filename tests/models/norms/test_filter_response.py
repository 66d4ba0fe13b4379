"""Filter response normalization: its formula."""

import torch
from torch import Tensor

from tests.models.norms.formulas import affine, trained
from uncus.models.norms.filter_response import FilterResponseNorm


def test_filter_response_norm_is_its_formula(x: Tensor) -> None:
    layer = trained(FilterResponseNorm(12, 1e-6))
    power = (x**2).mean((2, 3, 4), keepdim=True)
    y = affine(layer, x / (power + 1e-6 + layer.learned_eps.abs()).sqrt())
    torch.testing.assert_close(layer(x), torch.maximum(y, layer.threshold.view(1, -1, 1, 1, 1)))
