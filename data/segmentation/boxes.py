"""Hippocampus and amygdala once more, at 1 mm in a box around those of each side.

One network knows the left ones; the right ones are shown to it mirrored.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from uncus.data.geometry.image import Affine, Image
from uncus.data.segmentation.intensity import normalized

SPACING, SHAPE = 1.0, (48, 64, 48)  # of a box: mm, voxels
HIPPOCAMPUS, AMYGDALA = 12, 14  # on the left; the right ones are the next
# The network's classes by those of a head: here everything on the right but hippocampus and
# amygdala has the class of the left.
CLASSES = (0, 0, 1, 2, 2, 3, 3, 0, 0, 0, 4, 4, 5, 2, 6, 2, 7, 7, 7, 7)
COUNT = max(CLASSES) + 1
WIDTHS = (16, 32, 64, 96)  # of the network
FOUND = [CLASSES[HIPPOCAMPUS], CLASSES[AMYGDALA]]


@dataclass(frozen=True, eq=False)
class Box:
    """The hippocampus and the amygdala of one side.

    Parameters
    ----------
    side: 0 left, 1 right.
    probabilities: float32 [2, X, Y, Z], of hippocampus and amygdala.
    affine: float64 [4, 4], index -> mm of the scan; the first axis points from the middle of the
        head outwards to the left, or to the right in its mirror image.
    """

    side: int
    probabilities: NDArray[np.float32]
    affine: Affine

    def volumes(self) -> dict[int, float]:
        """ml of each structure, by its label."""
        sums = self.probabilities.sum((1, 2, 3), dtype=np.float64) * SPACING**3 / 1000
        return dict(zip(self.structures, sums.tolist(), strict=True))

    @property
    def structures(self) -> tuple[int, int]:
        """The labels of hippocampus and amygdala on this side."""
        return HIPPOCAMPUS + self.side, AMYGDALA + self.side

    def draw(self, labels: NDArray[np.uint8], affine: Affine) -> None:
        """Draw both structures into ``labels`` [X, Y, Z] with index -> mm ``affine``, in place."""
        to_scan = np.linalg.inv(affine) @ self.affine
        ends = np.array(np.meshgrid(*([0, size - 1] for size in SHAPE), indexing="ij"))
        corners = to_scan[:3, :3] @ ends.reshape(3, -1) + to_scan[:3, 3:]
        low = np.maximum(np.floor(corners.min(1)).astype(int), 0)
        high = np.minimum(np.ceil(corners.max(1)).astype(int) + 1, labels.shape)
        if (high <= low).any():
            return
        part = labels[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
        to_box = np.linalg.inv(to_scan)
        offset = to_box[:3, :3] @ low + to_box[:3, 3]
        hippocampus, amygdala = (
            ndimage.affine_transform(one, to_box[:3, :3], offset, part.shape, order=1)
            for one in self.probabilities
        )
        chosen = hippocampus + amygdala > 0.5
        part[chosen] = np.where(hippocampus >= amygdala, *self.structures)[chosen]


def box_affine(center: NDArray[np.float64], rotation: NDArray[np.float64], side: int) -> Affine:
    """Index -> mm of the box around ``center`` (mm); ``rotation``: the brain's axes in the scan."""
    affine = np.eye(4)
    affine[:3, :3] = rotation * [[-1.0 if side else 1.0, 1.0, 1.0]] * SPACING
    affine[:3, 3] = center - affine[:3, :3] @ (np.array(SHAPE) - 1) / 2
    return affine


@torch.inference_mode()
def label_box(network: Callable[[Tensor], Tensor], image: Image, affine: Affine, side: int) -> Box:
    """Label the box with index -> mm ``affine`` in a scan, its voxels about ``SPACING`` or more."""
    to_index = np.linalg.inv(image.affine) @ affine
    sampled = ndimage.affine_transform(
        image.array, to_index[:3, :3], to_index[:3, 3], SHAPE, np.float32, order=1, cval=np.nan
    )
    inside = np.isfinite(sampled)
    array = normalized(torch.from_numpy(np.nan_to_num(sampled)))
    found = network(array[None, None])[0].float().softmax(0)[FOUND].numpy()
    return Box(side, np.where(inside, found, np.float32(0)), affine)
