"""The simple fully convolutional network of Peng 2021."""

from collections.abc import Callable

from torch import Tensor, nn

from uncus.models.base import Classifier, convolution, initialize
from uncus.models.norms.norm_act import Chain


class SFCN(Classifier):
    """SFCN (Peng 2021, Medical Image Analysis 68:101871), which won the PAC 2019 challenge.

    Five blocks of 3x3x3 convolution, norm, max pooling by 2 and ReLU with 32, 64, 128, 256, 256
    channels, one of 1x1x1 convolution, norm and ReLU with 64; average pooling, dropout and a
    linear head (the paper's 1x1x1 convolution to 40 age bins). Pooling rounds up, so that short
    axes survive.

    Parameters
    ----------
    classes: columns of the output.
    width: channels of the first block; 32 in the paper; the others keep their ratio to it.
    norm: channels -> normalization layer.
    dropout: before the head; 0.5 in the paper.
    """

    def __init__(
        self,
        classes: int,
        *,
        width: int = 32,
        norm: Callable[[int], nn.Module] = nn.BatchNorm3d,
        dropout: float = 0.5,
    ) -> None:
        # after five poolings by 2 the centre of feature 0 is at (2**5 - 1) / 2
        super().__init__(2 * width, classes, stride=32, offset=15.5, dropout=dropout)
        self.blocks = nn.Sequential()
        inputs = 1
        for ratio in (1, 2, 4, 8, 8):
            self.blocks.append(
                nn.Sequential(
                    convolution(inputs, ratio * width, 3),
                    norm(ratio * width),
                    nn.MaxPool3d(2, ceil_mode=True),
                    nn.ReLU(),
                )
            )
            inputs = ratio * width
        self.blocks.append(Chain(convolution(inputs, 2 * width, 1), norm(2 * width), nn.ReLU()))
        initialize(self)

    def features(self, x: Tensor) -> Tensor:
        feature_map: Tensor = self.blocks(x)
        return feature_map
