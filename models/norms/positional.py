"""Positional normalization and its moment shortcut."""

import torch
from torch import Tensor

from uncus.models.norms.parts import Affine, wide

Moments = tuple[Tensor, Tensor]
"""Mean and standard deviation over the channels, ``[N, 1, X, Y, Z]`` each."""


class PositionalNorm(Affine):
    """Positional normalization, PONO (Li 2019, arXiv 1907.04312).

    S = the channels of one voxel of one sample: ``x_hat = (x - mean_nv) / std_nv`` with
    ``std = sqrt(var + eps)``, ``y = gamma_c * x_hat + beta_c``. The same in training and
    inference. The authors' code differs in two ways: it has no gamma and beta (here they start at 1
    and 0, as without them, so that swapping norms keeps trained ones), and its variance is unbiased
    (here over C, as in the paper).

    The moment shortcut passes the two moments, which describe a map's structure, to a later layer:
    ``y = gamma_c * (x_hat * std + mean) + beta_c`` with the moments of an earlier map of the same
    size. A ResNet's block with ``moment_shortcut`` passes them from the input of its first norm of
    the block's output size to its last norm, before gamma, so that a last gamma of 0 still makes
    the block start as its shortcut. Other networks have no such blocks.

    Raises
    ------
    ValueError: a single channel, which has no variance over channels.
    """

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        if channels < 2:
            raise ValueError(
                "positional norm of 1 channel would erase it: its statistics are taken over the "
                "channels; use a larger --width"
            )
        super().__init__(channels, eps)

    def forward(self, input: Tensor, moments: Moments | None = None) -> Tensor:
        x = wide(input)
        mean, std = position_moments(x, self.eps)
        normalized = (x - mean) / std
        if moments is not None:
            normalized = torch.addcmul(moments[0], normalized, moments[1])
        return self.affine(normalized).to(input.dtype)


def position_moments(x: Tensor, eps: float = 1e-5) -> Moments:
    """Mean and ``sqrt(var + eps)`` over the channels of ``x [N, C, ...]``, ``[N, 1, ...]``."""
    variance, mean = torch.var_mean(wide(x), dim=1, correction=0, keepdim=True)
    return mean, (variance + eps).sqrt()
