"""Training steps of several processes: together the step of one process with the whole batch."""

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from uncus.pipeline.training.data_loading import EpochSampler
from uncus.pipeline.training.learner import Learner
from uncus.pipeline.training.optimization import parameter_groups


class SharedLearner(Learner):
    """A learner with a share of each batch: every P-th scan of the order of ``sampler``.

    DDP averages gradients over the processes. The loss is such that this average is the gradient of
    the mean over the whole batch, whose scans may have different weights, or values missing. An
    epoch's last batch may be too small for all shares: repeated scans then count nothing.
    """

    def __init__(self, sampler: EpochSampler, **options: Any) -> None:
        super().__init__(**options)
        self.sampler = sampler
        self.model.dropout = SharedDropout(self.model.dropout.p, sampler)
        # Freezes what is not trained, before DDP counts the parameters to wait for.
        parameter_groups(self.model, self.optimization)

    def random_start(self, volume: Tensor) -> Tensor:
        whole = volume.new_empty(len(volume) * self.sampler.processes, *volume.shape[1:])
        return whole.uniform_(-1, 1)[self.sampler.rank :: self.sampler.processes]

    def training_loss(self, output: Tensor, label: Tensor, step: int) -> tuple[Tensor, int]:
        size, sampler = self.optimization.batch_size, self.sampler
        first, whole = step * size * sampler.processes, size * sampler.processes
        rows = first + torch.arange(len(label)) * sampler.processes + sampler.rank
        known = (rows < sampler.length).to(label.device)
        total, weight = self.summed_loss(output[known], label[known])
        dist.all_reduce(weight)
        loss = sampler.processes * total / weight.clamp(min=1e-12)
        return loss, min(whole, sampler.length - first)

    def summed_loss(self, output: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        """The loss [] summed over a share of a batch, and the total [] to divide it by."""
        output = output.float()
        if self.scale is None:
            smoothing, weights = self.optimization.label_smoothing, self.class_weights
            total = F.cross_entropy(
                output, label, weight=weights, label_smoothing=smoothing, reduction="sum"
            )
            ones = torch.ones_like(label, dtype=torch.float32)
            return total, (ones if weights is None else weights[label]).sum()
        known = torch.isfinite(label)
        error = torch.where(known, output - torch.nan_to_num(label), torch.zeros_like(output))
        return error.square().sum(), known.float().sum()


class SharedDropout(nn.Dropout):
    """Dropout of a share of a batch, with the mask that one process draws for the whole batch."""

    def __init__(self, p: float, sampler: EpochSampler) -> None:
        super().__init__(p)
        self.sampler = sampler

    def forward(self, x: Tensor) -> Tensor:
        """Features [N, C] with some of their channels 0."""
        if not self.training:
            return x
        whole = x.new_ones(len(x) * self.sampler.processes, x.shape[1])
        return x * super().forward(whole)[self.sampler.rank :: self.sampler.processes]
