"""The spaces in which scans are placed, and a scan placed on the grid of the networks."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from uncus.data.geometry.grid import Grid as Grid
from uncus.data.imageio.volume import Volume
from uncus.data.mni.template import NAME, mni_grid

# The transform of uncus.data.transforms that finds the brain and its position. "keep" leaves a scan
# where its affine puts it, "mni" registers it to the ICBM152 template.
SPACES = {"keep": "MaskBrain", "mni": "PlaceInMNI"}
# Spaces with a grid of their own, whatever the scans: spacing in mm [3] -> grid.
GRIDS: dict[str, Callable[[NDArray[np.float64]], Grid]] = {"mni": mni_grid}
# The BIDS space label in file names.
LABELS = {"keep": "keep", "mni": NAME}


ToScan = Callable[[NDArray[np.float32]], NDArray[np.float32]]


@dataclass(frozen=True)
class Placed:
    """A scan on the grid.

    Parameters
    ----------
    array: float32 [X, Y, Z], z-scores inside the brain, 0 outside.
    mask: bool [X, Y, Z], the brain (or the head, in a scan that was not skull-stripped).
    volume: the scan itself.
    in_field_of_view: bool [X, Y, Z], grid voxels whose centers lie in the scan's field of view.
    contact: how much each face of the scan's field of view cuts the mask, in the order left,
        right, posterior, anterior, inferior, superior: the mask's area on the face over its
        largest area in any parallel slice, 0 to 1.
    warnings: quality control findings, one sentence each.
    to_grid: float64 [4, 4], scan mm -> grid mm (RAS+); the identity if the scan was not registered.
    quality: measures of the registration; empty if the scan was not registered.
    to_scan: carries a map float32 [X, Y, Z] on the grid back to the scan's voxels, in the RAS+
        order of ``volume.array``: one linear interpolation, by the inverse of the steps that placed
        the scan; 0 outside the grid.
    """

    array: NDArray[np.float32]
    mask: NDArray[np.bool_]
    volume: Volume
    in_field_of_view: NDArray[np.bool_]
    contact: tuple[float, ...] = ()
    warnings: tuple[str, ...] = ()
    to_grid: NDArray[np.float64] = field(default_factory=lambda: np.eye(4))
    quality: Mapping[str, float] = field(default_factory=dict)
    to_scan: ToScan | None = field(default=None, repr=False)

    @property
    def moved(self) -> Volume:
        """The scan with its affine composed with ``to_grid``; its voxels are unchanged."""
        return replace(self.volume, affine=self.to_grid @ self.volume.affine)
