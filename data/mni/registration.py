"""Register a whole head or a skull-stripped brain to the template, by one invertible affine.

coarse copy -> bias field -> location of the brain -> brain extraction -> affine registration of
the extracted brain, the last two twice. Only the final transform, mask and field are applied to the
scan itself, so its voxels are interpolated once.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from threadpoolctl import threadpool_limits

from uncus.data.errors import BadInput
from uncus.data.geometry.foreground import constant_background, otsu
from uncus.data.geometry.image import Affine, Image, coarser, points
from uncus.data.imageio.volume import Volume
from uncus.data.mni.affine import SIZES, Match, locate, refine, resized
from uncus.data.mni.bias_field import bias_field, divide
from uncus.data.mni.brain_extraction import Sampler, extract_brain
from uncus.data.mni.template import load_template
from uncus.data.mni.tissue_contrast import Tissue, measure_tissue

WORK_MM = 2.0
MIN_EXTENT_MM = 80.0  # of the field of view along any axis; a brain has 120 mm or more
HEAD_TO_BRAIN = 1.5  # least ratio of the volumes of a whole head and its brain
FINAL_MM = 3.0
MARGIN_MM = 4.0  # around the template's brain, also compared
# Limits for rejection and for warnings. Overlap, similarity, likeness of AOMIC: 0.96, 0.85, 0.58;
# IXI: 0.97, 0.87, 0.44; a Philips MPRAGE: 0.97, 0.88, 0.52. AOMIC with simulated atrophy
# (ventricles 4 times as large, all sulci wider): 0.93, 0.76, 0.39; of these, all whose template
# overlaps the brain by a Dice of 0.92 or less have a similarity of at most 0.801. A bottle with a
# bias field: 0.92, 0.70, 0.09. AOMIC registered with anterior and posterior exchanged: 0.94, 0.75,
# 0.26.
MIN_OVERLAP, WARN_OVERLAP = 0.86, 0.92
MIN_SIMILARITY, WARN_SIMILARITY = 0.60, 0.81
MIN_LIKENESS, WARN_LIKENESS = 0.30, 0.40
# White over gray matter, minus one: AOMIC 0.58, Philips 0.32, IXI 0.18; 49 scans of OASIS-1, not
# registered, 0.42 to 0.96; AOMIC with the contrast of a FLAIR -0.02.
MIN_CONTRAST, WARN_CONTRAST = 0.02, 0.08
WARN_ROTATION = 60.0  # degrees
MIN_BRAIN_VOXELS = 1000  # voxels of the working grid
MIN_COVERAGE = 0.85  # share of the template's brain in the field of view
WARN_COVERAGE = 0.985
# Of a brain relative to the template, along any axis. The template is large: the smallest scale of
# IXI is 0.80, of AOMIC 0.83, of a smaller and atrophied copy of it 0.69, of a macaque about 0.5.
SCALE_RANGE = (0.6, 1.4)
MAX_STRETCH = 1.6  # ratio of the largest to the smallest scale: IXI 1.25, AOMIC 1.15, a thigh 3.8
REMEDY = "give a whole T1-weighted head or brain with the right orientation"


def is_doubtful(overlap: float, similarity: float, likeness: float | None) -> bool:
    """Whether a valid registration needs a warning; ``likeness`` is None if not measured."""
    poor = overlap < WARN_OVERLAP or similarity < WARN_SIMILARITY
    return poor or (likeness is not None and likeness < WARN_LIKENESS)


@dataclass(frozen=True, eq=False)
class Registration:
    """The registration of a scan to the template.

    Parameters
    ----------
    to_mni: float64 [4, 4], scan mm -> MNI152 mm (RAS+).
    mask: bool [X, Y, Z], the brain on the scan's voxels.
    field: the bias field, on a coarse grid over the scan.
    overlap: Dice of the brain with the template's.
    similarity: correlation of the brain with the template.
    coverage: share of the template's brain in the field of view.
    skull_stripped: whether the scan was skull-stripped.
    likeness: correlation with the template's T1 deep inside its brain, see
        uncus.data.mni.tissue_contrast; None if not measured, since the scan was aligned.
    contrast: white over gray matter, minus one; None likewise.
    rotation: degrees between the head and the axes of the header.
    """

    to_mni: Affine
    mask: NDArray[np.bool_]
    field: Image
    overlap: float
    similarity: float
    coverage: float
    skull_stripped: bool
    likeness: float | None = None
    contrast: float | None = None
    rotation: float = 0.0

    @property
    def warnings(self) -> tuple[str, ...]:
        """Doubts about the registration, one sentence each."""
        warnings = []
        if is_doubtful(self.overlap, self.similarity, self.likeness):
            measures = f"overlap {self.overlap:.2f}, similarity {self.similarity:.2f}"
            if self.likeness is not None:
                measures += f", likeness {self.likeness:.2f}"
            warnings.append(
                f"The registration to the template is poor ({measures}): check its figure."
            )
        if self.coverage < WARN_COVERAGE:
            warnings.append(f"{1 - self.coverage:.0%} of the brain is outside the field of view.")
        if self.rotation > WARN_ROTATION:
            warnings.append(
                f"The head is rotated by {self.rotation:.0f} degrees from the axes of the header; "
                "left and right cannot be determined from the image."
            )
        if self.contrast is not None and self.contrast < WARN_CONTRAST:
            warnings.append("Gray and white matter hardly differ: perhaps not T1-weighted.")
        return tuple(warnings)


@dataclass(frozen=True, eq=False)
class Attempt:
    """A registration that is not checked yet; fields as in :class:`Registration`."""

    match: Match
    mask: NDArray[np.bool_]
    overlap: float
    coverage: float
    tissue: Tissue

    @property
    def scales(self) -> NDArray[np.float64]:
        """Scales of the scan's brain relative to the template, along its main directions [3]."""
        linear = self.match.transform[:3, :3]
        return np.asarray(np.linalg.svd(linear, compute_uv=False), np.float64)

    @property
    def rotation(self) -> float:
        """Degrees between the head and the axes of the header."""
        u, _, v = np.linalg.svd(self.match.transform[:3, :3])
        return float(np.degrees(np.arccos(np.clip((np.trace(u @ v) - 1) / 2, -1, 1))))

    @property
    def is_brain(self) -> bool:
        """Whether size, shape and tissues are a brain's."""
        low, high = SCALE_RANGE
        least, most = float(self.scales.min()), float(self.scales.max())
        return bool(
            least >= low
            and most <= min(high, MAX_STRETCH * least)
            and np.linalg.det(self.match.transform[:3, :3]) > 0
            and self.tissue.likeness >= MIN_LIKENESS
        )

    @property
    def is_valid(self) -> bool:
        """Whether it is within all limits."""
        similar = self.overlap >= MIN_OVERLAP and self.match.similarity >= MIN_SIMILARITY
        return self.is_brain and similar

    @property
    def is_poor(self) -> bool:
        """Whether it needs a warning or another attempt."""
        likeness = self.tissue.likeness
        return not self.is_valid or is_doubtful(self.overlap, self.match.similarity, likeness)

    def check(self, path: Path) -> None:
        """Raise BadInput for an invalid registration."""
        if np.count_nonzero(self.mask) < MIN_BRAIN_VOXELS:
            raise BadInput(path, "contains no brain", REMEDY)
        if self.is_brain and self.coverage < MIN_COVERAGE:
            cause = f"only {self.coverage:.0%} of the brain is in its field of view: it is cut off"
            raise BadInput(path, cause, REMEDY)
        if not self.is_valid:
            raise BadInput(
                path,
                "does not look like a T1-weighted head (registered to the template with overlap "
                f"{self.overlap:.2f}, similarity {self.match.similarity:.2f}, likeness "
                f"{self.tissue.likeness:.2f}, scales {self.scales.min():.2f} to "
                f"{self.scales.max():.2f})",
                REMEDY,
            )
        if self.tissue.contrast < MIN_CONTRAST:
            raise BadInput(
                path,
                "does not look T1-weighted (its white matter is "
                f"{1 + self.tissue.contrast:.2f} times as bright as its gray matter)",
                "give a T1-weighted scan",
            )


def register(volume: Volume) -> Registration:
    """Register a scan to the template; raises BadInput if that fails."""
    # The matrices are small: more threads of BLAS would only spin.
    with threadpool_limits(limits=1, user_api="blas"):
        return _register(volume)


def _register(volume: Volume) -> Registration:
    path = volume.native.path
    extent = min(size * step for size, step in zip(volume.array.shape, volume.spacing, strict=True))
    if extent < MIN_EXTENT_MM:
        raise BadInput(path, f"is a slab of {extent:.0f} mm: the brain is cut off", REMEDY)
    work = coarser(Image(volume.array, volume.affine), WORK_MM)
    background = constant_background(volume.array)
    if background is not None:
        foreground = Image((volume.array != background).astype(np.float32), volume.affine)
        head = coarser(foreground, WORK_MM).array > 0.5
        # Whatever value the background has, here it becomes 0.
        darkest = float(np.percentile(work.array[head], 0.5)) if head.any() else 0.0
        array = np.where(head, np.maximum(work.array - min(darkest, 0.0), 0), 0)
        work = Image(array.astype(np.float32), work.affine)
    else:
        work = Image(work.array - min(float(work.array.min()), 0.0), work.affine)
        head = work.array > otsu(work.array)
    if np.count_nonzero(head) < 1000:
        raise BadInput(path, "contains no brain", REMEDY)
    field = bias_field(work, head)
    image = divide(work, field)
    least = min(float(volume.array.min()), 0.0)
    whole = Image(volume.array, volume.affine)

    def sample(coordinates: NDArray[np.float64]) -> NDArray[np.float32]:
        values: NDArray[np.float32] = whole.at(coordinates) - least
        values /= field.at(coordinates, outside=1.0)
        return values

    # The background of a skull-stripped brain may have any value: only ``image`` has 0 there.
    sampler = sample if background is None else None
    start = locate(image).transform
    attempt = _attempt(image, sampler, start)
    if attempt.is_poor:
        # The brain may be smaller than it seems. The header may be wrong by 90 or 180 degrees; a
        # rotated head still looks like a head.
        others = [*(resized(start, size) for size in SIZES), locate(image, wide=True).transform]
        attempts = [attempt, *(_attempt(image, sampler, each) for each in others)]
        attempt = max(attempts, key=lambda one: one.tissue.likeness)
    attempt.check(path)
    brain_field = bias_field(image, attempt.mask)
    # The product of both fields, by way of `divide`, which also interpolates.
    reciprocal = divide(Image((1 / field.array).astype(np.float32), field.affine), brain_field)
    return Registration(
        to_mni=np.linalg.inv(attempt.match.transform).astype(np.float64),
        mask=_mask_on_scan(attempt.mask, image.affine, volume),
        field=Image((1 / reciprocal.array).astype(np.float32), reciprocal.affine),
        overlap=attempt.overlap,
        similarity=attempt.match.similarity,
        coverage=attempt.coverage,
        # A whole head may have a constant background too.
        skull_stripped=background is not None
        and bool(np.count_nonzero(head) < HEAD_TO_BRAIN * np.count_nonzero(attempt.mask)),
        likeness=attempt.tissue.likeness,
        contrast=attempt.tissue.contrast,
        rotation=attempt.rotation,
    )


def corrected(volume: Volume, registration: Registration) -> Volume:
    """The scan without its bias field, its affine mapping to MNI152 mm; nothing is resampled."""
    array = divide(Image(volume.array, volume.affine), registration.field).array
    return Volume(array, registration.to_mni @ volume.affine, volume.native, volume.warnings)


def _attempt(image: Image, sampler: Sampler | None, start: Affine) -> Attempt:
    """Extract and register the brain twice, from its approximate location ``start``."""
    match, mask = Match(start, 0.0), np.zeros(image.array.shape, bool)
    for _ in range(2):
        mask = extract_brain(image, match.transform, sampler)
        if np.count_nonzero(mask) < MIN_BRAIN_VOXELS:
            return Attempt(match, mask, 0.0, 1.0, Tissue(0.0, 0.0, 0.0, 0.0))
        match = _refine_brain(image, mask, match.transform)
    overlap, coverage = _overlap(image, mask, match.transform)
    return Attempt(match, mask, overlap, coverage, measure_tissue(image, match.transform))


def _refine_brain(image: Image, mask: NDArray[np.bool_], start: Affine) -> Match:
    """Register the template's brain to the extracted one, including background around both."""
    template = load_template()
    near = (template.distance < MARGIN_MM).astype(np.float32)
    values = coarser(Image(template.t1, template.affine), FINAL_MM)
    weights = coarser(Image(near, template.affine), FINAL_MM)
    brain = Image(image.array * mask, image.affine)
    return refine(brain, [start], FINAL_MM, 60, values, weights)[0]


def _overlap(image: Image, mask: NDArray[np.bool_], transform: Affine) -> tuple[float, float]:
    """Dice of the template's brain with the extracted one; share of it in the field of view."""
    small = coarser(Image(load_template().brain.astype(np.float32), load_template().affine), 2.0)
    brain = small.array.ravel() > 0.5
    coordinates = points(small.array.shape, small.affine)[:, brain]
    at = transform[:3, :3] @ coordinates + transform[:3, 3:]
    values = Image(mask.astype(np.float32), image.affine).at(at, outside=np.nan)
    in_view = np.isfinite(values)
    both = float((values[in_view] > 0.5).sum())
    volume = abs(float(np.linalg.det(transform[:3, :3]))) * np.prod(small.spacing)
    extracted = mask.sum() * np.prod(image.spacing) / volume
    return 2 * both / (float(in_view.sum()) + float(extracted)), float(in_view.mean())


def _mask_on_scan(mask: NDArray[np.bool_], affine: Affine, volume: Volume) -> NDArray[np.bool_]:
    """Resample a mask from a coarser grid along the scan's axes to the voxels of the scan."""
    to_mask = np.linalg.inv(affine) @ volume.affine
    step, first = np.diag(to_mask)[:3], to_mask[:3, 3]
    result = np.zeros(volume.array.shape, bool)
    # Only the voxels of the mask's bounding box and one voxel around it.
    inner = ndimage.find_objects(mask.view(np.uint8))[0]
    low = [(part.start - 1 - at) / by for part, at, by in zip(inner, first, step, strict=True)]
    high = [(part.stop - at) / by for part, at, by in zip(inner, first, step, strict=True)]
    box = tuple(
        slice(max(int(a), 0), min(int(b) + 2, count))
        for a, b, count in zip(low, high, volume.array.shape, strict=True)
    )
    start = np.array([part.start for part in box])
    values = ndimage.affine_transform(
        mask.astype(np.float32),
        step,
        first + step * start,
        result[box].shape,
        np.float32,
        order=1,
        mode="nearest",
    )
    result[box] = values > 0.5
    return result
