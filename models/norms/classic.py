"""Group, layer, batch and instance normalization: torch's layers, with errors for lost inputs."""

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
    inference; independent of the batch. G = 1 is layer norm, G = C instance norm. On a GPU the
    kernels of ``uncus.models.fused`` compute it, in the input's dtype and memory layout.

    Raises
    ------
    ValueError: a group of one value (C/G = 1 on a 1x1x1 map), where the result would be beta for
        any input.
    """

    def forward(self, input: Tensor) -> Tensor:
        check_group_size(input, self.num_groups)
        if is_fused(input) and self.affine and input.ndim > 2:
            return fused_group_norm(input, self.weight, self.bias, self.num_groups, self.eps)
        return super().forward(input)


class LayerNorm(GroupNorm):
    """Layer normalization (Ba 2016, arXiv 1607.06450), as used in convolutional networks.

    S = all channels and voxels of one sample; gamma and beta per channel. Group norm with G = 1.
    """

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__(1, channels, eps=eps)


class BatchNorm(_BatchNorm):
    """Batch normalization (Ioffe & Szegedy 2015, arXiv 1502.03167), any number of axes.

    S = one channel over the whole batch and all voxels; at inference, running means and
    (unbiased) variances, ``r <- 0.9 r + 0.1 batch``.

    Raises
    ------
    ValueError: in training, one value per channel (batch 1 on a 1x1x1 map).
    """

    def _check_input_dim(self, input: Tensor) -> None:
        if input.ndim < 2:
            raise ValueError(f"batch norm of shape {list(input.shape)}: expected [N, C, ...]")

    def forward(self, input: Tensor) -> Tensor:
        if self.training:
            check_channel_size(input, "batch norm")
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
                f"instance norm of {list(input.shape)} has one voxel per channel, so no variance; "
                "use --norm group, larger volumes or a smaller stem stride"
            )
        return F.instance_norm(input, weight=self.weight, bias=self.bias, eps=self.eps)


def check_group_size(x: Tensor, groups: int) -> None:
    """Raise ValueError if each of ``groups`` has one value per sample, so no variance."""
    if math.prod(x.shape[1:]) // groups < 2:
        raise ValueError(
            f"group norm over {groups} groups of {x.shape[1]} channels at {size(x)} voxels has "
            "one value per group, which it would erase; use fewer groups, larger volumes or a "
            "smaller stem stride"
        )


def check_channel_size(x: Tensor, norm: str) -> None:
    """Raise ValueError if each channel has one value in the whole batch, hence no variance."""
    if x.shape[0] * voxels(x) < 2:
        raise ValueError(
            f"{norm} in training at batch {x.shape[0]} and {size(x)} voxels has one value per "
            "channel, hence no variance; use --norm group, a larger batch or larger volumes"
        )
