"""A network small enough for tests and for the demo on a CPU."""

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional as F

from models.base import Classifier, convolution, initialize


class Tiny(Classifier):
    """Three 3x3x3 convolutions with ReLU; about ten thousand parameters.

    The feature map has a quarter of the volume's resolution, and a feature sees 15 voxels on each
    axis: class activation maps stay sharp enough to show a hippocampus at 3 mm.

    The last convolution has no norm. Where a group holds only a few channels, a norm right before
    the average pooling would set what the pooling measures, how much of a pattern there is in the
    volume, to the same number for everybody.

    Parameters
    ----------
    classes: columns of the output.
    width: channels of the second and third stage; the first has half.
    norm: channels -> normalization layer.
    dropout: before the head.
    """

    def __init__(
        self,
        classes: int,
        *,
        width: int = 16,
        norm: Callable[[int], nn.Module] = nn.BatchNorm3d,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(width, classes, stride=4, dropout=dropout)
        half = max(1, width // 2)
        self.conv1 = convolution(1, half, 3, stride=2)
        self.norm1 = norm(half)
        self.conv2 = convolution(half, width, 3, stride=2)
        self.norm2 = norm(width)
        self.conv3 = convolution(width, width, 3, bias=True)
        initialize(self)

    def features(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.conv1(x)))
        y = F.relu(self.norm2(self.conv2(y)))
        return F.relu(self.conv3(y))
