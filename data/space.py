"""Place a scan on the grid of the networks, and carry maps back to the scan's own grid.

A space is a callable ``(Volume, Grid) -> Placed``, listed in SPACES. The space "keep" resamples and
normalizes a scan where its affine puts it. The space "mni" registers a whole head or a
skull-stripped brain to the ICBM152 template.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from uncus.data import image_quality
from uncus.data.errors import BadInput
from uncus.data.geometry import resample
from uncus.data.geometry.foreground import brain_mask
from uncus.data.geometry.grid import Grid as Grid
from uncus.data.imageio.volume import Volume
from uncus.data.imageio.writer import native_array
from uncus.data.mni import prealigned, registration
from uncus.data.mni.template import NAME, mni_grid

BACKGROUND = 0.0
CLIP_PERCENTILES = (0.5, 99.5)


@dataclass(frozen=True)
class Placed:
    """A scan on the grid.

    Parameters
    ----------
    array: float32 [X, Y, Z], z-scores inside the brain, BACKGROUND outside.
    mask: bool [X, Y, Z], the brain (or the head, in a scan that was not skull-stripped).
    volume: the scan itself.
    in_field_of_view: bool [X, Y, Z], grid voxels whose centers lie in the scan's field of view.
    contact: how much each face of the scan's field of view cuts the mask, in the order left,
        right, posterior, anterior, inferior, superior: the mask's area on the face over its
        largest area in any parallel slice, 0 to 1.
    warnings: quality control findings, one sentence each.
    to_grid: float64 [4, 4], scan mm -> grid mm (RAS+); the identity if the scan was not registered.
    quality: measures of the registration; empty if the scan was not registered.
    """

    array: NDArray[np.float32]
    mask: NDArray[np.bool_]
    volume: Volume
    in_field_of_view: NDArray[np.bool_]
    contact: tuple[float, ...] = ()
    warnings: tuple[str, ...] = ()
    to_grid: NDArray[np.float64] = field(default_factory=lambda: np.eye(4))
    quality: Mapping[str, float] = field(default_factory=dict)

    @property
    def moved(self) -> Volume:
        """The scan with its affine composed with ``to_grid``; its voxels are unchanged."""
        return replace(self.volume, affine=self.to_grid @ self.volume.affine)


Space = Callable[[Volume, Grid], Placed]


def place(volume: Volume, grid: Grid, space: str = "keep") -> Placed:
    """Place a scan on ``grid`` by the named space; its warnings include noise and ghosting.

    Raises BadInput for an unknown space, or if no brain lies on the grid.
    """
    if space not in SPACES:
        raise BadInput(f"space {space!r}", "is unknown", f"choose one of {', '.join(SPACES)}")
    placed = SPACES[space](volume, grid)
    return replace(placed, warnings=placed.warnings + image_quality.measure(volume).warnings)


def keep(volume: Volume, grid: Grid) -> Placed:
    """Resample a scan by its affine alone, and normalize it inside the brain."""
    mask = brain_mask(volume)
    array, inside = resample.masked(volume, mask, grid)
    if np.count_nonzero(inside) < 2:
        raise BadInput(
            volume.native.path,
            "its brain lies outside the field of view of the common grid",
            "check its affine, and that it is in the same space as the other scans",
        )
    warnings = volume.warnings
    lost = 1 - min(1.0, _millilitres(inside, grid.affine) / _millilitres(mask, volume.affine))
    if lost > 0.1:
        warnings += (f"{lost:.0%} of the brain or head lies outside the common grid.",)
    return Placed(
        array=normalize(array, inside),
        mask=inside,
        volume=volume,
        in_field_of_view=resample.field_of_view(volume, grid),
        contact=contact(mask),
        warnings=warnings,
    )


def to_mni(volume: Volume, grid: Grid) -> Placed:
    """Register a scan to the ICBM152 template and normalize its brain.

    A skull-stripped brain whose header declares it aligned is checked and left unmoved, see
    uncus.data.mni.prealigned; all others are registered, see uncus.data.mni.registration.

    Raises BadInput if the registration fails or the brain is cut off.
    """
    result = prealigned.verify(volume) or registration.register(volume)
    array, inside = resample.masked(registration.corrected(volume, result), result.mask, grid)
    if np.count_nonzero(inside) < 2:
        raise BadInput(
            volume.native.path,
            "its brain lies outside the grid after registration",
            "prepare the cohort again with --space mni",
        )
    quality = {
        "overlap": result.overlap,
        "similarity": result.similarity,
        "seen": result.coverage,
        "likeness": result.likeness,
        "contrast": result.contrast,
    }
    placed = Placed(
        array=normalize(array, inside),
        mask=inside,
        volume=volume,
        in_field_of_view=np.ones(grid.shape, bool),
        contact=contact(result.mask),
        warnings=volume.warnings + result.warnings,
        to_grid=result.to_mni,
        quality={name: round(value, 4) for name, value in quality.items() if value is not None},
    )
    return replace(placed, in_field_of_view=resample.field_of_view(placed.moved, grid))


SPACES: dict[str, Space] = {"keep": keep, "mni": to_mni}
# Spaces with a grid of their own, whatever the scans: spacing in mm [3] -> grid.
GRIDS: dict[str, Callable[[NDArray[np.float64]], Grid]] = {"mni": mni_grid}
# The BIDS space label in file names.
LABELS = {"keep": "keep", "mni": NAME}


def normalize(array: NDArray[np.float32], mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Z-scores over the mask after clipping to percentiles 0.5 and 99.5; BACKGROUND outside.

    (v - mean) / std, with the mean and std of the clipped values inside. A constant gives 0.
    """
    values = array[mask].astype(np.float64)
    low, high = np.percentile(values, CLIP_PERCENTILES)
    values = np.clip(values, low, high)
    spread = values.std()
    result = np.full(array.shape, BACKGROUND, np.float32)
    if spread > 1e-12 * max(1.0, abs(low), abs(high)):
        result[mask] = (values - values.mean()) / spread
    return result


def to_native(array: NDArray[np.float32], grid: Grid, placed: Placed) -> NDArray[np.float32]:
    """Carry a map on the grid back to the scan's own grid and the voxel order of its file.

    Arguments as in :func:`to_scan`; returns float32 of the shape stored in the file.
    """
    native: NDArray[np.float32] = native_array(placed.volume, to_scan(array, grid, placed))
    return native


def to_scan(array: NDArray[np.float32], grid: Grid, placed: Placed) -> NDArray[np.float32]:
    """Carry a map on the grid back to the scan's own grid, in the RAS+ order of its array.

    One interpolation, by the inverse of the transform that placed the scan.

    Parameters
    ----------
    array: float32 [X, Y, Z] on ``grid``.

    Returns
    -------
    float32 of the shape of ``placed.volume.array``, linearly interpolated, 0 outside the grid.
    """
    if tuple(array.shape) != grid.shape:
        raise ValueError(f"map of shape {tuple(array.shape)} on a grid of {grid.shape}")
    return resample.onto_volume(array, grid, placed.moved)


def contact(mask: NDArray[np.bool_]) -> tuple[float, ...]:
    """Measure how much each face of the array cuts the mask; see :class:`Placed`."""
    shares: list[float] = []
    for axis in range(3):
        areas = mask.sum(axis=tuple(other for other in range(3) if other != axis))
        largest = max(int(areas.max()), 1)
        shares += [float(areas[0] / largest), float(areas[-1] / largest)]
    return tuple(shares)


def _millilitres(mask: NDArray[np.bool_], affine: NDArray[np.float64]) -> float:
    return float(np.count_nonzero(mask) * abs(np.linalg.det(affine[:3, :3])) / 1000)
