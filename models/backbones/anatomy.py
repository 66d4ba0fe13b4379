"""A U-Net that labels the structures of the brain; the features are their volumes."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from uncus.models.base import Classifier
from uncus.models.norms.norm_act import Chain

STRUCTURES = 14
MEASURED = (6, 7, 8, 9, 10, 11, 12, 13)
"""The structures that are features: ventricles and deep gray matter, away from the brain's edge,
which depends on how the skull was stripped."""
RINGS, BANDS = 3, 6
"""Parts of the volume in which structures are measured: by the distance from the midline, and from
inferior to superior."""
TEMPERATURE = 2.0
"""Of the probabilities: softer ones also tell how clearly a structure is seen."""
POOLS = ((2, 1, 2), (2, 2, 2), (2, 1, 2))
"""By what each level of the U-Net is coarser than the one before: for a thin coronal slab."""
MULTIPLE = (8, 2, 8)
DARK = 0.15
EVERY = 5
"""Of the voxels, one in so many counts for the range of intensities."""


class Anatomy(Classifier):
    """Volumes of structures as features: the head is a weighted sum of them.

    A U-Net (Ronneberger et al. 2015), trained to segment synthetic images (Billot et al. 2023) and
    then frozen, gives each voxel the probabilities of the structures. Averaged, they are the
    structures' volumes relative to the whole. As it was trained on any contrast, another scanner
    changes the features little. The intensities of a volume are scaled to its own range first.

    Parameters
    ----------
    classes: columns of the output.
    width: channels of the U-Net's first level; those of the others are 2, 4 and 6 times as many.
    norm: channels -> normalization layer.
    dropout: before the head.
    """

    gain = 1.0
    least_spread = 1.0

    def __init__(
        self,
        classes: int,
        *,
        width: int = 16,
        norm: Callable[[int], nn.Module] = nn.BatchNorm3d,
        dropout: float = 0.0,
    ) -> None:
        channels = len(MEASURED) * RINGS * BANDS
        super().__init__(channels, classes, stride=2, offset=0.5, dropout=dropout)
        self.unet = UNet(STRUCTURES, width, norm)

    def features(self, x: Tensor) -> Tensor:
        """[N, 1, X, Y, Z] -> [N, C, X / 2, Y / 2, Z / 2], each structure in each part."""
        return in_parts(self.scores(x), x.shape[2:])

    def scores(self, x: Tensor) -> Tensor:
        """[N, 1, X, Y, Z] -> the U-Net's scores [N, structures, ...], sizes up to ``MULTIPLE``."""
        sides = zip(x.shape[:1:-1], MULTIPLE[::-1], strict=True)
        scores: Tensor = self.unet(
            F.pad(scaled(x), [side for n, m in sides for side in (0, -n % m)])
        )
        return scores

    def classify(self, feature_map: Tensor) -> Tensor:
        return super().classify(feature_map)


def in_parts(
    scores: Tensor,
    size: Sequence[int],
    structures: Sequence[int] = MEASURED,
    temperature: float = TEMPERATURE,
) -> Tensor:
    """Probabilities of structures, each in each part of a volume; elsewhere they are 0.

    Parameters
    ----------
    scores: [N, structures, ...], of a volume of ``size`` X, Y, Z that may be padded at its end.

    Returns
    -------
    [N, C, X / 2, Y / 2, Z / 2], C being structures times rings times bands.
    """
    probabilities = (scores / temperature).softmax(1)[:, list(structures)]
    across, along, up = ((n + 1) // 2 for n in size)
    coarse = F.avg_pool3d(probabilities, 2)[:, :, :across, :along, :up]
    distance = (2 * torch.arange(across, device=scores.device) + 1 - across).abs()
    ring = F.one_hot(distance * RINGS // (across + 1), RINGS).T[:, None, :, None, None]
    band = torch.arange(up, device=scores.device) * BANDS // up
    inside = ring * F.one_hot(band, BANDS).T[:, None, None, :]
    return (coarse[:, :, None] * inside.flatten(0, 1).to(scores.dtype)).flatten(1, 2)


class UNet(nn.Module):
    """[N, 1, X, Y, Z] -> scores [N, ``structures``, X, Y, Z]; sizes are of ``MULTIPLE``."""

    def __init__(self, structures: int, width: int, norm: Callable[[int], nn.Module]) -> None:
        super().__init__()
        widths = (width, 2 * width, 4 * width, 6 * width)

        def block(inputs: int, outputs: int) -> Chain:
            convolution = nn.Conv3d(inputs, outputs, 3, padding=1, bias=False)
            return Chain(convolution, norm(outputs), nn.ReLU())

        self.stem = nn.Conv3d(1, width, 3, padding=1)
        self.encoder = nn.ModuleList([nn.Sequential(block(width, width))])
        self.up, self.decoder = nn.ModuleList(), nn.ModuleList()
        for above, below in pairwise(widths):
            self.encoder.append(nn.Sequential(block(above, below), block(below, below)))
        for above, below, pool in zip(widths[-2::-1], widths[:0:-1], POOLS[::-1], strict=True):
            self.up.append(nn.ConvTranspose3d(below, above, pool, pool))
            self.decoder.append(block(above, above))
        self.head = nn.Conv3d(width, structures, 1)

    def forward(self, image: Tensor) -> Tensor:
        x = self.encoder[0](self.stem(image))
        skips = [x]
        for pool, encode in zip(POOLS, self.encoder[1:], strict=True):
            skips.append(x := encode(F.max_pool3d(x, pool)))
        for up, decode, skip in zip(self.up, self.decoder, skips[-2::-1], strict=True):
            x = decode(up(x) + skip)
        scores: Tensor = self.head(x)
        return scores


def scaled(x: Tensor) -> Tensor:
    """z-scores [N, 1, X, Y, Z] with 0 outside the brain as intensities: about 1 at the brightest.

    The darkest of the brain is ``DARK``, as fluid is in the images that the U-Net was trained on.
    """
    with torch.no_grad():
        inside = torch.where(x != 0, x.float(), torch.nan).flatten(1)[:, ::EVERY]
        low, high = torch.nanquantile(inside, x.new_tensor([0.01, 0.98]).float(), 1)
        low, span = low.nan_to_num(0.0), (high - low).nan_to_num(1.0).clamp_min(1e-3)
        low, span = (part.view(-1, 1, 1, 1, 1) for part in (low, span))
    intensities = DARK + (1 - DARK) * (x - low) / span
    return torch.where(x != 0, intensities.clamp_min(0), 0).to(x.dtype)
