"""From a whole head or a stripped brain to the standard space, by one transform that inverts.

shrunken copy -> bias field -> place of the brain -> brain extraction -> affine registration of
the extracted brain, twice over. Only the finished transform, mask and field touch the scan itself,
so its voxels are interpolated once.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from data import strip
from data.bias import bias_field, divided
from data.errors import BadInput
from data.foreground import otsu, stripped_background
from data.image import Affine, Image, coarser, points
from data.register import Match, locate, refine
from data.template import load_template
from data.volume import Volume

WORK_MM = 2.0
LEAST_EXTENT_MM = 80.0  # of a field of view along any axis; a brain is 120 mm or more
HEAD_SHARE = 1.5  # a head fills more than this many times its brain
FINAL_MM = 3.0
MARGIN_MM = 4.0  # around the template's brain, where the registration looks as well
# Limits of a registration that holds, to be sharpened by more heads: those looked at (AOMIC, IXI, a
# Philips MPRAGE, pydeface's mean head) had overlaps of 0.95 to 0.96, similarities of 0.84 to 0.88.
LEAST_OVERLAP = 0.86
LEAST_SIMILARITY = 0.60
WARN_OVERLAP, WARN_SIMILARITY = 0.90, 0.70
LEAST_SEEN = 0.85  # share of the template's brain in the field of view
WARN_SEEN = 0.985
SCALES = (0.7, 1.4)  # of a person's brain against the template, along any axis
MEND = "give a whole T1-weighted head or brain, with its right orientation"


@dataclass(frozen=True, eq=False)
class Registration:
    """How a scan lies in the standard space.

    Parameters
    ----------
    to_mni: float64 [4, 4], scan mm -> MNI152 mm (RAS+).
    mask: bool [X, Y, Z], the brain on the scan's voxels.
    field: the bias field, on a coarse grid over the scan.
    overlap: Dice of the brain with the template's.
    similarity: correlation of the brain with the template.
    seen: share of the template's brain that lies in the field of view.
    stripped: whether the scan came without its skull.
    """

    to_mni: Affine
    mask: NDArray[np.bool_]
    field: Image
    overlap: float
    similarity: float
    seen: float
    stripped: bool

    @property
    def warnings(self) -> tuple[str, ...]:
        """What was odd, one sentence each."""
        said = []
        if self.overlap < WARN_OVERLAP or self.similarity < WARN_SIMILARITY:
            said.append(
                f"The registration to the template is poor (overlap {self.overlap:.2f}, "
                f"similarity {self.similarity:.2f}): look at its picture."
            )
        if self.seen < WARN_SEEN:
            said.append(f"{1 - self.seen:.0%} of the brain lies outside the scan's field of view.")
        return tuple(said)


def register(volume: Volume) -> Registration:
    """Register a scan to the template; raises BadInput where that fails."""
    path = volume.native.path
    extent = min(size * step for size, step in zip(volume.array.shape, volume.spacing, strict=True))
    if extent < LEAST_EXTENT_MM:
        raise BadInput(path, f"is a slab of {extent:.0f} mm: the brain is cut off", MEND)
    work = coarser(Image(volume.array, volume.affine), WORK_MM)
    background = stripped_background(volume.array)
    if background is not None:
        shown = coarser(
            Image((volume.array != background).astype(np.float32), volume.affine), WORK_MM
        )
        head = shown.array > 0.5
        # Whatever value the background has, it is dark here.
        dark = float(np.percentile(work.array[head], 0.5)) if head.any() else 0.0
        even = np.where(head, np.maximum(work.array - min(dark, 0.0), 0), 0)
        work = Image(even.astype(np.float32), work.affine)
    else:
        work = Image(work.array - min(float(work.array.min()), 0.0), work.affine)
        head = work.array > otsu(work.array)
    if np.count_nonzero(head) < 1000:
        raise BadInput(path, "shows no brain", MEND)
    field = bias_field(work, head)
    image = divided(work, field)
    match = locate(image)
    inside = np.zeros(image.array.shape, bool)
    for _ in range(2):
        inside = strip.brain(image, match.transform)
        if np.count_nonzero(inside) < 1000:
            raise BadInput(path, "no brain was found in it", MEND)
        match = _final(image, inside, match.transform)
    overlap, seen = _overlap(image, inside, match.transform)
    _check(path, match, overlap, seen)
    brain_field = bias_field(image, inside)
    # Dividing by both is dividing by their product; reciprocals keep `divided` the one way.
    first = Image((1 / field.array).astype(np.float32), field.affine)
    both = divided(first, brain_field)
    return Registration(
        to_mni=np.linalg.inv(match.transform).astype(np.float64),
        mask=_onto(Image(inside.astype(np.float32), image.affine), volume) > 0.5,
        field=Image((1 / both.array).astype(np.float32), both.affine),
        overlap=overlap,
        similarity=match.similarity,
        seen=seen,
        # Air that was set to one value does not make a head a brain.
        stripped=background is not None
        and bool(np.count_nonzero(head) < HEAD_SHARE * np.count_nonzero(inside)),
    )


def corrected(volume: Volume, registration: Registration) -> Volume:
    """The scan without its bias field, its affine leading to MNI152 mm; no voxel is moved."""
    even = divided(Image(volume.array, volume.affine), registration.field)
    return Volume(even.array, registration.to_mni @ volume.affine, volume.native, volume.warnings)


def _final(image: Image, inside: NDArray[np.bool_], start: Affine) -> Match:
    """The template's brain against the extracted one, air against air around both."""
    template = load_template()
    near = (template.distance < MARGIN_MM).astype(np.float32)
    values = coarser(Image(template.t1, template.affine), FINAL_MM)
    weights = coarser(Image(near, template.affine), FINAL_MM)
    alone = Image(image.array * inside, image.affine)
    return refine(alone, [start], FINAL_MM, 60, values, weights)[0]


def _overlap(image: Image, inside: NDArray[np.bool_], transform: Affine) -> tuple[float, float]:
    """Dice of the template's brain with the extracted one, and the share of it in view."""
    small = coarser(Image(load_template().brain.astype(np.float32), load_template().affine), 2.0)
    here = small.array.ravel() > 0.5
    places = points(small.array.shape, small.affine)[:, here]
    at = transform[:3, :3] @ places + transform[:3, 3:]
    values = Image(inside.astype(np.float32), image.affine).at(at, outside=np.nan)
    seen = np.isfinite(values)
    both = float((values[seen] > 0.5).sum())
    volume = abs(float(np.linalg.det(transform[:3, :3]))) * np.prod(small.spacing)
    extracted = inside.sum() * np.prod(image.spacing) / volume
    return 2 * both / (float(seen.sum()) + float(extracted)), float(seen.mean())


def _check(path: object, match: Match, overlap: float, seen: float) -> None:
    """Refuse a registration that does not hold."""
    scales = np.linalg.svd(match.transform[:3, :3], compute_uv=False)
    if seen < LEAST_SEEN:
        raise BadInput(
            path, f"only {seen:.0%} of the brain lies in its field of view: it is cut off", MEND
        )
    low, high = SCALES
    odd = scales.min() < low or scales.max() > high or np.linalg.det(match.transform[:3, :3]) <= 0
    if odd or overlap < LEAST_OVERLAP or match.similarity < LEAST_SIMILARITY:
        raise BadInput(
            path,
            f"its registration to the template failed (overlap {overlap:.2f}, similarity "
            f"{match.similarity:.2f}, sizes {scales.min():.2f} to {scales.max():.2f})",
            MEND,
        )


def _onto(image: Image, volume: Volume) -> NDArray[np.float32]:
    """An image on its coarser grid, on the voxels of the scan, linearly."""
    to_image = np.linalg.inv(image.affine) @ volume.affine
    found: NDArray[np.float32] = ndimage.affine_transform(
        image.array,
        np.diag(to_image)[:3],
        to_image[:3, 3],
        volume.array.shape,
        np.float32,
        order=1,
        mode="nearest",
    )
    return found
