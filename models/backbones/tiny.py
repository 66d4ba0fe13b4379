"""A network small enough for tests and for the demo on a CPU."""

from collections.abc import Callable

from torch import Tensor, nn

from uncus.models.base import Classifier, convolution, initialize
from uncus.models.norms.norm_act import Chain

GAIN = 10.0


class Tiny(Classifier):
    """Four 3x3x3 convolutions, each with norm and ReLU; about 18 thousand parameters.

    The feature map has a quarter of the volume's resolution and a receptive field of 23 voxels on
    each axis: class activation maps stay fine enough to show a hippocampus.

    The pooled features are multiplied by ``GAIN``: the mean of a local feature over a whole volume
    differs by about a percent between subjects, and at the usual learning rate a head takes long to
    grow weights for that.

    Parameters
    ----------
    classes: columns of the output.
    width: channels of every stage except the first, which has half.
    norm: channels -> normalization layer.
    dropout: before the head.
    """

    gain = GAIN

    def __init__(
        self,
        classes: int,
        *,
        width: int = 16,
        norm: Callable[[int], nn.Module] = nn.BatchNorm3d,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(width, classes, stride=4, dropout=dropout)
        self.stages = nn.Sequential()
        inputs = 1
        for outputs, stride in ((max(1, width // 2), 2), (width, 2), (width, 1), (width, 1)):
            self.stages.append(
                Chain(convolution(inputs, outputs, 3, stride), norm(outputs), nn.ReLU())
            )
            inputs = outputs
        initialize(self)

    def features(self, x: Tensor) -> Tensor:
        feature_map: Tensor = self.stages(x)
        return feature_map

    def classify(self, feature_map: Tensor) -> Tensor:
        return super().classify(GAIN * feature_map)
