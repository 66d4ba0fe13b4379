"""The ReLUs of a network that the thresholds of filter response norms stand for."""

from torch import nn

from uncus.models.norms.filter_response import FilterResponseNorm
from uncus.models.norms.norm_act import runs_in_order


class ThresholdedBefore(nn.Identity):
    """Stands where a ReLU was whose part the threshold of the FRN before it plays."""


def place_thresholds(network: nn.Module) -> None:
    """Settle which FRN has a threshold and which ReLU goes, in place.

    A threshold takes the place of the ReLU that follows its norm in a chain of ``Sequential``s,
    maximum pooling in between or not, or that `uncus.models.norms.norm_act.norm_act` applies to the
    norms that a module lists as ``activated_norms``. ReLUs taken out earlier come back where the
    norm is now another.
    """
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, ThresholdedBefore):
                setattr(parent, name, nn.ReLU())
    activated: set[nn.Module] = set()
    for module in list(network.modules()):
        activated |= {getattr(module, n) for n in getattr(module, "activated_norms", ())}
        waiting: nn.Module | None = None
        for parent, name, layer in _chain(module):
            if isinstance(layer, FilterResponseNorm):
                waiting = layer
            elif isinstance(layer, nn.ReLU) and waiting is not None:
                activated.add(waiting)
                setattr(parent, name, ThresholdedBefore())
                waiting = None
            elif not isinstance(layer, nn.MaxPool3d | nn.Identity):
                waiting = None
    for layer in network.modules():
        if isinstance(layer, FilterResponseNorm) and layer not in activated:
            layer.threshold = None


def _chain(module: nn.Module) -> list[tuple[nn.Module, str, nn.Module]]:
    """(parent, name, layer) of what a ``Sequential``, and those in it, run one after another."""
    if not runs_in_order(module):
        return []
    chain = []
    for name, child in module.named_children():
        chain += _chain(child) or [(module, name, child)]
    return chain
