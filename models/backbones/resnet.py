"""Residual networks in 3D (He 2016, arXiv 1512.03385), for volumes of any size and shape."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from uncus.models.base import Classifier, convolution, initialize
from uncus.models.norms.norm_act import norm_act
from uncus.models.norms.positional import position_moments

Layer = Callable[[int], nn.Module]
"""channels -> a norm."""

# depth -> (bottleneck blocks?, blocks in each of the four stages), table 1 of the paper;
# 10 is the usual one block a stage.
DEPTHS: dict[int, tuple[bool, tuple[int, int, int, int]]] = {
    10: (False, (1, 1, 1, 1)),
    18: (False, (2, 2, 2, 2)),
    34: (False, (3, 4, 6, 3)),
    50: (True, (3, 4, 6, 3)),
}


class ZeroPadShortcut(nn.Module):
    """Shortcut A: every ``stride``-th voxel, and zeros for the new channels."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.new_channels = outputs - inputs
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        kept = x[:, :, :: self.stride, :: self.stride, :: self.stride]
        return F.pad(kept, (0, 0, 0, 0, 0, 0, 0, self.new_channels))


class ConvolutionShortcut(nn.Sequential):
    """Shortcut B: a 1x1x1 convolution and a norm."""

    def forward(self, x: Tensor) -> Tensor:
        convolution, norm = self
        return norm_act(norm, convolution(x), "none")


class BasicBlock(nn.Module):
    """``relu(shortcut(x) + norm2(conv2(relu(norm1(conv1(x))))))``, two 3x3x3 convolutions."""

    expansion = 1
    activated_norms = ("norm1",)
    moment_shortcut = False

    def __init__(
        self, inputs: int, width: int, stride: int, shortcut: nn.Module, norm: Layer
    ) -> None:
        super().__init__()
        self.conv1 = convolution(inputs, width, 3, stride)
        self.norm1 = norm(width)
        self.conv2 = convolution(width, width, 3)
        self.norm2 = norm(width)
        self.downsample = shortcut

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(x)
        moments = position_moments(y) if self.moment_shortcut else None
        y = self.conv2(norm_act(self.norm1, y))
        if moments is not None:
            return F.relu(self.norm2(y, moments) + self.downsample(x))
        return norm_act(self.norm2, y, residual=self.downsample(x))


class Bottleneck(nn.Module):
    """1x1x1 down to ``width``, 3x3x3 with the stride, 1x1x1 up to ``4 * width``."""

    expansion = 4
    activated_norms = ("norm1", "norm2")
    moment_shortcut = False

    def __init__(
        self, inputs: int, width: int, stride: int, shortcut: nn.Module, norm: Layer
    ) -> None:
        super().__init__()
        self.conv1 = convolution(inputs, width, 1)
        self.norm1 = norm(width)
        self.conv2 = convolution(width, width, 3, stride)
        self.norm2 = norm(width)
        self.conv3 = convolution(width, width * self.expansion, 1)
        self.norm3 = norm(width * self.expansion)
        self.downsample = shortcut

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(norm_act(self.norm1, self.conv1(x)))
        moments = position_moments(y) if self.moment_shortcut else None
        y = self.conv3(norm_act(self.norm2, y))
        if moments is not None:
            return F.relu(self.norm3(y, moments) + self.downsample(x))
        return norm_act(self.norm3, y, residual=self.downsample(x))


class ResNet(Classifier):
    """3D ResNet; stages of ``width``, 2, 4 and 8 times ``width`` channels.

    Each stage after the first halves the volume, rounding up, so an axis of any length survives: a
    slab of 88 x 10 x 88 voxels ends as 6 x 1 x 6 with stem stride 2. The last gamma of each block
    starts at 0 (Goyal 2017, arXiv 1706.02677; the GN paper's recipe), so each block starts as its
    shortcut.

    Parameters
    ----------
    depth: 10, 18, 34 (basic blocks) or 50 (bottlenecks).
    classes: columns of the output.
    width: channels of the first stage; 64 is the paper's.
    norm: channels -> normalization layer.
    stem_stride: stride of the first convolution, 1 or 2.
    stem_kernel: its size, odd; 7 in the paper, 3 is cheaper in 3D.
    stem_pool: max pooling (3, stride 2) after the stem, as in the paper.
    shortcut: where a stage changes shape: "B" 1x1x1 convolution and norm; "A" zero padding.
    dropout: before the head.
    moment_shortcut: each block's last norm restores the moments that positional norm removed from
        the input of its first norm of the output's size (`PositionalNorm`); requires that norm.
    """

    activated_norms = ("norm1",)

    def __init__(
        self,
        depth: int,
        classes: int,
        *,
        width: int = 64,
        norm: Layer = nn.BatchNorm3d,
        stem_stride: int = 2,
        stem_kernel: int = 3,
        stem_pool: bool = False,
        shortcut: str = "B",
        dropout: float = 0.0,
        moment_shortcut: bool = False,
    ) -> None:
        if depth not in DEPTHS:
            raise ValueError(
                f"depth={depth}: a ResNet has one of the depths {', '.join(map(str, DEPTHS))}"
            )
        if shortcut not in {"A", "B"}:
            raise ValueError(
                f"shortcut={shortcut!r}: must be 'A' (zero padding) or 'B' (convolution)"
            )
        bottleneck, blocks = DEPTHS[depth]
        block = Bottleneck if bottleneck else BasicBlock
        stride = stem_stride * (2 if stem_pool else 1) * 8
        super().__init__(8 * width * block.expansion, classes, stride=stride, dropout=dropout)
        self.conv1 = convolution(1, width, stem_kernel, stem_stride)
        self.norm1 = norm(width)
        self.pool = nn.MaxPool3d(3, stride=2, padding=1) if stem_pool else nn.Identity()

        def stage(number: int, inputs: int, channels: int, stride: int) -> nn.Sequential:
            outputs = channels * block.expansion
            first = _shortcut(shortcut, inputs, outputs, stride, norm)
            layers = [block(inputs, channels, stride, first, norm)]
            for _ in range(number - 1):
                layers.append(block(outputs, channels, 1, nn.Identity(), norm))
            return nn.Sequential(*layers)

        wide = width * block.expansion
        self.layer1 = stage(blocks[0], width, width, 1)
        self.layer2 = stage(blocks[1], wide, 2 * width, 2)
        self.layer3 = stage(blocks[2], 2 * wide, 4 * width, 2)
        self.layer4 = stage(blocks[3], 4 * wide, 8 * width, 2)
        initialize(self)
        for module in self.modules():
            if isinstance(module, BasicBlock | Bottleneck):
                module.moment_shortcut = moment_shortcut
                last = module.norm3 if isinstance(module, Bottleneck) else module.norm2
                with torch.no_grad():
                    last.get_parameter("weight").zero_()

    def features(self, x: Tensor) -> Tensor:
        y = self.pool(norm_act(self.norm1, self.conv1(x)))
        y = self.layer2(self.layer1(y))
        feature_map: Tensor = self.layer4(self.layer3(y))
        return feature_map


def _shortcut(kind: str, inputs: int, outputs: int, stride: int, norm: Layer) -> nn.Module:
    if inputs == outputs and stride == 1:
        return nn.Identity()
    if kind == "A":
        return ZeroPadShortcut(inputs, outputs, stride)
    return ConvolutionShortcut(convolution(inputs, outputs, 1, stride), norm(outputs))
