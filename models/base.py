"""What every network here is: a feature map and a linear head, kept apart."""

from typing import Any

from torch import Tensor, nn

from uncus.models.covariates import Covariates


class Classifier(nn.Module):
    """A network over 3D volumes whose last feature map is in the open.

    ``forward(x) == classify(features(x))`` always, with the term of what else is known of the
    person added where it is given, so that methods that explain a prediction
    (class activation maps) need no hooks. A subclass implements :meth:`features`; the rest is
    global average pooling, dropout and one linear layer (Lin 2014, "Network in network").

    Parameters
    ----------
    channels: C, channels of the last feature map.
    classes: K, columns of the output: class logits, or regression values.
    stride: voxels of the input between two neighbours of the feature map, on each axis.
    offset: voxel of the input (may be a half) at the centre of what feature 0 looks at. Strided
        convolutions with symmetric padding start at 0, poolings without padding in between.
        With ``stride`` it places the feature map on the volume's grid.
    dropout: probability that a pooled channel is dropped in training.
    """

    gain: float = 1.0
    """What `classify` multiplies the pooled features by before the head."""
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
        """``[N, 1, D, H, W]`` -> last feature map ``[N, C, d, h, w]``, differentiable in x."""
        raise NotImplementedError(f"{type(self).__name__} must implement features()")

    def classify(self, feature_map: Tensor) -> Tensor:
        """``[N, C, d, h, w]`` -> output ``[N, K]``: logits, or regression values."""
        output: Tensor = self.head(self.dropout(feature_map.mean(dim=(2, 3, 4))))
        return output

    def has_linear_head(self) -> bool:
        """Whether `classify` is ``head(gain * mean)``: the class that defines it gives a gain."""
        owner = next(kind for kind in type(self).__mro__ if "classify" in kind.__dict__)
        return "gain" in owner.__dict__

    def forward(self, x: Tensor, covariates: Tensor | None = None) -> Tensor:
        """``[N, 1, D, H, W]``, perhaps with covariates ``[N, P]`` -> output ``[N, K]``.

        Without covariates the output is that for a person of mean covariates.

        Raises
        ------
        ValueError: the input is not a batch of one-channel volumes.
        """
        if x.ndim != 5 or x.shape[1] != 1:
            raise ValueError(
                f"input of shape {list(x.shape)}: a network takes volumes as [batch, 1, D, H, W]; "
                "add the batch and channel axes"
            )
        return self.adjust(self.classify(self.features(x)), covariates)

    def adjust(self, output: Tensor, covariates: Tensor | None) -> Tensor:
        """``output`` [N, K] with the term of ``covariates`` [N, P], where there are any."""
        if self.covariates is None or covariates is None:
            return output
        term: Tensor = self.covariates(covariates)
        return output + term

    def __call__(self, *args: Any, **kwargs: Any) -> Tensor:
        output: Tensor = super().__call__(*args, **kwargs)
        return output


def initialize(module: nn.Module) -> None:
    """Start the convolutions of ``module`` for ReLU networks: normal, fan-out (He 2015)."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv3d):
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
