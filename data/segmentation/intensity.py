"""Intensities of the segmentation network's input."""

import torch
from torch import Tensor

SAMPLE = 50_000  # voxels


def normalized(image: Tensor) -> Tensor:
    """``image`` [X, Y, Z] with its background at 0 and the bright parts of its foreground at 1."""
    image = image - torch.clamp(image.min(), max=0)
    # Of a sample: torch.quantile is slow, and limited in size.
    part = image.reshape(-1)[:: max(1, image.numel() // SAMPLE)]
    part = part[part > 0.1 * part.mean()]
    top = torch.quantile(part, 0.98) if part.numel() else image.max()
    return image / torch.clamp(top, min=1e-6)
