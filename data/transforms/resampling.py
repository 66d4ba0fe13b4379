"""Resample a scan to the grid of the networks, and maps on that grid back to the scan."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from monai.data.meta_tensor import MetaTensor
from numpy.typing import NDArray

from uncus.data.errors import BadInput
from uncus.data.geometry import resample
from uncus.data.geometry.grid import Grid
from uncus.data.transforms.dictionary import Invertible, InvertibleDictionaryTransform
from uncus.data.transforms.scan_tensor import (
    added_warnings,
    affine_of,
    to_volume,
    voxels,
    with_voxels,
)


class ToGrid(Invertible):
    """Resample to a grid by one linear interpolation, smoothed first along axes that coarsen.

    With a ``mask`` in ``meta``, only voxels inside count, and the result is 0 outside. MONAI's
    Spacing, ResampleToMatch and Resize neither smooth along the scan's own axes nor keep the
    background out of the voxels at the brain's edge.

    The inverse interpolates a map on the grid linearly at the voxels before, 0 outside the grid.

    Adds to ``meta``: ``mask`` on the grid; ``in_field_of_view``, bool [1, X, Y, Z], grid voxels
    whose centers lie in the scan's field of view.

    Parameters
    ----------
    grid: a Grid, or the dictionary that describes one.

    Raises
    ------
    BadInput: the mask does not overlap the grid.
    """

    def __init__(self, grid: Grid | Mapping[str, Any]) -> None:
        self.grid = grid if isinstance(grid, Grid) else Grid.from_dict(grid)

    def parameters(self) -> dict[str, Any]:
        """The parameters for JSON."""
        return {"grid": self.grid.as_dict()}

    def __call__(self, image: MetaTensor) -> MetaTensor:
        """``image`` [1, X, Y, Z] on the grid."""
        volume, registered = to_volume(image), "registration" in image.meta
        has_mask = "mask" in image.meta
        mask = image.meta["mask"][0].numpy() if has_mask else np.ones(volume.array.shape, bool)
        array, inside = resample.masked(volume, mask, self.grid)
        warnings: tuple[str, ...] = ()
        if np.count_nonzero(inside) < 2:
            raise BadInput(
                volume.native.path,
                "its brain lies outside the grid after registration"
                if registered
                else "its brain lies outside the field of view of the common grid",
                "prepare the cohort again with --space mni"
                if registered
                else "check its affine, and that it is in the same space as the other scans",
            )
        if has_mask and not registered:
            before, after = millilitres(mask, volume.affine), millilitres(inside, self.grid.affine)
            lost = 1 - min(1.0, after / before)
            if lost > 0.1:
                warnings = (f"{lost:.0%} of the brain or head lies outside the common grid.",)
        view = resample.field_of_view(volume, self.grid)
        added: dict[str, object] = {"mask": torch.from_numpy(inside)[None]} if has_mask else {}
        result = with_voxels(
            image,
            array,
            self.grid.affine,
            in_field_of_view=torch.from_numpy(view)[None],
            warnings=added_warnings(image, warnings),
            **added,
        )
        return self.record(result, affine=affine_of(image), shape=volume.array.shape)

    def inverse(self, image: MetaTensor) -> MetaTensor:
        """A map ``image`` [1, X, Y, Z] on the grid, at the voxels of the image before."""
        result = with_voxels(image, voxels(image), affine_of(image))
        before = self.undo(result)
        if voxels(image).shape != self.grid.shape:
            raise ValueError(f"map of shape {voxels(image).shape} on a grid of {self.grid.shape}")
        array = resample.onto_voxels(voxels(image), self.grid, before["shape"], before["affine"])
        return with_voxels(result, array, before["affine"])


class ToGridd(InvertibleDictionaryTransform):
    """The dictionary form of :class:`ToGrid`."""

    form = ToGrid


def millilitres(mask: NDArray[np.bool_], affine: NDArray[np.float64]) -> float:
    """The volume of a mask [X, Y, Z]."""
    return float(np.count_nonzero(mask) * abs(np.linalg.det(affine[:3, :3])) / 1000)
