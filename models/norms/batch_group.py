"""Batch group normalization: statistics over the batch and groups that grow as it shrinks."""

import torch
from torch import Tensor
from torch.nn import functional as F

from uncus.models.norms.parts import Affine, size, voxels, wide

SCHEDULE = {128: 512, 64: 256, 32: 128, 16: 64, 8: 16, 4: 2, 2: 1}
"""Samples in a batch -> groups, as in the paper."""


class BatchGroupNorm(Affine):
    """Batch group normalization, BGN (Zhou 2020, arXiv 2012.02782).

    Channels and space are flattened to M = C*X*Y*Z and cut into G groups of M/G values. S = one
    group over the whole batch, N*M/G values: ``y = gamma_c * (x - mean_g) / sqrt(var_g + eps) +
    beta_c``. At inference running averages are used, ``r <- 0.9 r + 0.1 batch`` with
    unbiased variances, as in batch norm. G = C is batch norm; at batch 1, G = 1 is layer
    norm in training, and a G that divides C group norm.

    G must divide C (groups of whole channels) or be a multiple of it (parts of a channel, which the
    volume's size must allow). By default it depends on the batch: the largest divisor of C up to
    the paper's number for that many samples (128, 64, 32, 16, 8, 4, 2: 512, 256, 128, 64, 16, 2,
    1), so whole channels for any volume size, and one group at batch 1 to 3. Running averages are
    stored for each channel, as its group's, so they fit any such G.

    Raises
    ------
    ValueError: G neither divides nor is a multiple of C; in training, groups of one value.
    """

    group_running_mean: Tensor
    group_running_var: Tensor

    def __init__(
        self, channels: int, groups: int | None = None, eps: float = 1e-5, momentum: float = 0.1
    ) -> None:
        super().__init__(channels, eps)
        if groups is not None and channels % groups and groups % channels:
            raise ValueError(
                f"groups={groups} neither divides {channels} channels nor is a multiple of them"
            )
        self.num_groups = groups
        self.momentum = momentum
        slots = max(channels, groups or 1)
        # Not batch norm's names: its statistics are of one channel each.
        self.register_buffer("group_running_mean", torch.zeros(slots))
        self.register_buffer("group_running_var", torch.ones(slots))

    def forward(self, input: Tensor) -> Tensor:
        x = wide(input)
        slots = len(self.group_running_mean)
        if (voxels(x) * self.num_features) % slots:
            raise ValueError(
                f"batch group norm: {slots} groups do not divide {self.num_features} channels of "
                f"{size(x)} voxels; use fewer groups, or leave --groups out"
            )
        # Normalized as [N, statistics, values of each].
        if self.training:
            groups = self.num_groups or groups_for_batch(x.shape[0], self.num_features)
            if x.numel() < 2 * groups:
                raise ValueError(
                    f"batch group norm in training at batch {x.shape[0]}, {size(x)} voxels and "
                    f"{groups} groups has one value per group, so no variance; use fewer groups, "
                    "a larger batch or larger volumes"
                )
            flat = x.reshape(x.shape[0], groups, -1)
            mean, variance = (torch.zeros(groups, dtype=x.dtype, device=x.device) for _ in "mv")
            # With momentum 1 the "running" statistics become the batch's own.
            normalized = F.batch_norm(flat, mean, variance, None, None, True, 1.0, self.eps)
            self._update(mean, variance)
        else:
            flat = x.reshape(x.shape[0], slots, -1)
            mean, variance = self.group_running_mean.to(x), self.group_running_var.to(x)
            normalized = F.batch_norm(flat, mean, variance, None, None, False, 0.0, self.eps)
        return self.affine(normalized.reshape(x.shape)).to(input.dtype)

    @torch.no_grad()
    def _update(self, mean: Tensor, variance: Tensor) -> None:
        """Update the running averages by a batch's statistics [G]."""
        for running, new in ((self.group_running_mean, mean), (self.group_running_var, variance)):
            values = new.repeat_interleave(len(running) // len(new)).to(running.dtype)
            running.lerp_(values, self.momentum)

    def extra_repr(self) -> str:
        groups = "by the batch" if self.num_groups is None else self.num_groups
        return f"{super().extra_repr()}, groups={groups}"


def groups_for_batch(samples: int, channels: int) -> int:
    """G for a batch: the largest divisor of ``channels`` that ``SCHEDULE`` allows."""
    limit = next((groups for batch, groups in SCHEDULE.items() if samples >= batch), 1)
    allowed = range(1, min(channels, limit) + 1)
    return max(number for number in allowed if channels % number == 0)
