"""The implementations of the fused norm."""

import pytest

from uncus.models.fused import layer
from uncus.models.fused.operation import INTERPRETED


@pytest.fixture(params=["kernels"] if INTERPRETED else ["plain", "twin"])
def way(request, monkeypatch) -> str:
    """Which of the three implementations runs."""
    if request.param == "twin":
        monkeypatch.setattr(layer, "uses_kernels", lambda x: True)
    return request.param


@pytest.fixture
def registered(monkeypatch) -> None:
    """The registered operation, as on a GPU, also where torch's layers would run."""
    monkeypatch.setattr(layer, "uses_kernels", lambda x: True)
