"""From a whole head or a stripped brain to the standard space, by one transform that inverts.

shrunken copy -> bias field -> place of the brain -> brain extraction -> affine registration of
the extracted brain, twice over. Only the finished transform, mask and field touch the scan itself,
so its voxels are interpolated once.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from threadpoolctl import threadpool_limits

from uncus.data.errors import BadInput
from uncus.data.geometry.foreground import otsu, stripped_background
from uncus.data.geometry.image import Affine, Image, coarser, points
from uncus.data.imageio.volume import Volume
from uncus.data.mni import brain_extraction
from uncus.data.mni.affine import Match, locate, refine
from uncus.data.mni.bias_field import bias_field, divided
from uncus.data.mni.template import load_template
from uncus.data.mni.tissue_contrast import Tissue, tissue

WORK_MM = 2.0
LEAST_EXTENT_MM = 80.0  # of a field of view along any axis; a brain is 120 mm or more
HEAD_SHARE = 1.5  # a head fills more than this many times its brain
FINAL_MM = 3.0
MARGIN_MM = 4.0  # around the template's brain, where the registration looks as well
# Limits of a registration that holds, and of one that wants no look. Overlap, similarity, likeness:
# AOMIC 0.96, 0.85, 0.58; IXI 0.97, 0.87, 0.44; a Philips MPRAGE 0.97, 0.88, 0.52. AOMIC made older
# (ventricles 4 times as large, all folds wider): 0.93, 0.76, 0.39; every one of these where the
# template overlaps the brain by a Dice of 0.92 or less has a similarity of at most 0.801. A bottle
# that shines unevenly: 0.92, 0.70, 0.09. AOMIC laid over the template back to front: 0.94, 0.75,
# 0.26.
LEAST_OVERLAP, WARN_OVERLAP = 0.86, 0.92
LEAST_SIMILARITY, WARN_SIMILARITY = 0.60, 0.81
LEAST_LIKENESS, WARN_LIKENESS = 0.30, 0.40
# White over grey matter, less one: AOMIC 0.58, Philips 0.32, IXI 0.18; 49 of OASIS-1, by their
# place alone, 0.42 to 0.96; AOMIC given the look of a FLAIR -0.02.
LEAST_CONTRAST, WARN_CONTRAST = 0.02, 0.08
WARN_TURNED = 60.0  # degrees
LEAST_BRAIN = 1000  # voxels of the working grid
LEAST_SEEN = 0.85  # share of the template's brain in the field of view
WARN_SEEN = 0.985
# Of a person's brain against the template, along any axis. The template is large: IXI's smallest is
# 0.80, AOMIC's 0.83, an older and smaller copy's of that 0.69; a macaque's about 0.5.
SCALES = (0.6, 1.4)
STRETCH = 1.6  # of one direction against another: IXI 1.25, AOMIC 1.15, a thigh 3.8
MEND = "give a whole T1-weighted head or brain, with its right orientation"


def wants_look(overlap: float, similarity: float, likeness: float | None) -> bool:
    """Whether a registration that holds is poor all the same; ``likeness`` where it was read."""
    poor = overlap < WARN_OVERLAP or similarity < WARN_SIMILARITY
    return poor or (likeness is not None and likeness < WARN_LIKENESS)


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
    likeness: correlation with the template's T1 deep inside its brain, see
        uncus.data.mni.tissue_contrast.
    contrast: white over grey matter, less one. Both are None where nothing was registered.
    turned: degrees between the head and its header's axes.
    """

    to_mni: Affine
    mask: NDArray[np.bool_]
    field: Image
    overlap: float
    similarity: float
    seen: float
    stripped: bool
    likeness: float | None = None
    contrast: float | None = None
    turned: float = 0.0

    @property
    def warnings(self) -> tuple[str, ...]:
        """What was odd, one sentence each."""
        said = []
        if wants_look(self.overlap, self.similarity, self.likeness):
            said.append(
                f"The registration to the template is poor (overlap {self.overlap:.2f}, similarity "
                f"{self.similarity:.2f}, likeness {self.likeness or 0:.2f}): look at its picture."
            )
        if self.seen < WARN_SEEN:
            said.append(f"{1 - self.seen:.0%} of the brain lies outside the scan's field of view.")
        if self.turned > WARN_TURNED:
            said.append(
                f"The head lies {self.turned:.0f} degrees away from what the file's header says; "
                "left and right cannot be told from the picture."
            )
        if self.contrast is not None and self.contrast < WARN_CONTRAST:
            said.append("Grey and white matter hardly differ: perhaps not T1-weighted.")
        return tuple(said)


@dataclass(frozen=True, eq=False)
class Attempt:
    """A registration that may or may not hold; fields as of :class:`Registration`."""

    match: Match
    inside: NDArray[np.bool_]
    overlap: float
    seen: float
    tissue: Tissue

    @property
    def sizes(self) -> NDArray[np.float64]:
        """Of the scan's brain against the template, along its main directions [3]."""
        linear = self.match.transform[:3, :3]
        return np.asarray(np.linalg.svd(linear, compute_uv=False), np.float64)

    @property
    def turned(self) -> float:
        """Degrees between the head and its header's axes."""
        u, _, v = np.linalg.svd(self.match.transform[:3, :3])
        return float(np.degrees(np.arccos(np.clip((np.trace(u @ v) - 1) / 2, -1, 1))))

    @property
    def is_brain(self) -> bool:
        """Whether what was found has a brain's size, form and inside."""
        low, high = SCALES
        least, most = float(self.sizes.min()), float(self.sizes.max())
        return bool(
            least >= low
            and most <= min(high, STRETCH * least)
            and np.linalg.det(self.match.transform[:3, :3]) > 0
            and self.tissue.likeness >= LEAST_LIKENESS
        )

    @property
    def holds(self) -> bool:
        """Whether it lies within all limits."""
        alike = self.overlap >= LEAST_OVERLAP and self.match.similarity >= LEAST_SIMILARITY
        return self.is_brain and alike

    @property
    def is_poor(self) -> bool:
        """Whether it wants a look, or another try."""
        likeness = self.tissue.likeness
        return not self.holds or wants_look(self.overlap, self.match.similarity, likeness)

    def check(self, path: Path) -> None:
        """Refuse a registration that does not hold."""
        if np.count_nonzero(self.inside) < LEAST_BRAIN:
            raise BadInput(path, "no brain was found in it", MEND)
        if self.is_brain and self.seen < LEAST_SEEN:
            raise BadInput(
                path,
                f"only {self.seen:.0%} of the brain lies in its field of view: it is cut off",
                MEND,
            )
        if not self.holds:
            raise BadInput(
                path,
                f"its registration to the template failed (overlap {self.overlap:.2f}, similarity "
                f"{self.match.similarity:.2f}, likeness {self.tissue.likeness:.2f}, sizes "
                f"{self.sizes.min():.2f} to {self.sizes.max():.2f}): no brain, not T1-weighted, or "
                "badly disturbed",
                MEND,
            )
        if self.tissue.contrast < LEAST_CONTRAST:
            raise BadInput(
                path,
                f"is not T1-weighted: its white matter is {1 + self.tissue.contrast:.2f} times as "
                "bright as its grey matter",
                "give a T1-weighted scan",
            )


def register(volume: Volume) -> Registration:
    """Register a scan to the template; raises BadInput where that fails."""
    # The matrices are small: threads of BLAS would spin for as much time again.
    with threadpool_limits(limits=1, user_api="blas"):
        return _registered(volume)


def _registered(volume: Volume) -> Registration:
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
    least = min(float(volume.array.min()), 0.0)
    whole = Image(volume.array, volume.affine)

    def read(places: NDArray[np.float64]) -> NDArray[np.float32]:
        values: NDArray[np.float32] = (whole.at(places) - least) / field.at(places, outside=1.0)
        return values

    # What was cut away around a stripped brain has no dark value of its own.
    fine = read if background is None else None
    found = _attempt(path, image, fine, locate(image))
    if found.is_poor:
        # The header may be wrong by a quarter or half a turn; back to front a head still looks one.
        again = _attempt(path, image, fine, locate(image, wide=True))
        found = max(found, again, key=lambda attempt: attempt.tissue.likeness)
    found.check(path)
    inside = found.inside
    brain_field = bias_field(image, inside)
    # Dividing by both is dividing by their product; reciprocals keep `divided` the one way.
    first = Image((1 / field.array).astype(np.float32), field.affine)
    both = divided(first, brain_field)
    return Registration(
        to_mni=np.linalg.inv(found.match.transform).astype(np.float64),
        mask=_onto(inside, image.affine, volume),
        field=Image((1 / both.array).astype(np.float32), both.affine),
        overlap=found.overlap,
        similarity=found.match.similarity,
        seen=found.seen,
        # Air that was set to one value does not make a head a brain.
        stripped=background is not None
        and bool(np.count_nonzero(head) < HEAD_SHARE * np.count_nonzero(inside)),
        likeness=found.tissue.likeness,
        contrast=found.tissue.contrast,
        turned=found.turned,
    )


def corrected(volume: Volume, registration: Registration) -> Volume:
    """The scan without its bias field, its affine leading to MNI152 mm; no voxel is moved."""
    even = divided(Image(volume.array, volume.affine), registration.field)
    return Volume(even.array, registration.to_mni @ volume.affine, volume.native, volume.warnings)


def _attempt(path: Path, image: Image, read: brain_extraction.Read | None, start: Match) -> Attempt:
    """The brain extracted and registered from where it was located, twice over."""
    match, inside = start, np.zeros(image.array.shape, bool)
    for _ in range(2):
        inside = brain_extraction.brain(image, match.transform, read)
        if np.count_nonzero(inside) < LEAST_BRAIN:
            return Attempt(match, inside, 0.0, 1.0, Tissue(0.0, 0.0, 0.0, 0.0))
        match = _final(image, inside, match.transform)
    overlap, seen = _overlap(image, inside, match.transform)
    return Attempt(match, inside, overlap, seen, tissue(image, match.transform))


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


def _onto(mask: NDArray[np.bool_], affine: Affine, volume: Volume) -> NDArray[np.bool_]:
    """A mask on a coarser grid along the scan's axes, on the voxels of the scan."""
    to_mask = np.linalg.inv(affine) @ volume.affine
    step, first = np.diag(to_mask)[:3], to_mask[:3, 3]
    found = np.zeros(volume.array.shape, bool)
    # Only the voxels that the mask's box and a voxel around it reach.
    reached = ndimage.find_objects(mask.view(np.uint8))[0]
    low = [(part.start - 1 - at) / by for part, at, by in zip(reached, first, step, strict=True)]
    high = [(part.stop - at) / by for part, at, by in zip(reached, first, step, strict=True)]
    box = tuple(
        slice(max(int(a), 0), min(int(b) + 2, count))
        for a, b, count in zip(low, high, volume.array.shape, strict=True)
    )
    start = np.array([part.start for part in box])
    values = ndimage.affine_transform(
        mask.astype(np.float32),
        step,
        first + step * start,
        found[box].shape,
        np.float32,
        order=1,
        mode="nearest",
    )
    found[box] = values > 0.5
    return found
