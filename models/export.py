"""Export a network's feature extractor as a graph for other runtimes, with its weights as inputs.

The graph is the same for all networks of one configuration; a runtime fills in the weights of each
(`open_weights`). Group and instance norm are expressed by `normalized_by_group`, which CPU runtimes
can compute in the memory layout of their convolutions.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from uncus.models.base import Classifier


class FeatureExtractor(nn.Module):
    """``model.features`` as a module's ``forward``."""

    def __init__(self, model: Classifier) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """``[N, 1, X, Y, Z]`` -> last feature map ``[N, C, x, y, z]``."""
        return self.model.features(x)


class OpenFeatureExtractor(nn.Module):
    """The same with the weights as a second argument."""

    def __init__(self, trunk: FeatureExtractor) -> None:
        super().__init__()
        self.trunk = [trunk]  # in a list, so that its weights are not parameters of this module

    def forward(self, x: Tensor, weights: dict[str, Tensor]) -> Tensor:
        """``[N, 1, X, Y, Z]`` and `open_weights` -> last feature map ``[N, C, x, y, z]``."""
        feature_map: Tensor = torch.func.functional_call(self.trunk[0], weights, (x,))
        return feature_map


def open_weights(model: Classifier) -> dict[str, Tensor]:
    """Name -> parameter or buffer that the features depend on, in the graph's order."""
    head = {f"model.{name}" for name in ("head.weight", "head.bias")}
    state = FeatureExtractor(model).state_dict()
    return {
        name: value.detach()
        for name, value in sorted(state.items())
        if name not in head
        and not name.startswith("model.covariates.")
        and value.is_floating_point()
    }


def export_features(model: Classifier, shape: Sequence[int]) -> Any:
    """The graph (an ``ExportedProgram``) of ``features(x [N, 1, X, Y, Z])`` for one ``shape``.

    Its inputs are x, then each of `open_weights`. ``model`` must be in evaluation mode, on the CPU.
    """
    operations = torch.ops.aten
    rewritten: dict[Any, Callable[..., Tensor]] = {
        operations.group_norm.default: normalized_by_group,
        operations.instance_norm.default: normalized_by_channel,
    }
    program = torch.export.export(
        OpenFeatureExtractor(FeatureExtractor(model)).eval(),
        (torch.zeros(*shape), open_weights(model)),
    )
    return program.run_decompositions(rewritten)


def normalized_by_group(
    x: Tensor,
    groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> Tensor:
    """Group norm of x [N, C, X, Y, Z] from sums over each channel.

    ``y = x * s + t`` with ``s = gamma / sqrt(mean_g(x^2) - mean_g(x)^2 + eps)`` and
    ``t = beta - mean_g(x) * s``. The means over a group are a 1x1x1 convolution of the channels'
    means, and nothing is negated (which exports as a product with a tensor of one axis), so that no
    step leaves the memory layout of convolutions. The difference of squares loses digits where a
    group's mean far exceeds its standard deviation, so compare the graph with the network.
    """
    channels, axes = x.shape[1], tuple(range(2, x.ndim))
    mean = x.mean(axes, keepdim=True)
    square = torch.linalg.vector_norm(x, 2, axes, keepdim=True)
    square = square * square / x.shape[2:].numel()
    if groups != channels:
        members = channels // groups
        block = torch.full((members, members), 1.0 / members)
        within = torch.kron(torch.eye(groups), block).view(channels, channels, 1, 1, 1)
        mean, square = F.conv3d(mean, within), F.conv3d(square, within)
    scale = torch.rsqrt((square - mean * mean).clamp(min=0) + eps)
    if weight is not None:
        scale = weight.view(1, -1, 1, 1, 1) * scale
    shift = mean * scale
    if bias is not None:
        shift = shift - bias.view(1, -1, 1, 1, 1)
    return x * scale - shift


def normalized_by_channel(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    use_input_stats: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool,
) -> Tensor:
    """Instance norm of x [N, C, X, Y, Z]: each channel is a group; without running statistics."""
    assert use_input_stats, "instance norm with running statistics is not supported"
    return normalized_by_group(x, x.shape[1], weight, bias, eps)
