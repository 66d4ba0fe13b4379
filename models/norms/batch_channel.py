"""Batch-channel normalization: estimated batch statistics, then channel groups."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from uncus.models.norms.classic import check_group_size
from uncus.models.norms.parts import Affine, check_divisible, per_channel, wide


class BatchChannelNorm(Affine):
    """Batch-channel normalization, BCN for micro-batches (Qiao 2019, arXiv 1903.10520).

    First a batch norm by estimated statistics, in training too: ``x_b = a_c * (x - m_c) / sqrt(v_c
    + eps) + b_c`` with ``m <- m + r * (mean_batch(x) - m)`` and ``v <- v + r * (mean_batch((x -
    m)^2) - v)`` (m before its update), r = 0.1; no gradient passes through m and v. At inference
    they are constant. Then a channel norm over the C/G channels of a group and all voxels of a
    sample: ``y = gamma_c * (x_b - mean_ng) / sqrt(var_ng + eps) + beta_c``. a and b are
    ``batch_weight`` and ``batch_bias``. The authors' code has one gamma and beta for each group;
    here each channel has its own, as in all ``NORMS``, so that swapping norms keeps them.

    Raises
    ------
    ValueError: a group of one value per sample (C/G = 1 on a 1x1x1 map).
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(
        self, channels: int, groups: int, eps: float = 1e-5, momentum: float = 0.1
    ) -> None:
        super().__init__(channels, eps)
        check_divisible(channels, groups)
        self.num_groups = groups
        self.momentum = momentum
        self.batch_weight = nn.Parameter(torch.ones(channels))
        self.batch_bias = nn.Parameter(torch.zeros(channels))
        # Statistics of the layer's input, as batch norm's, so they have the same names.
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, input: Tensor) -> Tensor:
        x = wide(input)
        check_group_size(x, self.num_groups)
        mean, variance = self._estimate(x)
        estimated = F.batch_norm(
            x,
            mean,
            variance,
            self.batch_weight.to(x.dtype),
            self.batch_bias.to(x.dtype),
            False,
            0.0,
            self.eps,
        )
        y = F.group_norm(
            estimated.contiguous(),
            self.num_groups,
            self.weight.to(x.dtype),
            self.bias.to(x.dtype),
            self.eps,
        )
        return y.to(input.dtype)

    @torch.no_grad()
    def _estimate(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """m and v, in training after their update; copies, since a later step overwrites them."""
        if self.training:
            axes = (0, *range(2, x.ndim))
            old = per_channel(self.running_mean.to(x.dtype), x)
            spread = (x - old).square().mean(axes)
            self.running_mean.lerp_(x.mean(axes).to(self.running_mean.dtype), self.momentum)
            self.running_var.lerp_(spread.to(self.running_var.dtype), self.momentum)
            return self.running_mean.to(x.dtype, copy=True), self.running_var.to(x.dtype, copy=True)
        return self.running_mean.to(x.dtype), self.running_var.to(x.dtype)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, groups={self.num_groups}"
