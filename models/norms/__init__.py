"""Normalization layers by name: ``NORMS``."""

from uncus.models.norms.classic import BatchNorm, GroupNorm, InstanceNorm, LayerNorm
from uncus.models.norms.registry import (
    NORMS,
    Norm,
    check_groups,
    find_norm,
    make_norm,
    number_of_groups,
)

__all__ = [
    "NORMS",
    "BatchNorm",
    "GroupNorm",
    "InstanceNorm",
    "LayerNorm",
    "Norm",
    "check_groups",
    "find_norm",
    "make_norm",
    "number_of_groups",
]
