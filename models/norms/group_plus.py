"""GN+: group norm mixed with a batch norm of its result."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from uncus.models.norms.classic import refuse_single_channels, refuse_single_values
from uncus.models.norms.parts import Affine, refuse_uneven_groups, wide


class GroupPlusNorm(Affine):
    """GN+ of "Understanding and Improving Group Normalization" (Gunawan 2022, arXiv 2207.01972).

    ``y = gamma_c * (s * x_gn + (1 - s) * x_bn) + beta_c``, ``s = sigmoid(lambda)``, one learned
    lambda a layer (``mixing``), started at 1. ``x_gn`` is the group norm of x, ``x_bn`` a batch
    norm of ``x_gn``, both without gamma and beta: the variant "GN first, sequential".

    As it is used here, ``x_bn`` takes its statistics per channel over batch and space and has
    running ones for inference (``r <- 0.9 r + 0.1 batch``), a deviation from the authors: a
    prediction then depends on no other sample, and batch 1 trains.

    With ``literal`` it is their own code: ``x_gn = (x - mean) / (std + eps)``, and ``x_bn`` the
    same over the batch axis alone, for each channel and voxel, with unbiased standard deviations
    and no running statistics. That breaks: predictions depend on the batch-mates also at
    inference; one sample alone has no result (theirs is NaN); two samples give +-0.707 whatever
    the data, which of the two was larger and no more.

    Raises
    ------
    ValueError: groups of one value; in training one value a channel (batch 1 on a 1x1x1 map);
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
        refuse_uneven_groups(channels, groups)
        self.num_groups = groups
        self.momentum = momentum
        self.literal = False
        self.mixing = nn.Parameter(torch.ones(1))
        # Not batch norm's names: these are statistics of what group norm leaves.
        self.register_buffer("normalized_running_mean", torch.zeros(channels))
        self.register_buffer("normalized_running_var", torch.ones(channels))
        if literal:
            self.become_literal()

    def become_literal(self) -> None:
        """Compute as the authors' code does from here on, without running statistics."""
        self.literal = True
        del self.normalized_running_mean, self.normalized_running_var

    def forward(self, input: Tensor) -> Tensor:
        x = wide(input)
        refuse_single_values(x, self.num_groups)
        grouped, batched = self._literally(x) if self.literal else self._usably(x)
        share = torch.sigmoid(self.mixing.to(x.dtype))
        return self.affine(torch.lerp(batched, grouped, share)).to(input.dtype)

    def _usably(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if self.training:
            refuse_single_channels(x, "GN+")
        grouped = F.group_norm(x.contiguous(), self.num_groups, eps=self.eps)
        running = (self.normalized_running_mean, self.normalized_running_var)
        if self.training:
            batched = F.batch_norm(grouped, *running, None, None, True, self.momentum, self.eps)
        else:
            mean, variance = (r.to(x) for r in running)
            batched = F.batch_norm(grouped, mean, variance, None, None, False, 0.0, self.eps)
        return grouped, batched

    def _literally(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if x.shape[0] < 2:
            raise ValueError(
                "GN+ in its authors' form at batch 1 is not a number: it normalizes over the "
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
