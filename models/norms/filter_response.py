"""Filter response normalization."""

import torch
from torch import Tensor, nn

from uncus.models.norms.parts import Affine, per_channel, wide


class FilterResponseNorm(Affine):
    """Filter response normalization, FRN with TLU (Singh & Krishnan 2020, arXiv 1911.09737).

    S = the voxels of one channel of one sample, without subtracting a mean:
    ``y = gamma_c * x / sqrt(mean_S(x^2) + eps + |e|) + beta_c``, then the thresholded linear unit
    ``max(y, tau_c)``, tau starting at 0. The same in training and inference.

    e, one learned number per layer that starts at 1e-4, is the paper's addition for maps of one
    voxel, where x / sqrt(x^2) is only a sign. Small volumes lead to such maps in any 3D network, so
    e is always used. The paper's eps is 1e-6; a layer that replaces another keeps the other's.

    The threshold is the activation. `uncus.models.norms.thresholds` removes the ReLU that it
    replaces; where no ReLU follows a norm (before a residual addition, before SiLU) it removes the
    threshold instead and keeps the network's own activation.
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
