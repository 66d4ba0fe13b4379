"""Figures of volumes: three planes through a point, and montages. No window, no global state.

Every array is RAS+ [X, Y, Z]. Slices are in radiological convention (the subject's left is on the
right of the figure, as seen from the feet), with the letters L and R.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from uncus.data import files

Array = NDArray[Any]
PLANES = (("sagittal", 0), ("coronal", 1), ("axial", 2))
# A heat map is transparent below this share of its maximum.
FAINT = 0.15
OUTLINE = "#37e0ff"
# From weak to strong, what speaks for and against; app/viewer/viewer.js has the same.
FOR, AGAINST = ("#961414", "#f06e14", "#ffe65a"), ("#1e3caa", "#3c8cf0", "#96e6ff")
HEAT = LinearSegmentedColormap.from_list("for", FOR)
SIGNED_HEAT = LinearSegmentedColormap.from_list(
    "against and for", [*AGAINST[::-1], "#808080", *FOR]
)


@dataclass(frozen=True)
class View:
    """One volume to draw.

    Parameters
    ----------
    volume: [X, Y, Z] RAS+
    affine: [4, 4] voxel -> mm
    overlay: same shape, a heat map; with negative values it has a diverging color map
    outlines: color -> mask of the same shape, drawn as a contour
    at: the point (mm) that the three planes pass through; by default the center of the heat map or
        of the brain
    title: the figure's title
    """

    volume: Array
    affine: Array
    overlay: Array | None = None
    outlines: Mapping[str, Array] = field(default_factory=dict)
    at: Sequence[float] | None = None
    title: str = ""

    def __post_init__(self) -> None:
        outlines = [("outline", mask) for mask in self.outlines.values()]
        for name, other in [("overlay", self.overlay), *outlines]:
            if other is not None and other.shape != self.volume.shape:
                raise ValueError(
                    f"{name} has shape {other.shape}, the volume {self.volume.shape}; "
                    "both must be on the same grid"
                )

    def framed(self, margin: float = 4.0) -> "View":
        """The view cropped to the foreground, with `margin` mm around it."""
        return self.cropped(self.volume != self.volume.flat[0], margin)

    def cropped(self, mask: Array, margin: float) -> "View":
        """The view cropped to a mask, with `margin` mm around it; itself if the mask is empty."""
        boxes = ndimage.find_objects(mask.astype(np.int8))
        if not boxes:
            return self
        rim = np.ceil(margin / spacings(self.affine)).astype(int)
        box = tuple(
            slice(max(0, int(s.start - r)), int(s.stop + r))
            for s, r in zip(boxes[0], rim, strict=True)
        )
        affine = np.array(self.affine, dtype=float)
        affine[:3, 3] += affine[:3, :3] @ [s.start for s in box]
        overlay = None if self.overlay is None else self.overlay[box]
        outlines = {color: mask[box] for color, mask in self.outlines.items()}
        cut = View(self.volume[box], affine, overlay, outlines, self.at, self.title)
        return replace(cut, at=world(affine, cut.voxel()))

    @cached_property
    def window(self) -> tuple[float, float]:
        """The values shown as black and as white."""
        background = float(self.volume.flat[0])
        step = 1 + (self.volume.size > 1 << 22)  # percentiles of every second voxel are as good
        some = self.volume[::step, ::step, ::step]
        brain = some[some != background]
        low, high = np.percentile(brain, (0.5, 99.5)) if brain.size else (0.0, 1.0)
        return min(float(low), background), float(high)

    def voxel(self) -> tuple[int, int, int]:
        """The voxel that the three planes pass through."""
        if self.at is not None:
            index = np.linalg.solve(self.affine, [*self.at, 1.0])[:3]
        elif self.overlay is not None and np.any(self.overlay):
            # The center of a cluster rather than a single voxel.
            smooth = ndimage.gaussian_filter(np.abs(self.overlay).astype(np.float32), 1.5)
            index = np.array(np.unravel_index(int(smooth.argmax()), smooth.shape))
        elif np.any(self.volume != self.volume.flat[0]):
            index = np.array(ndimage.center_of_mass(self.volume != self.volume.flat[0]))
        else:
            index = (np.array(self.volume.shape) - 1) / 2
        i, j, k = np.clip(np.rint(index), 0, np.array(self.volume.shape) - 1).astype(int)
        return int(i), int(j), int(k)


def three_planes(
    volume: Array,
    affine: Array,
    overlay: Array | None = None,
    *,
    outline: Array | None = None,
    at: Sequence[float] | None = None,
    title: str = "",
    label: str = "",
    note: str = "",
) -> Figure:
    """Sagittal, coronal and axial slice through one point; `label` is that of the heat map's scale.

    `outline` is a mask, `note` small print below the figure. Arguments as in `View`.
    """
    outlines = {} if outline is None else {OUTLINE: outline}
    view = View(volume, affine, overlay, outlines, at, title).framed()
    figure = Figure(figsize=(10, 4.1), facecolor="black", layout="constrained")
    panels = figure.subplots(1, 3, gridspec_kw={"width_ratios": widths(view)})
    heat = None
    for axes, (_, axis) in zip(panels, PLANES, strict=True):
        heat = draw_plane(axes, view, axis) or heat
    if title:
        figure.suptitle(title, color="white", fontsize=11, parse_math=False)
    if heat is not None:
        bar = figure.colorbar(heat, ax=panels, fraction=0.02, pad=0.01)
        bar.ax.tick_params(colors="white", labelsize=7)
        bar.set_label(label, color="white", fontsize=8)
    if note:
        figure.supxlabel(note, color="0.75", fontsize=8)
    return figure


def montage(views: Sequence[View], columns: int = 2, note: str = "") -> Figure:
    """Three planes of each view, `columns` views in a row."""
    rows = -(-len(views) // columns)
    figure = Figure(figsize=(5.2 * columns, 1.95 * rows), facecolor="black", layout="constrained")
    cells = figure.subfigures(rows, columns, squeeze=False, facecolor="black")
    for cell, view in zip(cells.flat, (view.framed() for view in views), strict=False):
        panels = cell.subplots(1, 3, gridspec_kw={"width_ratios": widths(view)})
        for axes, (_, axis) in zip(panels, PLANES, strict=True):
            draw_plane(axes, view, axis)
        cell.suptitle(view.title, color="white", fontsize=9, parse_math=False)
    if note:
        figure.supxlabel(note, color="0.75", fontsize=8)
    return figure


def save_png(figure: Figure, path: Path, dpi: float = 100, colours: int = 200) -> None:
    """Write a figure as PNG with a reduced palette, a third of the size.

    `colours=0` keeps all colors, for heat maps.
    """
    canvas: Any = FigureCanvasAgg(figure)
    figure.set_dpi(dpi)
    canvas.draw()
    image = Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3])
    small = image.quantize(colours, dither=Image.Dither.NONE) if colours else image
    files.write_atomically(
        path, lambda temporary: small.save(temporary, format="png", optimize=True)
    )


def spacings(affine: Array) -> Array:
    """Voxel size (mm) [3]."""
    edges: Array = np.linalg.norm(np.asarray(affine, dtype=float)[:3, :3], axis=0)
    return edges


def world(affine: Array, voxel: Sequence[int]) -> list[float]:
    """Position (mm) of a voxel."""
    point = np.asarray(affine, dtype=float) @ [*voxel, 1.0]
    return [float(c) for c in point[:3]]


def widths(view: View) -> list[float]:
    """Relative widths of the three planes, so that all have the same scale."""
    extent = spacings(view.affine) * view.volume.shape
    return [float(extent[1]), float(extent[0]), float(extent[0])]


def draw_plane(axes: Any, view: View, axis: int) -> Any:
    """Draw the slice across `axis` on matplotlib axes; the heat map's artist, or None."""
    index = view.voxel()[axis]
    across, up = (spacing for i, spacing in enumerate(spacings(view.affine)) if i != axis)

    def cut(array: Array) -> Array:
        plane: Array = np.take(array, index, axis=axis).T
        return plane if axis == 0 else plane[:, ::-1]  # left on the right

    shown: dict[str, Any] = {"origin": "lower", "aspect": up / across}
    low, high = view.window
    axes.imshow(
        cut(view.volume), cmap="gray", vmin=low, vmax=high, interpolation="bilinear", **shown
    )
    heat = None
    if view.overlay is not None:
        heat = draw_heat(axes, view.overlay, cut(view.overlay), shown)
    for color, mask in view.outlines.items():
        if cut(mask).any():
            axes.contour(cut(mask).astype(float), [0.5], colors=color, linewidths=0.9)
    for x, letter in ((0.02, "R"), (0.98, "L")) if axis else ((0.02, "P"), (0.98, "A")):
        axes.text(
            x,
            0.02,
            letter,
            color="white",
            fontsize=8,
            transform=axes.transAxes,
            ha="left" if x < 0.5 else "right",
            va="bottom",
        )
    axes.set_axis_off()
    return heat


def draw_heat(axes: Any, overlay: Array, plane: Array, shown: dict[str, Any]) -> Any:
    """A heat map, transparent where it is weak, on one scale for the whole volume."""
    strength = np.abs(overlay[np.isfinite(overlay)])
    top = float(np.percentile(strength[strength > 0], 99.9)) if strength.any() else 1.0
    signed = bool((overlay < 0).any())
    weight = np.clip(np.abs(plane) / top, 0, 1)
    alpha = np.clip((weight - FAINT) / (0.6 - FAINT), 0, 1) * 0.75
    return axes.imshow(
        plane,
        cmap=SIGNED_HEAT if signed else HEAT,
        vmin=-top if signed else 0,
        vmax=top,
        alpha=alpha,
        interpolation="nearest",
        **shown,
    )
