"""Register a whole head or a skull-stripped brain to the template, by one invertible affine.

segmentation at 2 mm -> bias field of the brain -> affine registration of the brain, by intensities
and by the centers of its labels together. Only the final transform, mask and field are applied to
the scan itself, so its voxels are interpolated once.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from threadpoolctl import threadpool_limits

from uncus.data.errors import BadInput
from uncus.data.geometry import resample
from uncus.data.geometry.image import Affine, Image, coarser, points
from uncus.data.imageio.volume import Volume
from uncus.data.mni.affine import refine
from uncus.data.mni.bias_field import bias_field, divide
from uncus.data.mni.template import load_template
from uncus.data.segmentation.quality import BrainQuality
from uncus.data.segmentation.quality import measure as measure_quality
from uncus.data.segmentation.segmenter import SegmentedBrain, segment_volume
from uncus.data.segmentation.trained import template_centers

MIN_EXTENT_MM = 80.0  # of the field of view along any axis; a brain has 120 mm or more
FINAL_MM = 3.0
MARGIN_MM = 4.0  # around the template's brain, also compared
# Limits for rejection and for warnings; docs/results/registration.md has the figures behind them.
MIN_OVERLAP, WARN_OVERLAP = 0.86, 0.92
MIN_SIMILARITY = 0.60
# Distance in mm of the centers of a brain's labels from the template's after the registration.
MAX_DISTANCE, WARN_DISTANCE = 6.0, 4.0
WARN_ROTATION = 60.0  # degrees
MIN_BRAIN_ML = 300.0  # a child's of one year has 700
MIN_COVERAGE = 0.85  # share of the template's brain in the field of view
WARN_COVERAGE = 0.985
# Of a brain relative to the template, along any axis. The template is large: the smallest scale of
# IXI is 0.80, of AOMIC 0.83, of a smaller and atrophied copy of it 0.69, of a macaque about 0.5.
SCALE_RANGE = (0.6, 1.4)
MAX_STRETCH = 1.6  # ratio of the largest to the smallest scale: IXI 1.25, AOMIC 1.15, a thigh 3.8
NO_BRAIN = "does not look like a T1-weighted head"
CUT_OFF = "the edge of the field of view cuts the brain off"
MAX_CUT_CM2 = 60.0  # of the brain at the edge, tangents of a tightly cropped brain included
HEAD_SHARE = 0.1  # of the brain, outside it: less than that is a skull-stripped brain
REMEDY = "give a whole T1-weighted head or brain with the right orientation"


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
    distance: of the centers of the brain's labels from the template's, mm, root mean square; None
        if not measured, since the scan was aligned.
    quality: what the segmentation shows of the scan's quality; None likewise.
    rotation: degrees between the head and the axes of the header.
    brain: the segmentation; None if the scan was aligned.
    """

    to_mni: Affine
    mask: NDArray[np.bool_]
    field: Image
    overlap: float
    similarity: float
    coverage: float
    skull_stripped: bool
    distance: float | None = None
    quality: BrainQuality | None = None
    rotation: float = 0.0
    brain: SegmentedBrain | None = None

    @property
    def scales(self) -> NDArray[np.float64]:
        """Scales of the scan's brain relative to the template, along its main directions [3]."""
        return np.asarray(1 / np.linalg.svd(self.to_mni[:3, :3], compute_uv=False), np.float64)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Doubts about the registration, one sentence each."""
        warnings = []
        if self.overlap < WARN_OVERLAP or (self.distance or 0) > WARN_DISTANCE:
            measures = f"overlap {self.overlap:.2f}"
            if self.distance is not None:
                measures += f", labels {self.distance:.1f} mm apart"
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
        return (*warnings, *(self.quality.warnings if self.quality else ()))

    @property
    def contrast(self) -> float | None:
        """White over gray matter, minus one; None if not measured."""
        return 1 / max(self.quality.gray, 1e-6) - 1 if self.quality else None


def register(volume: Volume) -> Registration:
    """Register a scan to the template; raises BadInput if that fails."""
    path = volume.native.path
    extent = min(size * step for size, step in zip(volume.array.shape, volume.spacing, strict=True))
    if extent < MIN_EXTENT_MM:
        raise BadInput(path, f"is a slab of {extent:.0f} mm: the brain is cut off", REMEDY)
    # The matrices are small: more threads of BLAS would only spin.
    with threadpool_limits(limits=1, user_api="blas"):
        load_template().near(MARGIN_MM)  # another thread may be segmenting meanwhile
        brain = segment_volume(volume)
        found = np.count_nonzero(brain.mask) * np.prod(brain.spacing) / 1000
        if found < MIN_BRAIN_ML:
            raise BadInput(path, f"{NO_BRAIN} (only {found:.0f} ml like a brain)", REMEDY)
        if not brain.match.distance <= MAX_DISTANCE:
            figures = f"{brain.match.labels} of 17 structures, {brain.match.distance:.1f} mm apart"
            raise BadInput(path, f"{_unlike(brain)} ({figures})", REMEDY)
        result = _register(volume, brain)
    check(path, result)
    return result


def _register(volume: Volume, brain: SegmentedBrain) -> Registration:
    """Register a segmented brain."""
    template, mask = load_template(), brain.mask
    field = bias_field(Image(brain.image, brain.affine), mask)
    image = divide(Image(brain.image, brain.affine), field)
    near = template.near(MARGIN_MM).astype(np.float32)
    values = coarser(Image(template.t1, template.affine), FINAL_MM)
    weights = coarser(Image(near, template.affine), FINAL_MM)
    found = brain.centers()
    pairs = np.array([[template_centers()[label], center] for label, center in found.items()])
    match = refine(
        Image(image.array * mask, image.affine),
        brain.match.transform,
        FINAL_MM,
        60,
        values,
        weights,
        pairs,
    )
    overlap, coverage = _overlap(brain, match.transform)
    away = pairs[:, 0] @ match.transform[:3, :3].T + match.transform[:3, 3] - pairs[:, 1]
    u, _, v = np.linalg.svd(match.transform[:3, :3])
    outside = float(brain.probabilities[1][~mask].sum())
    return Registration(
        to_mni=np.linalg.inv(match.transform).astype(np.float64),
        mask=_mask_on_scan(mask, brain.affine, volume),
        field=field,
        overlap=overlap,
        similarity=match.similarity,
        coverage=coverage,
        skull_stripped=bool(outside < HEAD_SHARE * np.count_nonzero(mask)),
        distance=float(np.sqrt((away**2).sum(axis=1).mean())),
        quality=measure_quality(brain),
        rotation=float(np.degrees(np.arccos(np.clip((np.trace(u @ v) - 1) / 2, -1, 1)))),
        brain=brain,
    )


def check(path: Path, result: Registration) -> None:
    """Raise BadInput for an invalid registration."""
    least, most = float(result.scales.min()), float(result.scales.max())
    low, high = SCALE_RANGE
    distance = result.distance or 0.0
    shaped = least >= low and most <= min(high, MAX_STRETCH * least)
    is_brain = shaped and distance <= MAX_DISTANCE
    if result.quality and result.quality.refusal:
        raise BadInput(path, f"{NO_BRAIN} ({result.quality.refusal})", REMEDY)
    if is_brain and result.coverage < MIN_COVERAGE:
        cause = f"only {result.coverage:.0%} of the brain is in its field of view: it is cut off"
        raise BadInput(path, cause, REMEDY)
    if not is_brain or result.overlap < MIN_OVERLAP or result.similarity < MIN_SIMILARITY:
        raise BadInput(
            path,
            f"{_unlike(result.brain)} (overlap with the template {result.overlap:.2f}, similarity "
            f"{result.similarity:.2f}, labels {distance:.1f} mm apart, scales {least:.2f} to "
            f"{most:.2f})",
            REMEDY,
        )


def _unlike(brain: SegmentedBrain | None) -> str:
    """What is wrong with a brain that is unlike the template's."""
    if brain is None or not measure_quality(brain).is_t1:
        return NO_BRAIN
    outside = np.pad(~brain.inside, 1, constant_values=True)
    edge = ndimage.binary_dilation(outside)[1:-1, 1:-1, 1:-1] & brain.mask
    area = np.count_nonzero(edge) * float(np.prod(brain.spacing)) ** (2 / 3) / 100
    return CUT_OFF if area > MAX_CUT_CM2 else NO_BRAIN


def corrected(volume: Volume, registration: Registration) -> Volume:
    """The scan, its affine mapping to MNI152 mm, without its bias field in the box of its brain.

    Nothing is resampled.
    """
    array = volume.array.copy()
    if box := ndimage.find_objects(registration.mask.view(np.uint8)):
        affine = volume.affine.copy()
        affine[:3, 3] += affine[:3, :3] @ [part.start for part in box[0]]
        array[box[0]] = divide(Image(array[box[0]], affine), registration.field).array
    return Volume(array, registration.to_mni @ volume.affine, volume.native, volume.warnings)


def _overlap(brain: SegmentedBrain, transform: Affine) -> tuple[float, float]:
    """Dice of the template's brain with the scan's; share of it in the field of view."""
    template = load_template()
    small = coarser(Image(template.brain.astype(np.float32), template.affine), 2.0)
    at = np.linalg.inv(transform) @ brain.affine
    expected = small.at(points(brain.mask.shape, at)).reshape(brain.mask.shape) > 0.5
    both = int((expected & brain.mask).sum())
    in_view = int((expected & brain.inside).sum())
    overlap = 2 * both / max(in_view + int(brain.mask.sum()), 1)
    # Some of the template's brain may lie beyond the grid too.
    scale = abs(float(np.linalg.det(transform[:3, :3])))
    voxels = scale * float(np.prod(small.spacing)) / float(np.prod(brain.spacing))
    return overlap, min(in_view / (voxels * float((small.array > 0.5).sum())), 1.0)


def _mask_on_scan(mask: NDArray[np.bool_], affine: Affine, volume: Volume) -> NDArray[np.bool_]:
    """Resample a mask from its grid to the voxels of the scan."""
    to_index = np.linalg.inv(affine) @ volume.affine
    labels = mask.astype(np.uint8)
    nearest, border = resample.labels_onto_voxels(labels, to_index, volume.array.shape)
    at = to_index[:3, :3] @ np.argwhere(border).T + to_index[:3, 3:]
    result = nearest > 0
    result[border] = ndimage.map_coordinates(labels, at, np.float32, order=1) > 0.5
    return result
