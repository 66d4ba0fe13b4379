"""Group, layer, batch and instance normalization: torch's layers, with what they erase refused."""

import math

from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from uncus.models.fused.layer import fused_group_norm, is_fused
from uncus.models.norms.parts import Affine, size, voxels


class GroupNorm(nn.GroupNorm):
    """Group normalization (Wu & He 2018, arXiv 1803.08494).

    S = the C/G channels of one group and all voxels, of one sample:
    ``y = gamma_c * (x - mean_ng) / sqrt(var_ng + eps) + beta_c``. The same in training and
    inference; independent of the batch. G = 1 is layer norm, G = C instance norm. On a GPU by the
    kernels of ``uncus.models.fused``, which keep the input's type and layout.

    Raises
    ------
    ValueError: a group holds one value (C/G = 1 on a 1x1x1 map), where the result would be beta
        whatever the input.
    """

    def forward(self, input: Tensor) -> Tensor:
        refuse_single_values(input, self.num_groups)
        if is_fused(input) and self.affine and input.ndim > 2:
            return fused_group_norm(input, self.weight, self.bias, self.num_groups, self.eps)
        return super().forward(input)


class LayerNorm(GroupNorm):
    """Layer normalization (Ba 2016, arXiv 1607.06450), as convolutional networks use it.

    S = all channels and voxels of one sample; gamma and beta per channel. Group norm with G = 1.
    """

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__(1, channels, eps=eps)


class BatchNorm(_BatchNorm):
    """Batch normalization (Ioffe & Szegedy 2015, arXiv 1502.03167), any number of axes.

    S = one channel over the whole batch and all voxels; running means and (unbiased) variances,
    ``r <- 0.9 r + 0.1 batch``, take their place at inference.

    Raises
    ------
    ValueError: in training, one value a channel (batch 1 on a 1x1x1 map).
    """

    def _check_input_dim(self, input: Tensor) -> None:
        if input.ndim < 2:
            raise ValueError(f"batch norm of shape {list(input.shape)}: it takes [N, C, ...]")

    def forward(self, input: Tensor) -> Tensor:
        if self.training:
            refuse_single_channels(input, "batch norm")
        return super().forward(input)


class InstanceNorm(Affine):
    """Instance normalization (Ulyanov 2016, arXiv 1607.08022) with gamma and beta.

    S = the voxels of one channel of one sample. The same in training and inference.

    Raises
    ------
    ValueError: the map has one voxel, hence no variance.
    """

    def forward(self, input: Tensor) -> Tensor:
        if voxels(input) < 2:
            raise ValueError(
                f"instance norm of {list(input.shape)} has one voxel a channel, hence no variance; "
                "use --norm group, larger volumes or a smaller stem stride"
            )
        return F.instance_norm(input, weight=self.weight, bias=self.bias, eps=self.eps)


def refuse_single_values(x: Tensor, groups: int) -> None:
    """ValueError where each of ``groups`` of one sample holds one value, which has no variance."""
    if math.prod(x.shape[1:]) // groups < 2:
        raise ValueError(
            f"group norm over {groups} groups of {x.shape[1]} channels at {size(x)} voxels has "
            "one value a group and would erase it; use fewer groups, larger volumes or a smaller "
            "stem stride"
        )


def refuse_single_channels(x: Tensor, norm: str) -> None:
    """ValueError where a channel of the whole batch holds one value, which has no variance."""
    if x.shape[0] * voxels(x) < 2:
        raise ValueError(
            f"{norm} in training at batch {x.shape[0]} and {size(x)} voxels has one value a "
            "channel, hence no variance; use --norm group, a larger batch or larger volumes"
        )
