"""A small U-Net with Group Normalization that labels the voxels of a head or a part of it."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F


class SegmentationNet(nn.Module):
    """U-Net (Ronneberger et al. 2015) whose first convolution may halve the resolution.

    The output has the input's resolution: where it was halved, a last transposed convolution gives
    each voxel its scores, which costs an eighth and sees further.

    Parameters
    ----------
    labels: number of labels K.
    widths: channels of the levels, each at half the resolution of the one before.
    halved: whether the first level has half the input's resolution.
    groups: of Group Normalization.
    """

    def __init__(
        self,
        labels: int,
        widths: Sequence[int] = (32, 48, 64, 96),
        halved: bool = True,
        groups: int = 8,
    ) -> None:
        super().__init__()
        self.multiple = 2 ** (len(widths) - (not halved))
        self.stem = (
            nn.Conv3d(1, widths[0], 4, 2, 1) if halved else nn.Conv3d(1, widths[0], 3, padding=1)
        )
        self.encoder, self.up, self.decoder = (nn.ModuleList() for _ in range(3))
        previous = widths[0]
        for level, width in enumerate(widths):
            first = [block(previous, width, groups)] if level or halved else []
            self.encoder.append(nn.Sequential(*first, block(width, width, groups)))
            previous = width
        for width in reversed(widths[:-1]):
            self.up.append(nn.ConvTranspose3d(previous, width, 2, 2))
            self.decoder.append(block(width, width, groups))
            previous = width
        self.head = Doubled(previous, labels, 2, 2) if halved else nn.Conv3d(previous, labels, 1)

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


class Doubled(nn.ConvTranspose3d):
    """A transposed convolution of 2 x 2 x 2 with stride 2, as a product: half the time on a CPU."""

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """[N, C, X, Y, Z] -> [N, K, 2 X, 2 Y, 2 Z]."""
        weight = self.weight.flatten(1).t()[..., None, None, None]
        bias = None if self.bias is None else self.bias.repeat_interleave(8)
        y = F.conv3d(x, weight, bias).view(len(x), -1, 2, 2, 2, *x.shape[2:])
        return y.permute(0, 1, 5, 2, 6, 3, 7, 4).flatten(6, 7).flatten(4, 5).flatten(2, 3)


def block(inputs: int, outputs: int, groups: int) -> nn.Sequential:
    """Convolution, Group Normalization, ReLU."""
    return nn.Sequential(
        nn.Conv3d(inputs, outputs, 3, padding=1, bias=False),
        nn.GroupNorm(groups, outputs),
        nn.ReLU(inplace=True),
    )
