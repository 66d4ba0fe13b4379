"""Replace every normalization layer of any network, and check that none is left.

MONAI's networks need this: ``resnet18(norm="group")`` silently keeps its BatchNorm layers and the
SENet family hard-codes them (MONAI 1.6.1).
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase

from uncus.models.norms.registry import NORMS, check_groups, find_norm, number_of_groups
from uncus.models.norms.thresholds import assign_thresholds

CHANNELS_LAST = (nn.LayerNorm, nn.RMSNorm)  # torch's, which normalize the last axis


class ChannelsLast(nn.Module):
    """A norm over tensors with channels as the last axis, as in torch's LayerNorm.

    ``[N, ..., C]`` -> the same shape.
    """

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, input: Tensor) -> Tensor:
        output: Tensor = self.norm(input.movedim(-1, 1)).movedim(1, -1)
        return output


def is_norm(module: nn.Module) -> bool:
    """Whether ``module`` normalizes activations, by its class or its class's name."""
    known = (_NormBase, nn.GroupNorm, nn.LocalResponseNorm, *CHANNELS_LAST)
    if isinstance(module, known) or type(module) in {norm.module for norm in NORMS.values()}:
        return True
    name = type(module).__name__.lower()
    return name.endswith("norm") or "batchnorm" in name


def find_norms(module: nn.Module) -> dict[str, nn.Module]:
    """Dotted name -> layer, for every norm in ``module`` ("" for ``module`` itself)."""
    return {
        name: layer
        for name, layer in module.named_modules()
        if is_norm(layer) and not any(is_norm(child) for child in layer.children())
    }


def swap_norm(
    module: nn.Module,
    norm: str,
    groups: int | None = None,
    channels_per_group: int | None = None,
) -> nn.Module:
    """Replace every normalization layer inside ``module``, in place.

    gamma, beta, eps, device, dtype, training mode and ``requires_grad`` are kept. Other learned
    parameters and running statistics are kept for a layer of the same kind, batch norm's also for
    batch-channel norm, where they mean the same; otherwise they are dropped. Layers that already
    are of the requested kind stay. With ``frn`` the ReLUs that its threshold replaces are removed,
    and restored when it is replaced (`assign_thresholds`).

    Parameters
    ----------
    module: any network; BatchNorm, SyncBatchNorm, InstanceNorm, GroupNorm, LayerNorm, RMSNorm and
        all of ``NORMS`` are replaced.
    norm: a name in ``NORMS``.
    groups: number of groups, for norms that have them; by default 8, for batch group norm set by
        the batch.
    channels_per_group: size of the groups instead; their number then differs between layers.

    Returns
    -------
    ``module``; the new layer when ``module`` is itself a norm.

    Raises
    ------
    ValueError: unknown norm; groups that do not divide a layer's channels; a layer that cannot be
        replaced. Then nothing is replaced.
    """
    entry = find_norm(norm)
    layers = find_norms(module)
    channels = {name or "the layer": _channels(name, layer) for name, layer in layers.items()}
    check_groups(channels, entry, groups, channels_per_group)
    replaced: dict[nn.Module, nn.Module] = {}
    for name, layer in layers.items():
        if isinstance(layer, nn.LayerNorm) and len(layer.normalized_shape) != 1:
            raise ValueError(
                f"{name}: LayerNorm over {layer.normalized_shape} has a gamma for each voxel, "
                "which no norm here has; replace it yourself"
            )
        size = _channels(name, layer)
        number = number_of_groups(size, entry, groups, channels_per_group)
        if not _is_wanted(layer, norm, number):
            replaced[layer] = _replacement(layer, norm, size, number)
    if module in replaced:
        return replaced[module]
    for parent in list(module.modules()):
        for name, child in list(parent._modules.items()):  # named_children skips repetitions
            if child in replaced:
                setattr(parent, name, replaced[child])
    if module not in layers.values():
        assign_thresholds(module)
    return module


def check_norms(module: nn.Module, norm: str, groups: int | None = None) -> None:
    """Raise ValueError if ``module`` contains any norm other than ``norm``.

    Parameters
    ----------
    groups: if given, the number of groups that group norms must have.

    Raises
    ------
    ValueError: names the other layers.
    """
    wanted = find_norm(norm).module
    left = {}
    for name, layer in find_norms(module).items():
        number = getattr(layer, "num_groups", groups) if find_norm(norm).grouped else groups
        if type(layer) is not wanted:
            left[name] = type(layer).__name__
        elif groups is not None and number != groups:
            left[name] = f"{type(layer).__name__} with {number} groups"
    if left:
        shown = ", ".join(f"{name or 'itself'} ({kind})" for name, kind in list(left.items())[:4])
        raise ValueError(
            f"{len(left)} layers are not {norm!r} norm: {shown}"
            f"{', ...' if len(left) > 4 else ''}; swap_norm replaces them"
        )


def _is_wanted(layer: nn.Module, norm: str, groups: int | None) -> bool:
    entry = NORMS[norm]
    same_groups = not entry.grouped or getattr(layer, "num_groups", groups) == groups
    return type(layer) is entry.module and same_groups


def _channels(name: str, layer: nn.Module) -> int:
    """Channels of a norm, under whatever name its class has for them."""
    number: Any = None
    if isinstance(layer, nn.LayerNorm | nn.RMSNorm):
        number = layer.normalized_shape[-1]
    for attribute in ("num_channels", "num_features"):
        number = getattr(layer, attribute, number)
    if number is None and isinstance(getattr(layer, "weight", None), Tensor):
        number = layer.get_parameter("weight").numel()
    if not isinstance(number, int) or number < 1:
        raise ValueError(
            f"{name or 'the layer'}: {type(layer).__name__} has an unknown number of channels; "
            "replace it yourself, or run a lazy network once first"
        )
    return number


def _replacement(layer: nn.Module, norm: str, channels: int, groups: int | None) -> nn.Module:
    """The new layer, with the old one's learned parameters."""
    new = NORMS[norm].build(channels, groups)
    tensors = [*layer.parameters(), *layer.buffers()]
    if tensors:
        floating = [tensor.dtype for tensor in tensors if tensor.is_floating_point()]
        new.to(device=tensors[0].device, dtype=floating[0] if floating else None)
    with torch.no_grad():
        for name in ("weight", "bias"):
            old, fresh = getattr(layer, name, None), getattr(new, name, None)
            if isinstance(old, Tensor) and isinstance(fresh, Tensor) and not old.is_meta:
                fresh.copy_(old.reshape(fresh.shape)).requires_grad_(old.requires_grad)
    if isinstance(eps := getattr(layer, "eps", None), float) and hasattr(new, "eps"):
        setattr(new, "eps", eps)  # noqa: B010 - not every norm has it
    if isinstance(layer, _BatchNorm) and isinstance(new, _BatchNorm):
        new.momentum = layer.momentum
    if type(layer) is type(new) or isinstance(layer, _BatchNorm):
        _copy_state(layer, new)
    new.train(layer.training)
    return ChannelsLast(new) if isinstance(layer, CHANNELS_LAST) else new


@torch.no_grad()
def _copy_state(layer: nn.Module, new: nn.Module) -> None:
    """Copy running statistics and further parameters of equal name and shape.

    Only statistics with the same meaning have the same name.
    """
    old = layer.state_dict()
    for name, value in new.state_dict().items():
        if name in old and old[name].shape == value.shape and not old[name].is_meta:
            value.copy_(old[name])
