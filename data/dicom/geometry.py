"""Where the voxels of a DICOM series lie: from its images' positions alone, never their order.

ImagePositionPatient and ImageOrientationPatient place every image (DICOM PS3.3, C.7.6.2.1.1). The
order of files, InstanceNumber, SliceThickness and SpacingBetweenSlices may all be wrong.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from uncus.data.dicom.frame import Frame
from uncus.data.errors import BadInput

ONE_ORIENTATION = "give one 3D T1-weighted series"
SAME_MM = 1e-3  # images closer than this along their normal are at one place
UNEVEN = 0.05  # of the slice spacing
TURNED = 5e-3  # direction cosines that differ more are another orientation
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True)
class Stack:
    """Images in the order of space.

    Parameters
    ----------
    places: the frames at each place along the stack's normal, by their number; usually one each.
    affine: float64 [4, 4], index (column, row from the bottom, place) -> mm, RAS+. Rows are
        counted from the bottom as dcm2niix stores them.
    """

    places: tuple[tuple[int, ...], ...]
    affine: NDArray[np.float64]


def stack(name: str, frames: Sequence[Frame]) -> Stack:
    """Put frames in order and work out the affine.

    Raises
    ------
    BadInput: they differ in size or orientation, a slice is missing, or they are no stack.
    """
    one = frames[0]
    sizes = {(frame.rows, frame.columns) for frame in frames}
    if len(sizes) > 1:
        listed = ", ".join(f"{columns} x {rows}" for rows, columns in sorted(sizes)[:4])
        raise BadInput(name, f"mixes images of different sizes ({listed})", ONE_ORIENTATION)
    directions = np.array([frame.orientation for frame in frames])
    if np.abs(directions - directions[0]).max() > TURNED:
        raise BadInput(name, "mixes orientations, as a localizer does", ONE_ORIENTATION)
    spacings = np.array([frame.spacing for frame in frames])
    if np.abs(spacings - spacings[0]).max() > 1e-3 * abs(spacings[0]).max():
        raise BadInput(name, "mixes pixel sizes", ONE_ORIENTATION)
    across, down = unit_vectors(name, directions[0])
    normal = np.cross(across, down)
    positions = np.array([frame.position for frame in frames])
    heights = positions @ normal
    order = np.argsort(heights, kind="stable")
    starts = np.flatnonzero(np.diff(heights[order], prepend=-np.inf) > SAME_MM)
    places = [tuple(map(int, group)) for group in np.split(order, starts[1:])]
    if len(places) < 2:
        raise BadInput(name, "has images at one place only", "give the whole 3D series")
    line = positions[[group[0] for group in places]]
    step = (line[-1] - line[0]) / (len(line) - 1)
    even(name, line @ normal)
    sideways = line - (line[0] + np.outer(np.arange(len(line)), step))
    if np.abs(sideways).max() > max(UNEVEN * float(np.linalg.norm(step)), 0.05):
        raise BadInput(name, "its images do not lie on one line", "export the series again")
    between_rows, between_columns = one.spacing
    affine = np.eye(4)
    affine[:3, 0] = across * between_columns
    affine[:3, 1] = -down * between_rows
    affine[:3, 2] = step
    affine[:3, 3] = line[0] + down * between_rows * (one.rows - 1)
    return Stack(tuple(places), LPS_TO_RAS @ affine)


def unit_vectors(name: str, cosines: NDArray[np.float64]) -> NDArray[np.float64]:
    """The two directions [2, 3] of ImageOrientationPatient, made unit vectors."""
    pair = cosines.reshape(2, 3)
    lengths = np.linalg.norm(pair, axis=1)
    if np.abs(lengths - 1).max() > 0.02 or abs(float(pair[0] @ pair[1])) > 0.02:
        raise BadInput(
            name, "has an ImageOrientationPatient that is no rotation", "export the series again"
        )
    unit: NDArray[np.float64] = pair / lengths[:, None]
    return unit


def even(name: str, heights: NDArray[np.float64]) -> None:
    """Refuse gaps: slices are missing where one is a multiple of the others."""
    gaps = np.diff(heights)
    usual = float(np.median(gaps))
    odd = np.flatnonzero(np.abs(gaps - usual) > UNEVEN * usual)
    if not odd.size:
        return
    missing = int(np.rint(gaps[odd] / usual - 1).clip(0).sum())
    what = f"{missing} missing" if missing else "uneven steps"
    raise BadInput(
        name,
        f"its slices are not evenly spaced ({what}: {usual:.2f} mm apart, but once "
        f"{gaps[odd[0]]:.2f} mm)",
        "copy or export the whole series again",
    )
