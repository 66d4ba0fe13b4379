"""Normalization layers, and the registry that every network takes them from.

All layers compute ``y = gamma_c * (x - mean_S) / sqrt(var_S + eps) + beta_c`` on
``x [N, C, ...]``; they differ in the set S of values that share a mean and a variance. ``gamma``
is ``weight`` and ``beta`` is ``bias``, both ``[C]``, started at 1 and 0.

To add a norm: write its module here (any number of spatial axes), and one entry in ``NORMS``.
"""

import difflib
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm


class GroupNorm(nn.GroupNorm):
    """Group normalization (Wu & He 2018, arXiv 1803.08494).

    S = the C/G channels of one group and all voxels, of one sample:
    ``y = gamma_c * (x - mean_ng) / sqrt(var_ng + eps) + beta_c``. The same in training and
    inference; independent of the batch. G = 1 is layer norm, G = C instance norm.

    Raises
    ------
    ValueError: a group holds one value (C/G = 1 on a 1x1x1 map), where the result would be beta
        whatever the input.
    """

    def forward(self, input: Tensor) -> Tensor:
        values = math.prod(input.shape[1:]) // self.num_groups
        if values < 2:
            raise ValueError(
                f"group norm over {self.num_groups} groups of {input.shape[1]} channels at "
                f"{_size(input)} voxels has one value a group and would erase it; "
                "use fewer groups, larger volumes or a smaller stem stride"
            )
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
        if self.training and input.shape[0] * math.prod(input.shape[2:]) < 2:
            raise ValueError(
                f"batch norm in training at batch {input.shape[0]} and {_size(input)} voxels has "
                "one value a channel, hence no variance; use --norm group, a larger batch or "
                "larger volumes"
            )
        return super().forward(input)


class InstanceNorm(nn.Module):
    """Instance normalization (Ulyanov 2016, arXiv 1607.08022) with gamma and beta.

    S = the voxels of one channel of one sample. The same in training and inference.

    Raises
    ------
    ValueError: the map has one voxel, hence no variance.
    """

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.num_features = channels
        self.eps = eps
        self.weight = nn.Parameter(_filled(channels, 1.0))
        self.bias = nn.Parameter(_filled(channels, 0.0))

    def forward(self, input: Tensor) -> Tensor:
        if math.prod(input.shape[2:]) < 2:
            raise ValueError(
                f"instance norm of {list(input.shape)} has one voxel a channel, hence no variance; "
                "use --norm group, larger volumes or a smaller stem stride"
            )
        return F.instance_norm(input, weight=self.weight, bias=self.bias, eps=self.eps)

    def extra_repr(self) -> str:
        return f"{self.num_features}, eps={self.eps}"


@dataclass(frozen=True)
class Norm:
    """An entry of ``NORMS``: how to make the layer, and what it promises."""

    build: Callable[[int, int], nn.Module]
    """(channels, groups) -> layer."""
    module: type[nn.Module]
    """Exact type of the layer."""
    summary: str
    """One line for people."""
    batch_independent: bool
    """In training too, a sample's output does not depend on its batch-mates."""
    running_statistics: bool
    """Keeps statistics of the training data that inference uses."""
    grouped: bool = False
    """The number of groups matters and must divide the channels."""


NORMS: dict[str, Norm] = {
    "group": Norm(
        build=lambda channels, groups: GroupNorm(groups, channels),
        module=GroupNorm,
        summary="group norm: C/G channels and space, per sample (Wu & He 2018)",
        batch_independent=True,
        running_statistics=False,
        grouped=True,
    ),
    "batch": Norm(
        build=lambda channels, groups: BatchNorm(channels),
        module=BatchNorm,
        summary="batch norm: batch and space, per channel (Ioffe & Szegedy 2015)",
        batch_independent=False,
        running_statistics=True,
    ),
    "instance": Norm(
        build=lambda channels, groups: InstanceNorm(channels),
        module=InstanceNorm,
        summary="instance norm: space, per sample and channel (Ulyanov 2016)",
        batch_independent=True,
        running_statistics=False,
    ),
    "layer": Norm(
        build=lambda channels, groups: LayerNorm(channels),
        module=LayerNorm,
        summary="layer norm: channels and space, per sample (Ba 2016)",
        batch_independent=True,
        running_statistics=False,
    ),
}


def make_norm(name: str, channels: int, groups: int = 8) -> nn.Module:
    """The norm called ``name`` for ``channels`` channels.

    Raises
    ------
    ValueError: no such norm, or ``groups`` does not divide ``channels`` where it must.
    """
    norm = find_norm(name)
    if norm.grouped:
        check_groups({"this layer": channels}, groups)
    return norm.build(channels, groups)


def find_norm(name: str) -> Norm:
    """The entry of ``NORMS`` called ``name``; ValueError with the nearest name otherwise."""
    if name not in NORMS:
        close = difflib.get_close_matches(str(name), NORMS, n=1)
        mend = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(NORMS)}"
        raise ValueError(f"unknown norm {name!r}; {mend}")
    return NORMS[name]


def check_groups(channels: dict[str, int], groups: int) -> None:
    """Refuse a number of groups that does not divide the channels of every layer.

    Parameters
    ----------
    channels: layer name -> its channels, for all layers of one network.
    groups: G.

    Raises
    ------
    ValueError: names the first layer that does not fit and the numbers that fit all.
    """
    if groups < 1:
        raise ValueError(f"groups={groups}: the number of groups must be 1 or more")
    for layer, number in channels.items():
        if number % groups:
            raise ValueError(
                f"groups={groups} does not divide the {number} channels of {layer}; "
                f"numbers that fit the whole network: {_join(divisors(channels.values()))}"
            )


def divisors(channels: Iterable[int]) -> list[int]:
    """Numbers that divide all of ``channels``, in increasing order."""
    common = math.gcd(*channels)
    return [number for number in range(1, common + 1) if common % number == 0]


def _join(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, numbers))


def _size(input: Tensor) -> str:
    return "x".join(map(str, input.shape[2:])) or "no"


def _filled(channels: int, value: float) -> Tensor:
    return nn.init.constant_(Tensor(channels), value)
