"""Fixtures for tests of normalization layers."""

import pytest
import torch
from torch import Tensor


@pytest.fixture
def x() -> Tensor:
    """A batch [3, 12, 4, 3, 5] in float64."""
    random = torch.Generator().manual_seed(0)
    return 2 + 3 * torch.randn(3, 12, 4, 3, 5, dtype=torch.float64, generator=random)
