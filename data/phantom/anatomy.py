"""The phantom's anatomy: ICBM152 tissue maps, structures segmented in them, and their motions.

The T1 and the gray and white matter maps are the symmetric ICBM152 2009a ones that nilearn ships
(Fonov et al., NeuroImage 54, 2011), so nothing is downloaded. Frame: MNI152, RAS+, mm.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch.nn import functional

Floats = NDArray[np.float32]
Flags = NDArray[np.bool_]

# Axis of the right hippocampus, anterior to posterior (MNI152, mm); the template is symmetric.
HIPPOCAMPAL_AXIS = ((23.0, -11.0, -20.0), (28.0, -20.0, -15.0), (29.0, -29.0, -9.0), (24, -38, -1))
HIPPOCAMPAL_RADIUS = 7.5
# Extent of a structure's motion into its surroundings (mm): sigma of `edge_field`.
REACH = {"hippocampus": 3.5, "ventricles": 6.0, "cortex": 2.0}
FIELD_SPACING = 2.0


@dataclass(frozen=True)
class Field:
    """Values on a regular lattice, interpolated linearly.

    Parameters
    ----------
    values: float32 [C, X, Y, Z]
    origin: position of voxel (0, 0, 0), mm [3]
    spacing: mm
    """

    values: Floats
    origin: NDArray[np.float64]
    spacing: float

    def at(self, points: Floats) -> Floats:
        """Values at `points` [3, N] (mm): float32 [C, N], 0 outside the lattice."""
        size = np.array(self.values.shape[1:], dtype=np.float64)
        # grid_sample's coordinates range from -1 (first voxel) to 1 (last), in the order z, y, x.
        scale = 2 / (self.spacing * (size - 1))
        unit = points * scale[:, None].astype(np.float32)
        unit -= (self.origin * scale + 1)[:, None].astype(np.float32)
        grid = torch.from_numpy(np.ascontiguousarray(unit[::-1].T))[None, None, None]
        sampled = functional.grid_sample(
            torch.from_numpy(self.values)[None], grid, align_corners=True
        )
        values: Floats = sampled[0, :, 0, 0].numpy()
        return values


@dataclass(frozen=True, eq=False)
class Anatomy:
    """The template, its structures and their motions.

    Parameters
    ----------
    tissue: Field of four maps, smoothed to the image's resolution: gray matter, white matter,
        brain (probabilities), texture (T1 minus its tissues' mean intensities; white matter is 1)
    structures: Field of two probabilities: hippocampi, ventricles
    motion: name -> Field [3], mm per unit, from a point to its tissue's earlier position;
        positive amounts shrink hippocampi and cortex and widen ventricles
    """

    tissue: Field
    structures: Field
    motion: dict[str, Field]


def load_template() -> tuple[Floats, Floats, Floats, NDArray[np.float64]]:
    """Load T1 (white matter 1), gray and white matter [X, Y, Z] at 1 mm, cropped; and affine."""
    from nilearn import datasets

    t1 = datasets.load_mni152_template(resolution=1)
    gray = datasets.load_mni152_gm_template(resolution=1)
    white = datasets.load_mni152_wm_template(resolution=1)
    arrays = [np.asarray(image.dataobj, dtype=np.float32) for image in (t1, gray, white)]
    box = ndimage.find_objects((arrays[0] > 0).astype(np.int8))[0]
    box = tuple(slice(max(s.start - 6, 0), s.stop + 6) for s in box)
    t1_box, gray_box, white_box = (a[box] for a in arrays)
    affine = t1.affine.astype(np.float64)
    affine[:3, 3] += [s.start for s in box]
    return t1_box / t1_box[white_box > 0.9].mean(), gray_box, white_box, affine


def axes(shape: Sequence[int], affine: NDArray[np.float64]) -> list[Floats]:
    """World coordinates (mm) of the voxels along x, y and z, shaped to broadcast to `shape`."""
    return [
        (affine[i, 3] + affine[i, i] * np.arange(n, dtype=np.float32)).reshape(
            [-1 if j == i else 1 for j in range(3)]
        )
        for i, n in enumerate(shape)
    ]


def find_hippocampi(gray: Floats, affine: NDArray[np.float64]) -> Flags:
    """Gray matter around the hippocampal axes, one connected part per side [X, Y, Z]."""
    x, _, _ = axes(gray.shape, affine)
    near = distance_to_axis(gray.shape, affine) < HIPPOCAMPAL_RADIUS
    # Opening separates the hippocampus from the parahippocampal gyrus inferior to it.
    candidates = ndimage.binary_opening(
        near & (gray > 0.5), ndimage.generate_binary_structure(3, 1)
    )
    labels, _ = ndimage.label(candidates)
    hippocampi = np.zeros_like(near)
    for side in (x < 0, x > 0):
        sizes = np.bincount(labels[candidates & side])
        hippocampi |= labels == int(sizes.argmax())
    return hippocampi


def distance_to_axis(shape: Sequence[int], affine: NDArray[np.float64]) -> Floats:
    """Distance (mm) of voxels from the nearer hippocampal axis [X, Y, Z]; inf far from both."""
    line = np.asarray(HIPPOCAMPAL_AXIS, dtype=np.float32)
    distance = np.full(shape, np.inf, dtype=np.float32)
    for side in (-1, 1):
        ends = line * np.array([side, 1, 1], dtype=np.float32)
        grid = axes(shape, affine)
        box = tuple(
            slice(*np.searchsorted(c.ravel(), (ends[:, i].min() - 12, ends[:, i].max() + 12)))
            for i, c in enumerate(grid)
        )
        near = np.stack(
            np.meshgrid(*(c.ravel()[s] for c, s in zip(grid, box, strict=True)), indexing="ij"),
            axis=-1,
        )
        for start, end in pairwise(ends):
            along = end - start
            share = np.clip((near - start) @ along / (along @ along), 0, 1)
            gap = np.linalg.norm(near - start - share[..., None] * along, axis=-1)
            distance[box] = np.minimum(distance[box], gap)
    return distance


def find_ventricles(
    gray: Floats, white: Floats, brain: Flags, affine: NDArray[np.float64]
) -> Flags:
    """Lateral and third ventricles with the temporal horns [X, Y, Z].

    Fluid is brain that is neither gray nor white matter. The bodies are the connected part of it
    that contains the frontal horns; the thin temporal horns are the fluid next to the hippocampi.
    """
    x, y, z = axes(gray.shape, affine)
    tissue = gray + white
    box = (np.abs(x) < 40) & (y > -58) & (y < 36) & (z > -12) & (z < 32)
    labels, _ = ndimage.label(brain & (tissue < 0.5) & box)
    frontal = (np.abs(x) < 16) & (y > 0) & (y < 25) & (z > 0) & (z < 20)
    counts = np.bincount(labels[frontal & (labels > 0)])
    temporal = (distance_to_axis(gray.shape, affine) < 10) & (np.abs(x) > 20) & (z < 2)
    bodies: Flags = labels == int(counts.argmax())
    return bodies | (brain & (tissue < 0.65) & temporal)


def edge_field(structure: Floats, sigma: float, spacing: float) -> Floats:
    """Unit displacement across a structure's edge [3, X, Y, Z], along its outward normals.

    It is minus the gradient of the smoothed structure, scaled to 1 at a flat edge: 0 on the
    structure's axis, and decaying as a Gaussian of `sigma` mm away from the edge.
    """
    smooth = ndimage.gaussian_filter(structure, sigma / spacing)
    return np.stack(
        [-np.gradient(smooth, spacing, axis=i) for i in range(3)], dtype=np.float32
    ) * np.float32(sigma * np.sqrt(2 * np.pi))


def temporal_weight(shape: Sequence[int], affine: NDArray[np.float64]) -> Floats:
    """Weight of cortical thinning by disease [X, Y, Z], 0 to 1: medial and inferior temporal lobe.

    These are the first and most affected regions of the cortical signature of Alzheimer's disease
    (Dickerson et al., Cerebral Cortex 19, 2009).
    """
    x, y, z = axes(shape, affine)
    squared = ((np.abs(x) - 32) / 16) ** 2 + ((y + 18) / 26) ** 2 + ((z + 26) / 13) ** 2
    return np.exp(-0.5 * np.maximum(squared - 0.5, 0)).astype(np.float32)


@lru_cache(maxsize=2)
def load_anatomy(spacing: float) -> Anatomy:
    """Load the anatomy, its maps smoothed for images of `spacing` mm (cached; some seconds)."""
    t1, gray, white, affine = load_template()
    origin = affine[:3, 3].astype(np.float64)
    brain = t1 > 0
    inside = brain.astype(np.float32)
    fluid = np.clip(inside - gray - white, 0, 1)
    # Texture is what a mixture of three constant tissues leaves: iron-rich nuclei, thin sulci.
    signal = [float(t1[tissue > 0.9].mean()) for tissue in (gray, white, fluid)]
    texture = (t1 - signal[0] * gray - signal[1] * white - signal[2] * fluid) * inside
    hippocampi = find_hippocampi(gray, affine).astype(np.float32)
    ventricles = find_ventricles(gray, white, brain, affine).astype(np.float32)

    # Standard deviation of a Gaussian whose full width at half maximum is the output voxel.
    sigma = max(spacing**2 - 1, 0) ** 0.5 / 2.355

    def resolved(*maps: Floats) -> Field:
        stack = np.stack([ndimage.gaussian_filter(m, sigma) if sigma else m for m in maps])
        return Field(stack, origin, 1.0)

    step = int(FIELD_SPACING)
    half_affine = affine @ np.diag([step, step, step, 1])

    def coarse(values: Floats) -> Floats:
        return np.ascontiguousarray(ndimage.gaussian_filter(values, 0.7)[::step, ::step, ::step])

    tissue = coarse(np.clip(gray + white, 0, 1))
    cortex = edge_field(tissue, REACH["cortex"], FIELD_SPACING)
    fields = {
        "hippocampus": edge_field(coarse(hippocampi), REACH["hippocampus"], FIELD_SPACING),
        "ventricles": -edge_field(coarse(ventricles), REACH["ventricles"], FIELD_SPACING),
        "temporal": cortex * temporal_weight(tissue.shape, half_affine),
        "cortex": cortex,
    }
    return Anatomy(
        resolved(gray, white, inside, texture),
        resolved(hippocampi, ventricles),
        {name: Field(field, origin, FIELD_SPACING) for name, field in fields.items()},
    )
