"""The registry of normalization layers.

All layers compute ``y = gamma_c * (x - mean_S) / sqrt(var_S + eps) + beta_c`` on ``x [N, C, ...]``,
or something close to it; they differ in the set S of values that share a mean and a variance.
``gamma`` is ``weight`` and ``beta`` is ``bias``, both ``[C]``, which start at 1 and 0.

To add a norm, write its module, for any number of spatial axes, in a file of its own, and add one
entry to ``NORMS``.
"""

import difflib
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from torch import nn

from uncus.models.norms.batch_channel import BatchChannelNorm
from uncus.models.norms.batch_group import BatchGroupNorm
from uncus.models.norms.classic import BatchNorm, GroupNorm, InstanceNorm, LayerNorm
from uncus.models.norms.filter_response import FilterResponseNorm
from uncus.models.norms.group_plus import GroupPlusNorm
from uncus.models.norms.positional import PositionalNorm

DEFAULT_GROUPS = 8


@dataclass(frozen=True)
class Norm:
    """An entry of ``NORMS``: how to build the layer, and its properties."""

    build: Callable[[int, int | None], nn.Module]
    """(channels, groups) -> layer; groups from `number_of_groups`."""
    module: type[nn.Module]
    """Exact type of the layer."""
    summary: str
    """One line for help texts."""
    batch_independent: bool
    """In training too, a sample's output does not depend on the other samples of its batch."""
    running_statistics: bool
    """Inference uses statistics of the training data."""
    grouped: bool = False
    """The number of groups matters and must divide the channels."""
    groups_from_batch: bool = False
    """By default the batch size sets the groups; a multiple of the channels is allowed too."""


NORMS: dict[str, Norm] = {
    "group": Norm(
        build=lambda channels, groups: GroupNorm(groups or DEFAULT_GROUPS, channels),
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
    "positional": Norm(
        build=lambda channels, groups: PositionalNorm(channels),
        module=PositionalNorm,
        summary="positional norm, PONO: channels, per sample and voxel (Li 2019)",
        batch_independent=True,
        running_statistics=False,
    ),
    "batch_group": Norm(
        build=lambda channels, groups: BatchGroupNorm(channels, groups),
        module=BatchGroupNorm,
        summary="batch group norm, BGN: batch and space and groups of channels (Zhou 2020)",
        batch_independent=False,
        running_statistics=True,
        grouped=True,
        groups_from_batch=True,
    ),
    "group_plus": Norm(
        build=lambda channels, groups: GroupPlusNorm(channels, groups or DEFAULT_GROUPS),
        module=GroupPlusNorm,
        summary="GN+: group norm mixed with a batch norm of it (Gunawan 2022)",
        batch_independent=False,
        running_statistics=True,
        grouped=True,
    ),
    "frn": Norm(
        build=lambda channels, groups: FilterResponseNorm(channels),
        module=FilterResponseNorm,
        summary="filter response norm, FRN: mean square over space, and a threshold (Singh 2020)",
        batch_independent=True,
        running_statistics=False,
    ),
    "batch_channel": Norm(
        build=lambda channels, groups: BatchChannelNorm(channels, groups or DEFAULT_GROUPS),
        module=BatchChannelNorm,
        summary="batch-channel norm, BCN: estimated batch statistics, then groups (Qiao 2019)",
        batch_independent=False,
        running_statistics=True,
        grouped=True,
    ),
}


def make_norm(
    name: str,
    channels: int,
    groups: int | None = None,
    channels_per_group: int | None = None,
) -> nn.Module:
    """Build the norm ``name`` for ``channels`` channels.

    Raises
    ------
    ValueError: no such norm, or groups that do not divide ``channels``.
    """
    norm = find_norm(name)
    check_groups({"this layer": channels}, norm, groups, channels_per_group)
    return norm.build(channels, number_of_groups(channels, norm, groups, channels_per_group))


def find_norm(name: str) -> Norm:
    """The entry ``name`` of ``NORMS``; raises ValueError with the closest name if there is none."""
    if name not in NORMS:
        close = difflib.get_close_matches(str(name), NORMS, n=1)
        remedy = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(NORMS)}"
        raise ValueError(f"unknown norm {name!r}; {remedy}")
    return NORMS[name]


def number_of_groups(
    channels: int, norm: Norm, groups: int | None, channels_per_group: int | None
) -> int | None:
    """G of a layer with ``channels``, by number or by channels per group.

    ``DEFAULT_GROUPS`` if neither is given; None if the norm has no groups, or sets them by the
    batch.
    """
    if not norm.grouped:
        return None
    if channels_per_group is not None:
        return channels // channels_per_group
    return groups if groups is not None or norm.groups_from_batch else DEFAULT_GROUPS


def check_groups(
    channels: dict[str, int],
    norm: Norm,
    groups: int | None = None,
    channels_per_group: int | None = None,
) -> None:
    """Raise ValueError if the norm has groups that do not divide the channels of every layer.

    Parameters
    ----------
    channels: layer name -> its channels, for all layers of one network.
    norm: the norm of all layers.
    groups: G; ``DEFAULT_GROUPS`` if neither is given.
    channels_per_group: C/G, instead of G.

    Raises
    ------
    ValueError: names the first such layer, and the numbers that fit all layers.
    """
    if groups is not None and channels_per_group is not None:
        raise ValueError(
            f"groups={groups} and channels_per_group={channels_per_group}: give one of the two"
        )
    by_size = channels_per_group is not None
    name = "channels_per_group" if by_size else "groups"
    number = channels_per_group if by_size else groups
    if number is None and norm.grouped and not norm.groups_from_batch:
        number = DEFAULT_GROUPS
    if number is None or not norm.grouped:
        return
    if number < 1:
        raise ValueError(f"{name}={number}: must be 1 or more")
    for layer, size in channels.items():
        parts = norm.groups_from_batch and not by_size and number % size == 0
        if size % number and not parts:
            raise ValueError(
                f"{name}={number} does not divide the {size} channels of {layer}; "
                f"numbers that fit the whole network: {_join(divisors(channels.values()))}"
            )


def divisors(channels: Iterable[int]) -> list[int]:
    """Numbers that divide all of ``channels``, in increasing order."""
    common = math.gcd(*channels)
    return [number for number in range(1, common + 1) if common % number == 0]


def _join(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, numbers))
