"""The base of every network: a feature map and a linear head, separate from each other."""

from typing import Any

from torch import Tensor, nn

from uncus.models.covariates import Covariates


class Classifier(nn.Module):
    """A classifier of 3D volumes with an accessible last feature map.

    Always ``forward(x) == classify(features(x))``, plus the term of the covariates if given, so
    that class activation maps need no hooks. A subclass implements :meth:`features`; the rest is
    global average pooling, dropout and one linear layer (Lin 2014, "Network in network").

    Parameters
    ----------
    channels: C, channels of the last feature map.
    classes: K, columns of the output: class logits, or regression values.
    stride: input voxels between neighbours in the feature map, on each axis.
    offset: input voxel, possibly a half, at the centre of the receptive field of feature 0: 0 for
        strided convolutions with symmetric padding, more after pooling without padding. With
        ``stride`` it positions the feature map on the volume's grid.
    dropout: probability of dropping a pooled channel in training.
    """

    gain: float = 1.0
    """Factor that `classify` applies to the pooled features before the head."""
    least_spread: float = 0.0
    """Of a pooled channel where the head is refitted, in medians of all channels' spreads: 1 where
    the channels have one unit, so that those that hardly vary are not blown up."""
    head: nn.Linear
    covariates: Covariates | None

    def __init__(
        self, channels: int, classes: int, *, stride: int, offset: float = 0.0, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.stride = stride
        self.offset = offset
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(channels, classes)
        self.covariates = None

    def features(self, x: Tensor) -> Tensor:
        """``[N, 1, X, Y, Z]`` -> last feature map ``[N, C, x, y, z]``, differentiable in x."""
        raise NotImplementedError(f"{type(self).__name__} must implement features()")

    def classify(self, feature_map: Tensor) -> Tensor:
        """``[N, C, x, y, z]`` -> output ``[N, K]``: logits, or regression values."""
        output: Tensor = self.head(self.dropout(feature_map.mean(dim=(2, 3, 4))))
        return output

    def has_linear_head(self) -> bool:
        """Whether `classify` is ``head(gain * mean)``: the class that defines it sets ``gain``."""
        owner = next(kind for kind in type(self).__mro__ if "classify" in kind.__dict__)
        return "gain" in owner.__dict__

    def forward(self, x: Tensor, covariates: Tensor | None = None) -> Tensor:
        """``[N, 1, X, Y, Z]``, optionally with covariates ``[N, P]`` -> output ``[N, K]``.

        Without covariates the output is that for a subject with the mean covariates.

        Raises
        ------
        ValueError: the input is not a batch of one-channel volumes.
        """
        if x.ndim != 5 or x.shape[1] != 1:
            raise ValueError(
                f"input of shape {list(x.shape)}: a network takes volumes as [batch, 1, X, Y, Z]; "
                "add the batch and channel axes"
            )
        return self.adjust(self.classify(self.features(x)), covariates)

    def adjust(self, output: Tensor, covariates: Tensor | None) -> Tensor:
        """Add the term of ``covariates`` [N, P], if any, to ``output`` [N, K]."""
        if self.covariates is None or covariates is None:
            return output
        term: Tensor = self.covariates(covariates)
        return output + term

    def __call__(self, *args: Any, **kwargs: Any) -> Tensor:
        output: Tensor = super().__call__(*args, **kwargs)
        return output


def initialize(module: nn.Module) -> None:
    """Initialize the convolutions of ``module`` for ReLU networks: normal, fan-out (He 2015).

    On torch's device ``meta`` there are no values, and torch would import its compiler for them.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv3d) and not layer.weight.is_meta:
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def convolution(
    inputs: int, outputs: int, kernel: int, stride: int = 1, *, bias: bool = False
) -> nn.Conv3d:
    """A 3D convolution that keeps centres: ``ceil(size / stride)`` voxels out, never 0."""
    return nn.Conv3d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=bias)


def count_parameters(module: nn.Module) -> int:
    """Number of trainable values."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)
