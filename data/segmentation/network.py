"""A small U-Net with Group Normalization that labels the voxels of a whole head."""

from collections.abc import Sequence

from torch import Tensor, nn


class SegmentationNet(nn.Module):
    """U-Net (Ronneberger et al. 2015) whose first convolution halves the resolution.

    The output has the input's resolution again: a last transposed convolution gives each voxel its
    scores from features at half the resolution, which costs an eighth and sees further.

    Parameters
    ----------
    labels: number of labels K.
    widths: channels of the levels, from half the resolution on.
    groups: of Group Normalization.
    """

    def __init__(self, labels: int, widths: Sequence[int] = (32, 48, 64, 96), groups: int = 8):
        super().__init__()
        self.multiple = 2 ** len(widths)
        self.stem = nn.Conv3d(1, widths[0], 4, 2, 1)
        self.encoder, self.up, self.decoder = (nn.ModuleList() for _ in range(3))
        previous = widths[0]
        for width in widths:
            self.encoder.append(
                nn.Sequential(block(previous, width, groups), block(width, width, groups))
            )
            previous = width
        for width in reversed(widths[:-1]):
            self.up.append(nn.ConvTranspose3d(previous, width, 2, 2))
            self.decoder.append(block(width, width, groups))
            previous = width
        self.head = nn.ConvTranspose3d(previous, labels, 2, 2)

    def forward(self, image: Tensor) -> Tensor:
        """Scores [N, K, X, Y, Z] of ``image`` [N, 1, X, Y, Z], sizes multiples of ``multiple``."""
        x = self.stem(image)
        kept: list[Tensor] = []
        for level, encode in enumerate(self.encoder):
            x = encode(x if level == 0 else nn.functional.max_pool3d(x, 2))
            kept.append(x)
        for up, decode, skip in zip(self.up, self.decoder, reversed(kept[:-1]), strict=True):
            x = decode(up(x) + skip)
        scores: Tensor = self.head(x)
        return scores


def block(inputs: int, outputs: int, groups: int) -> nn.Sequential:
    """Convolution, Group Normalization, ReLU."""
    return nn.Sequential(
        nn.Conv3d(inputs, outputs, 3, padding=1, bias=False),
        nn.GroupNorm(groups, outputs),
        nn.ReLU(inplace=True),
    )
