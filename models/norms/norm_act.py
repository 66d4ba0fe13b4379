"""A norm and the activation after it as one operation (``uncus.models.fused``), in any network."""

from collections import OrderedDict

from torch import Tensor, nn

from uncus.models.fused.layer import activated, fused_group_norm, is_fused
from uncus.models.norms.classic import GroupNorm, LayerNorm
from uncus.models.norms.filter_response import FilterResponseNorm

# Exactly GroupNorm; their subclasses may compute something else.
GROUP_NORMS = (nn.GroupNorm, GroupNorm, LayerNorm)
ACTIVATION_LAYERS: dict[type[nn.Module], str] = {nn.ReLU: "relu", nn.SiLU: "silu"}


def norm_act(
    norm: nn.Module, x: Tensor, activation: str = "relu", residual: Tensor | None = None
) -> Tensor:
    """``activation(norm(x) + residual)`` for any norm, in one operation where possible.

    A norm with hooks is called as a module. A filter response norm's threshold, if it has one, is
    the activation.
    """
    if isinstance(norm, nn.GroupNorm) and is_group_norm(norm) and is_fused(x):
        return fused_group_norm(
            x, norm.weight, norm.bias, norm.num_groups, norm.eps, activation, residual
        )
    y: Tensor = norm(x)
    if isinstance(norm, FilterResponseNorm) and norm.threshold is not None and residual is None:
        return y
    return activated(y if residual is None else y + residual, activation)


def is_group_norm(layer: nn.Module) -> bool:
    """Whether ``layer`` is only a group norm, with gamma and beta and without hooks."""
    affine = getattr(layer, "weight", None) is not None and getattr(layer, "bias", None) is not None
    return type(layer) in GROUP_NORMS and affine and not is_hooked(layer)


def is_hooked(layer: nn.Module) -> bool:
    """Whether ``layer`` has hooks, and so must be called as a module."""
    return bool(layer._forward_hooks or layer._forward_pre_hooks or layer._backward_hooks)


class Chain(nn.Sequential):
    """Layers in sequence, with a group norm and the activation after it as one operation.

    Children, names and weights are those of the ``Sequential``.
    """

    def forward(self, input: Tensor) -> Tensor:
        """The last layer's output."""
        if not is_fused(input):
            output: Tensor = super().forward(input)  # type: ignore[no-untyped-call]
            return output
        x, layers = input, list(self)
        while layers:
            layer = layers.pop(0)
            activation = ACTIVATION_LAYERS.get(type(layers[0])) if layers else None
            if activation and is_group_norm(layer) and not is_hooked(layers[0]):
                x = norm_act(layer, x, activation)
                layers.pop(0)
            else:
                x = layer(x)
        return x


def runs_in_order(module: nn.Module) -> bool:
    """Whether ``module`` only calls its children in sequence."""
    return type(module).forward in (nn.Sequential.forward, Chain.forward)


def chained(network: nn.Module) -> nn.Module:
    """``network`` with each ``Sequential``, at any depth, replaced by a `Chain`.

    A module used several times becomes several modules that share its parameters.
    """
    for name, child in list(network.named_children()):
        setattr(network, name, chained(child))
    if runs_in_order(network) and not isinstance(network, Chain):
        return Chain(OrderedDict(network.named_children()))
    return network
