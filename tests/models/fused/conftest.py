"""The implementations of the fused norm."""

import pytest

from uncus.models.fused import layer
from uncus.models.fused.operation import INTERPRETED


@pytest.fixture(params=["split", "whole"] if INTERPRETED else ["plain", "torch"])
def way(request, monkeypatch) -> str:
    """The implementation in use: torch's layers, the operation in torch, or one kind of kernels."""
    if request.param == "torch":
        monkeypatch.setattr(layer, "uses_kernels", lambda x: True)
    if request.param == "split":
        from uncus.models.fused import kernels

        monkeypatch.setattr(
            kernels, "_tried", dict.fromkeys((False, True), kernels.Settings(group=0))
        )
    return request.param


@pytest.fixture
def registered(monkeypatch) -> None:
    """Use the registered operation on the CPU too."""
    monkeypatch.setattr(layer, "uses_kernels", lambda x: True)
