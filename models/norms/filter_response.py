"""Filter response normalization."""

import torch
from torch import Tensor, nn

from uncus.models.norms.parts import Affine, per_channel, wide


class FilterResponseNorm(Affine):
    """Filter response normalization, FRN with TLU (Singh & Krishnan 2020, arXiv 1911.09737).

    S = the voxels of one channel of one sample, without subtracting a mean:
    ``y = gamma_c * x / sqrt(mean_S(x^2) + eps + |e|) + beta_c``, then the thresholded linear unit
    ``max(y, tau_c)``, tau started at 0. The same in training and inference.

    e, one learned number a layer started at 1e-4, is what the paper adds for maps of one voxel,
    where x / sqrt(x^2) is no more than a sign; a 3D network meets them whenever volumes are
    small, so it is always there. The paper's eps is 1e-6; a layer that takes another's place in a
    network keeps that one's.

    The threshold is the activation. `uncus.models.norms.thresholds` takes out the ReLU that it
    stands for; where a norm is not followed by one (before a residual addition, before SiLU) it
    leaves the threshold out instead, and the network's own activation does its part.
    """

    threshold: nn.Parameter | None

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__(channels, eps)
        self.threshold = nn.Parameter(torch.zeros(channels))
        self.learned_eps = nn.Parameter(torch.full((1,), 1e-4))

    def forward(self, input: Tensor) -> Tensor:
        x = wide(input)
        axes = tuple(range(2, x.ndim))
        power = x.square().mean(axes, keepdim=True) if axes else x.square()
        y = self.affine(x * (power + self.eps + self.learned_eps.to(x.dtype).abs()).rsqrt())
        if self.threshold is not None:
            y = torch.maximum(y, per_channel(self.threshold.to(x.dtype), x))
        return y.to(input.dtype)
