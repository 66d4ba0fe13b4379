"""The implementations of the fused norm."""

import pytest

from uncus.models.fused import layer
from uncus.models.fused.operation import INTERPRETED


@pytest.fixture(params=["kernels"] if INTERPRETED else ["plain", "torch"])
def way(request, monkeypatch) -> str:
    """The implementation in use: torch's layers, the operation in torch, or its kernels."""
    if request.param == "torch":
        monkeypatch.setattr(layer, "uses_kernels", lambda x: True)
    return request.param


@pytest.fixture
def registered(monkeypatch) -> None:
    """Use the registered operation on the CPU too."""
    monkeypatch.setattr(layer, "uses_kernels", lambda x: True)
