"""A norm and the activation behind it as one operation (``uncus.models.fused``), in any network."""

from collections import OrderedDict

from torch import Tensor, nn

from uncus.models.fused.layer import activated, fused_group_norm, is_fused
from uncus.models.norms.classic import GroupNorm, LayerNorm
from uncus.models.norms.filter_response import FilterResponseNorm

# Layers that are nothing but GroupNorm; a subclass of theirs may be something else.
GROUP_NORMS = (nn.GroupNorm, GroupNorm, LayerNorm)
ACTIVATION_LAYERS: dict[type[nn.Module], str] = {nn.ReLU: "relu", nn.SiLU: "silu"}


def norm_act(
    norm: nn.Module, x: Tensor, activation: str = "relu", residual: Tensor | None = None
) -> Tensor:
    """``activation(norm(x) + residual)`` for any norm, in one operation where that can be.

    A norm that is hooked is called as the module that it is. A filter response norm's threshold is
    the activation where it has one.
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
    """Whether ``layer`` is a group norm with gamma and beta, and no more than that."""
    affine = getattr(layer, "weight", None) is not None and getattr(layer, "bias", None) is not None
    return type(layer) in GROUP_NORMS and affine and not is_hooked(layer)


def is_hooked(layer: nn.Module) -> bool:
    """Whether somebody listens to ``layer``, which must then be called as a module."""
    return bool(layer._forward_hooks or layer._forward_pre_hooks or layer._backward_hooks)


class Chain(nn.Sequential):
    """Layers one after another; a group norm and the activation behind it are one operation.

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
    """Whether ``module`` only calls its children one after another."""
    return type(module).forward in (nn.Sequential.forward, Chain.forward)


def chained(network: nn.Module) -> nn.Module:
    """``network`` with a `Chain` in place of each ``Sequential``; what is inside is replaced in it.

    A module that stands in several places becomes several that share what is in it.
    """
    for name, child in list(network.named_children()):
        setattr(network, name, chained(child))
    if runs_in_order(network) and not isinstance(network, Chain):
        return Chain(OrderedDict(network.named_children()))
    return network
