"""A scan as it was received, with the outlines of its segmentation: why it was used, or refused."""

import textwrap
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from uncus.data.imageio.volume import Volume
from uncus.data.segmentation.labels import BRAIN, INTRACRANIAL, LABELS
from uncus.data.segmentation.segmentation import Segmentation
from uncus.pipeline.rendering.slices import PLANES, View, draw_plane, widths, world

MARGIN = 15.0  # mm
BRAIN_COLOR = "#f4f4f4"
SHOWN = {"lateral ventricles": (10, 11), "hippocampi": (12, 13), "amygdalae": (14, 15)}
"""Structures outlined besides the brain, with their classes."""
ROWS = ((12, 11), (13, 10))
"""Classes through which the sagittal and coronal planes, and the axial plane, of a row pass."""
LEAST_ML = 300.0
"""Of the space inside the skull; where there is less, the whole scan is shown without outlines."""


def head_picture(
    volume: Volume, segmentation: Segmentation | None = None, title: str = "", note: str = ""
) -> Figure:
    """Three planes through the middle of the scan or, if it is segmented, two rows of them.

    The first row passes through the left hippocampus and the right lateral ventricle, the second
    through the right hippocampus and the left ventricle.
    """
    outlines = {}
    view = View(volume.array, volume.affine)
    inside = segmentation.mask(INTRACRANIAL) if segmentation is not None else None
    voxel = abs(float(np.linalg.det(volume.affine[:3, :3]))) / 1000
    if segmentation is None or inside is None or np.count_nonzero(inside) * voxel < LEAST_ML:
        segmentation, view = None, view.framed()
    else:  # the space inside the skull and what is around it, fat no brighter than the brain
        outlines = {BRAIN_COLOR: segmentation.mask(BRAIN)}
        outlines |= {LABELS[own[0]].color: segmentation.mask(own) for own in SHOWN.values()}
        white = np.percentile(volume.array[inside], 99.5)
        view = replace(view, outlines=outlines).cropped(inside, MARGIN)
        view = replace(view, volume=np.minimum(view.volume, white))
    views = [view if at is None else replace(view, at=at) for at in _points(segmentation)]
    lines = textwrap.wrap(title, 110)
    figure = Figure(
        figsize=(10, 3.6 * len(views) + 0.22 * len(lines) + 0.45),
        facecolor="black",
        layout="constrained",
    )
    grid = {"width_ratios": widths(views[0])}
    panels = figure.subplots(len(views), 3, squeeze=False, gridspec_kw=grid)
    for row, view in zip(panels, views, strict=True):
        for axes, (_, axis) in zip(row, PLANES, strict=True):
            draw_plane(axes, view, axis)
    if lines:
        figure.suptitle("\n".join(lines), color="white", fontsize=10, parse_math=False)
    if outlines:
        names = ("brain", *SHOWN)
        key = [
            Line2D([], [], color=color, label=name)
            for color, name in zip(outlines, names, strict=True)
        ]
        figure.legend(
            handles=key,
            loc="outside lower center",
            ncols=len(key),
            frameon=False,
            fontsize=8,
            labelcolor="white",
        )
    if note:
        figure.text(0.995, 0.008, note, color="0.75", fontsize=7, ha="right")
    return figure


def _points(segmentation: Segmentation | None) -> list[Sequence[float] | None]:
    """The points (mm) that the planes of each row pass through; [None] for the scan's middle."""
    if segmentation is None:
        return [None]
    points: list[Sequence[float] | None] = []
    for hippocampus, ventricle in ROWS:
        inside = [np.argwhere(segmentation.labels == k) for k in (hippocampus, ventricle)]
        if not all(map(len, inside)):
            return [None]
        (x, y, _), (_, _, z) = (np.rint(voxels.mean(0)).astype(int) for voxels in inside)
        points.append(world(segmentation.affine, (int(x), int(y), int(z))))
    return points
