"""The common grid that all scans of a cohort are resampled to."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Grid:
    """A regular grid along the RAS+ axes.

    Parameters
    ----------
    shape: number of voxels along x (left to right), y (posterior to anterior), z (inferior to
        superior).
    affine: float64 [4, 4], voxel index -> mm, RAS+; diagonal except for the origin.
    """

    shape: tuple[int, int, int]
    affine: NDArray[np.float64]

    @classmethod
    def from_box(
        cls, low: NDArray[np.float64], high: NDArray[np.float64], spacing: NDArray[np.float64]
    ) -> "Grid":
        """The smallest grid of ``spacing`` (mm) whose voxels cover the box ``low``..``high`` (mm).

        It has the box's center. ``low`` and ``high`` are outer faces, not voxel centers.
        """
        # A box of exactly n voxels must not become n + 1 by rounding.
        counts = np.maximum(np.ceil((high - low) / spacing - 1e-3), 1).astype(int)
        origin = (low + high) / 2 - (counts - 1) / 2 * spacing
        affine = np.diag([*spacing, 1.0])
        affine[:3, 3] = np.round(origin, 4)  # to 0.1 µm, for printing and comparison
        x, y, z = counts.tolist()
        return cls((x, y, z), affine)

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel size in mm along x, y, z."""
        x, y, z = np.diag(self.affine)[:3]
        return float(x), float(y), float(z)

    def as_dict(self) -> dict[str, Any]:
        """Shape and affine for JSON."""
        return {"shape": list(self.shape), "affine": self.affine.tolist()}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> "Grid":
        """The inverse of :meth:`as_dict`; raises ValueError if ``value`` is not a grid."""
        shape = tuple(int(size) for size in value["shape"])
        affine = np.asarray(value["affine"], dtype=np.float64)
        off_axis = affine[:3, :3] - np.diag(np.diag(affine[:3, :3])) if affine.ndim == 2 else affine
        if len(shape) != 3 or min(shape) < 1 or affine.shape != (4, 4) or np.any(off_axis):
            raise ValueError(f"not a grid: shape {value['shape']}, affine {value['affine']}")
        return cls((shape[0], shape[1], shape[2]), affine)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Grid)
            and self.shape == other.shape
            and np.allclose(self.affine, other.affine, atol=1e-6)
        )

    __hash__ = None  # type: ignore[assignment]
