"""A label map with FreeSurfer's numbers, as images are drawn from it."""

from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from uncus.data.segmentation.labels import BRAIN, FREESURFER
from uncus.data.segmentation.segmenter import match_labels

COARSE = 4  # mm, the grid of the fields of atrophy
# FreeSurfer numbers of the structures that atrophy changes, and the largest displacements in mm of
# their borders: shrinking and growing. CSF also stands for the sulci, at the cost of the cortex.
ATROPHY: tuple[tuple[tuple[int, ...], float, float], ...] = (
    ((4, 5, 43, 44), 1.5, 5.0),
    ((17,), 2.0, 0.5),
    ((53,), 2.0, 0.5),
    ((18, 54), 1.0, 0.5),
    ((24,), 0.7, 1.2),
)
# Intensities of a T1-weighted scan, white matter = 1, by FreeSurfer number.
T1_WEIGHTED = {
    0: 0.01, 2: 1.0, 3: 0.72, 4: 0.25, 5: 0.3, 7: 0.98, 8: 0.72, 10: 0.88, 11: 0.78, 12: 0.83,
    13: 0.93, 14: 0.27, 15: 0.3, 16: 0.92, 17: 0.74, 18: 0.73, 24: 0.27, 25: 0.75, 26: 0.76,
    28: 0.9, 30: 0.4, 72: 0.3, 85: 0.85, 136: 0.45, 137: 0.5, 502: 0.7, 506: 0.25, 507: 0.6,
    508: 0.6, 509: 0.7, 511: 0.8, 512: 0.85, 514: 0.5, 515: 0.12, 516: 0.9, 530: 0.85,
}  # fmt: skip
# The right side's numbers -> the left side's: both sides get the same intensity.
LEFT = {41: 2, 42: 3, 43: 4, 44: 5, 46: 7, 47: 8, 49: 10, 50: 11, 51: 12, 52: 13, 53: 17, 54: 18,
        57: 25, 58: 26, 60: 28, 62: 30, 163: 136, 164: 137}  # fmt: skip
NUMBERS = tuple(T1_WEIGHTED) + tuple(LEFT)
FAT = 507
MEDIAL_TEMPORAL = ((17, 18), (53, 54))


@dataclass(frozen=True, eq=False)
class LabelMap:
    """A label map of a whole head.

    Parameters
    ----------
    index: uint8 [X, Y, Z], RAS+, the position of each voxel's number in ``NUMBERS``.
    spacing: mm.
    center: float32 [3], of the brain, in voxels.
    sides: of the left and the right hippocampus and amygdala together, in voxels; None where they
        are less than half as large as those of the other side.
    placed: float32 [4, 4], mm of ICBM152 -> voxels, by the centers of the labels.
    atrophy: float32 [len(ATROPHY), 3, x, y, z], unit displacements in voxels on a grid of
        ``COARSE`` mm: towards the structure, so that sampling along it makes the structure grow.
    """

    index: Tensor
    spacing: float
    center: Tensor
    sides: tuple[Tensor | None, ...]
    placed: Tensor
    atrophy: Tensor

    @classmethod
    def load(cls, path: Path) -> "LabelMap":
        """Read a label map with FreeSurfer numbers and cubic voxels."""
        image = nib.funcs.as_closest_canonical(nib.load(path))
        array = np.asarray(image.dataobj)
        spacing = float(image.header.get_zooms()[0])
        positions = np.zeros(int(max(array.max(), *NUMBERS)) + 1, np.uint8)
        positions[list(NUMBERS)] = np.arange(len(NUMBERS))
        brain = np.isin(array, [number for number in NUMBERS if FREESURFER[number][0] in BRAIN])
        center = np.array(ndimage.center_of_mass(brain), np.float32)
        memory = [np.isin(array, numbers) for numbers in MEDIAL_TEMPORAL]
        sizes = [int(part.sum()) for part in memory]
        sides = tuple(
            torch.tensor(ndimage.center_of_mass(part), dtype=torch.float32)
            if size > max(sizes) / 2
            else None
            for part, size in zip(memory, sizes, strict=True)
        )
        classes = np.array([FREESURFER[number][0] for number in NUMBERS])
        placed = match_labels(classes[positions[array]], np.eye(4)).transform
        factor = round(COARSE / spacing)
        fields = [_towards(np.isin(array, numbers), factor, spacing) for numbers, _, _ in ATROPHY]
        return cls(
            torch.from_numpy(np.ascontiguousarray(positions[array])),
            spacing,
            torch.from_numpy(center),
            sides,
            torch.from_numpy(placed.astype(np.float32)),
            torch.from_numpy(np.stack(fields)),
        )

    def numbers(self, at: Tensor) -> Tensor:
        """Positions in ``NUMBERS`` [X, Y, Z] of the voxels nearest to ``at`` [3, X, Y, Z]."""
        size = torch.tensor(self.index.shape)[:, None, None, None]
        nearest = at.round().to(torch.int64)
        inside = ((nearest >= 0) & (nearest < size)).all(0)
        nearest = nearest.clamp_(min=torch.zeros_like(size), max=size - 1)
        flat = (nearest[0] * size[1] + nearest[1]) * size[2] + nearest[2]
        numbers = self.index.reshape(-1)[flat].to(torch.int64)
        return numbers.masked_fill_(~inside, NUMBERS.index(0))


def _towards(structure: NDArray[np.bool_], factor: int, spacing: float) -> NDArray[np.float32]:
    """Directions [3, x, y, z] towards a structure, at most 1 long, on a grid ``factor`` coarser."""
    shape = tuple(size // factor for size in structure.shape)
    blocks = structure[tuple(slice(size * factor) for size in shape)].astype(np.float32)
    for axis in range(3):
        blocks = np.add.reduceat(blocks, np.arange(0, blocks.shape[axis], factor), axis)
    smooth = ndimage.gaussian_filter(blocks / np.float32(factor**3), 1.5)
    field = np.stack(np.gradient(smooth)).astype(np.float32)
    return field / max(float(np.linalg.norm(field, axis=0).max()), 1e-6)
