"""GN+: group norm mixed with a batch norm of its result."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from uncus.models.norms.classic import check_channel_size, check_group_size
from uncus.models.norms.parts import Affine, check_divisible, wide


class GroupPlusNorm(Affine):
    """GN+ of "Understanding and Improving Group Normalization" (Gunawan 2022, arXiv 2207.01972).

    ``y = gamma_c * (s * x_gn + (1 - s) * x_bn) + beta_c``, ``s = sigmoid(lambda)``, one learned
    lambda per layer (``mixing``) that starts at 1. ``x_gn`` is the group norm of x, ``x_bn`` a
    batch norm of ``x_gn``, both without gamma and beta: the variant "GN first, sequential".

    By default, unlike the authors' code, ``x_bn`` has statistics per channel over batch and space
    and running ones for inference (``r <- 0.9 r + 0.1 batch``): a prediction then depends on no
    other sample, and batch 1 can train.

    ``literal`` is the authors' code: ``x_gn = (x - mean) / (std + eps)``, and ``x_bn`` the same
    over the batch axis alone, for each channel and voxel, with unbiased standard deviations and no
    running statistics. Predictions then depend on the other samples of the batch at inference too;
    a single sample gives NaN there and an error here; two samples give +-0.707, which only tells
    which of the two was larger.

    Raises
    ------
    ValueError: groups of one value; in training one value per channel (batch 1 on a 1x1x1 map);
        with ``literal`` batch 1.
    """

    normalized_running_mean: Tensor
    normalized_running_var: Tensor

    def __init__(
        self,
        channels: int,
        groups: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        literal: bool = False,
    ) -> None:
        super().__init__(channels, eps)
        check_divisible(channels, groups)
        self.num_groups = groups
        self.momentum = momentum
        self.literal = False
        self.mixing = nn.Parameter(torch.ones(1))
        # Not batch norm's names: these are statistics of group norm's output.
        self.register_buffer("normalized_running_mean", torch.zeros(channels))
        self.register_buffer("normalized_running_var", torch.ones(channels))
        if literal:
            self.become_literal()

    def become_literal(self) -> None:
        """Compute as the authors' code does, without running statistics, from now on."""
        self.literal = True
        del self.normalized_running_mean, self.normalized_running_var

    def forward(self, input: Tensor) -> Tensor:
        x = wide(input)
        check_group_size(x, self.num_groups)
        grouped, batched = self._authors(x) if self.literal else self._running(x)
        share = torch.sigmoid(self.mixing.to(x.dtype))
        return self.affine(torch.lerp(batched, grouped, share)).to(input.dtype)

    def _running(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if self.training:
            check_channel_size(x, "GN+")
        grouped = F.group_norm(x.contiguous(), self.num_groups, eps=self.eps)
        running = (self.normalized_running_mean, self.normalized_running_var)
        if self.training:
            batched = F.batch_norm(grouped, *running, None, None, True, self.momentum, self.eps)
        else:
            mean, variance = (r.to(x) for r in running)
            batched = F.batch_norm(grouped, mean, variance, None, None, False, 0.0, self.eps)
        return grouped, batched

    def _authors(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if x.shape[0] < 2:
            raise ValueError(
                "GN+ as in its authors' code is undefined at batch 1, since it normalizes over the "
                "samples of the batch; use a larger batch, or leave --group-plus-literal out"
            )
        flat = x.reshape(x.shape[0], self.num_groups, -1)
        std, mean = torch.std_mean(flat, dim=2, keepdim=True)
        grouped = ((flat - mean) / (std + self.eps)).reshape(x.shape)
        std, mean = torch.std_mean(grouped, dim=0, keepdim=True)
        return grouped, (grouped - mean) / (std + self.eps)

    def extra_repr(self) -> str:
        literal = ", literal" if self.literal else ""
        return f"{super().extra_repr()}, groups={self.num_groups}{literal}"
