"""GroupNorm, residual and activation as one operation, with its Triton kernels."""

from uncus.models.fused.layer import (
    FusedGroupNorm,
    activated,
    fused_group_norm,
    is_fused,
    plain,
    switched,
)

__all__ = ["FusedGroupNorm", "activated", "fused_group_norm", "is_fused", "plain", "switched"]
