"""Replace the ReLUs of a network by the thresholds of its filter response norms."""

from torch import nn

from uncus.models.norms.filter_response import FilterResponseNorm
from uncus.models.norms.norm_act import runs_in_order


class ThresholdedBefore(nn.Identity):
    """Placeholder for a ReLU that the threshold of the FRN before it replaces."""


def assign_thresholds(network: nn.Module) -> None:
    """Decide which FRN has a threshold and which ReLU is removed, in place.

    A threshold replaces the ReLU that follows its norm in a chain of ``Sequential``s, with or
    without max pooling in between, or that `uncus.models.norms.norm_act.norm_act` applies to the
    norms in a module's ``activated_norms``. ReLUs removed earlier are restored if their norm is now
    another.
    """
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, ThresholdedBefore):
                setattr(parent, name, nn.ReLU())
    activated: set[nn.Module] = set()
    for module in list(network.modules()):
        activated |= {getattr(module, n) for n in getattr(module, "activated_norms", ())}
        last_norm: nn.Module | None = None
        for parent, name, layer in _chain(module):
            if isinstance(layer, FilterResponseNorm):
                last_norm = layer
            elif isinstance(layer, nn.ReLU) and last_norm is not None:
                activated.add(last_norm)
                setattr(parent, name, ThresholdedBefore())
                last_norm = None
            elif not isinstance(layer, nn.MaxPool3d | nn.Identity):
                last_norm = None
    for layer in network.modules():
        if isinstance(layer, FilterResponseNorm) and layer not in activated:
            layer.threshold = None


def _chain(module: nn.Module) -> list[tuple[nn.Module, str, nn.Module]]:
    """(parent, name, layer) of all layers that nested ``Sequential``s run in sequence."""
    if not runs_in_order(module):
        return []
    chain = []
    for name, child in module.named_children():
        chain += _chain(child) or [(module, name, child)]
    return chain
