"""The affine of a DICOM series, from the positions of its images alone.

ImagePositionPatient and ImageOrientationPatient locate every image (DICOM PS3.3, C.7.6.2.1.1). The
order of files, InstanceNumber, SliceThickness and SpacingBetweenSlices may all be wrong.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from uncus.data.dicom.frame import Frame, OtherKind
from uncus.data.errors import BadInput

REMEDY = "give one 3D T1-weighted series"
SAME_POSITION_MM = 1e-3  # images closer than this along their normal are one slice
# How far a slice may be off the line through all, as a share of their spacing: silently, and with a
# warning. Positions with one decimal are off by 0.087 mm at most, which is always allowed.
SPACING_TOLERANCE, LARGEST_TOLERANCE = 0.05, 0.1
ROUNDING_MM = 0.09
ORIENTATION_TOLERANCE = 5e-3  # largest difference of direction cosines within one orientation
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True)
class Stack:
    """Images sorted by position.

    Parameters
    ----------
    slices: the indices of the frames of each slice, usually one, in order along the normal.
    affine: float64 [4, 4], index (column, row from the bottom, slice) -> mm, RAS+. Rows are
        counted from the bottom, as dcm2niix stores them.
    warnings: one sentence each.
    """

    slices: tuple[tuple[int, ...], ...]
    affine: NDArray[np.float64]
    warnings: tuple[str, ...] = ()


def check_parallel(name: str, frames: Sequence[Frame]) -> None:
    """Raise OtherKind for images of several orientations, or at one position only."""
    directions = np.array([frame.orientation for frame in frames])
    if np.abs(directions - directions[0]).max() > ORIENTATION_TOLERANCE:
        raise OtherKind(name, "mixes orientations, as a localizer does", REMEDY)
    positions = np.array([frame.position for frame in frames])
    if np.ptp(positions, axis=0).max() <= SAME_POSITION_MM:
        raise OtherKind(name, "has images at one position only", "give the whole 3D series")


def stack(name: str, frames: Sequence[Frame]) -> Stack:
    """Sort frames by position and compute the affine.

    Raises
    ------
    BadInput: frames differ in size or orientation, do not form a stack, or a slice is missing.
    """
    check_parallel(name, frames)
    first = frames[0]
    sizes = {(frame.rows, frame.columns) for frame in frames}
    if len(sizes) > 1:
        listed = ", ".join(f"{columns} x {rows}" for rows, columns in sorted(sizes)[:4])
        raise BadInput(name, f"mixes images of different sizes ({listed})", REMEDY)
    spacings = np.array([frame.spacing for frame in frames])
    if np.abs(spacings - spacings[0]).max() > 1e-3 * abs(spacings[0]).max():
        raise BadInput(name, "mixes pixel sizes", REMEDY)
    across, down = unit_vectors(name, np.array(first.orientation))
    normal = np.cross(across, down)
    positions = np.array([frame.position for frame in frames])
    heights = positions @ normal
    order = np.argsort(heights, kind="stable")
    starts = np.flatnonzero(np.diff(heights[order], prepend=-np.inf) > SAME_POSITION_MM)
    slices = [tuple(map(int, group)) for group in np.split(order, starts[1:])]
    if len(slices) < 2:
        raise BadInput(name, "has images at one position only", "give the whole 3D series")
    line = positions[[group[0] for group in slices]]
    step = (line[-1] - line[0]) / (len(line) - 1)
    warnings = check_positions(name, line, normal)
    between_rows, between_columns = first.spacing
    affine = np.eye(4)
    affine[:3, 0] = across * between_columns
    affine[:3, 1] = -down * between_rows
    affine[:3, 2] = step
    affine[:3, 3] = line[0] + down * between_rows * (first.rows - 1)
    return Stack(tuple(slices), LPS_TO_RAS @ affine, warnings)


def unit_vectors(name: str, cosines: NDArray[np.float64]) -> NDArray[np.float64]:
    """The two directions [2, 3] of ImageOrientationPatient as unit vectors."""
    pair = cosines.reshape(2, 3)
    lengths = np.linalg.norm(pair, axis=1)
    if np.abs(lengths - 1).max() > 0.02 or abs(float(pair[0] @ pair[1])) > 0.02:
        raise BadInput(
            name, "its ImageOrientationPatient is not a rotation", "export the series again"
        )
    unit: NDArray[np.float64] = pair / lengths[:, None]
    return unit


def check_positions(
    name: str, line: NDArray[np.float64], normal: NDArray[np.float64]
) -> tuple[str, ...]:
    """Compare the positions [slices, 3] (mm), in order along ``normal``, with an even spacing.

    Every slice is compared with the line through all, not with its neighbours: that doubles the
    error of positions that are rounded in the file.

    Returns
    -------
    a warning if they are a little uneven.

    Raises
    ------
    BadInput: a slice is missing, or far off the line.
    """
    gaps = np.diff(line @ normal)
    usual = float(np.median(gaps))
    wide = np.flatnonzero(gaps > 1.5 * usual)
    if wide.size:
        missing = int(np.rint(gaps[wide] / usual - 1).sum())
        raise BadInput(
            name,
            f"its slices are not evenly spaced ({missing} missing: {usual:.2f} mm apart, but once "
            f"{gaps[wide[0]]:.2f} mm)",
            "copy or export the whole series again",
        )
    index = np.arange(len(line), dtype=float)
    step, start = np.polyfit(index, line, 1)
    off = np.linalg.norm(line - (start + np.outer(index, step)), axis=1).max()
    if off <= SPACING_TOLERANCE * usual:
        return ()
    text = f"its slices are not evenly spaced in a line (up to {off:.2f} mm off, {usual:.2f} apart)"
    if off > max(LARGEST_TOLERANCE * usual, ROUNDING_MM):
        raise BadInput(name, text, "copy or export the whole series again")
    return (f"The positions of the slices are rounded or a little uneven: up to {off:.2f} mm.",)
