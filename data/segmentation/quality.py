"""Quality control of a segmented scan: what it shows that can change the answer.

Intensities are relative to the white matter around each voxel, so that a bias field does not count.
docs/results/quality_control.py measures how often good heads, and faults made of them, pass the
limits.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from uncus.data.segmentation.labels import BRAIN, LABELS

FLUID, VENTRICLES, GRAY, WHITE = (2, 10, 11), (10, 11), (3, 4), (5, 6)
FIELD_MM = 20.0  # standard deviation of the smoothing of the white matter's intensity
GAP_MM = 12.0  # sulci up to twice as wide belong to the brain's hull
RIM_MM = 4.0  # around the hull: meninges, veins, sinuses
DEPTH_MM = 6.0  # from the hull's surface, where lesions are searched
DEEP_MM = 12.0  # where no fluid but the ventricles' is expected
SURE = 0.8  # probability
LEAST_VOXELS = 30

# Of 19 good heads (8 of people of 73 to 96 years, 10 of IXI, AOMIC) gray matter is 0.59 to 0.74,
# fluid 0.24 to 0.46, their sum at most 1.19. Of FLAIR, PD and CT made of them gray matter is 0.88
# or more; of angiography, made of two, the sum is 1.39 or more; of T2 it is, or 117 to 385 ml are
# darker than their label's tissue (good: up to 1.8 ml, large lesions: up to 10 ml). All of them
# were in view when the limits were chosen.
MAX_GRAY, MAX_SUM, MAX_DARK_ML = 0.84, 1.36, 60.0
MIN_CONFIDENCE, MIN_STRUCTURES = 0.58, 12
# Good: 1.5 to 2.2; with noise of 0.35 of the white matter 0.9 to 1.3.
WARN_SEPARATION = 1.25
# The next three were fitted to heads of IXI, with all good heads in view: quality_control.md.
# Good: at most 0.004; with contrast agent 0.010 or more.
WARN_ENHANCED = 0.008
# Good: at most 0.054 (old people, with more noise: 0.09); with strong motion 0.12 or more.
WARN_GHOSTS = 0.10
# Good: at most 0.17 (old people: 0.18); with a mass that makes the midline give way 0.19 or more.
WARN_ASYMMETRY = 0.19
# Good: at most 1.6, 1.8 and 7.0 ml; of lesions of 40 to 56 mm, one is 8 to 25 ml.
WARN_BRIGHT_ML, WARN_DARK_ML, WARN_HOLE_ML = 5.0, 5.0, 14.0
BRIGHT, ENHANCED = 1.25, 1.1
AIR_MM = 6.0  # from the head, where ghosts are searched
HEMISPHERES = ((3, 5, 10, 12, 14, 16, 18), (4, 6, 11, 13, 15, 17, 19))
SMOOTH_MM = 8.0  # standard deviation: the sides' gyri differ, masses are larger


class Segmented(Protocol):
    """What is needed of a segmented scan, see uncus.data.segmentation.segmenter."""

    @property
    def probabilities(self) -> NDArray[np.float32]:
        """Of the labels [K, X, Y, Z]."""

    @property
    def image(self) -> NDArray[np.float32]:
        """The scan [X, Y, Z]."""

    @property
    def inside(self) -> NDArray[np.bool_]:
        """Which voxels lie in the scan's field of view [X, Y, Z]."""

    @property
    def labels(self) -> NDArray[np.uint8]:
        """The likeliest label [X, Y, Z]."""

    @property
    def spacing(self) -> NDArray[np.float64]:
        """Voxel size in mm [3]."""


@dataclass(frozen=True)
class BrainQuality:
    """Measures of a segmented scan; intensities are shares of the white matter's.

    Parameters
    ----------
    gray, fluid: medians of cortex, and of the ventricles or all fluid, whichever is darker.
    separation: difference of white and gray matter in their common standard deviation.
    confidence: mean probability of the labels in the brain, 0 to 1.
    structures: how many of the brain's 17 labels are there.
    enhanced: share of the brain's rim that is brighter than white matter.
    bright, dark, hole: ml of the largest region in the brain that is brighter than white matter,
        that is darker than its tissue, and that is no brain.
    ghosts: brightness of the brightest hundredth of the air around the head; 0 without air in view.
    asymmetry: largest difference of the white matter's local share from the mirror image's.
    """

    gray: float
    fluid: float
    separation: float
    confidence: float
    structures: int
    enhanced: float
    bright: float
    dark: float
    hole: float
    ghosts: float = 0.0
    asymmetry: float = 0.0

    @property
    def is_t1(self) -> bool:
        """Whether the tissues are as bright as in T1-weighted images."""
        ordered = self.fluid < self.gray < MAX_GRAY and self.gray + self.fluid < MAX_SUM
        return ordered and self.dark <= MAX_DARK_ML

    @property
    def refusal(self) -> str:
        """The figures by which the scan is no T1-weighted head; empty if it is one."""
        if not self.is_t1:
            figures = (
                f"relative to white matter, gray matter is {self.gray:.2f} and fluid "
                f"{self.fluid:.2f}, and {self.dark:.0f} ml are darker than their tissue"
            )
        elif self.structures < MIN_STRUCTURES or self.confidence < MIN_CONFIDENCE:
            figures = (
                f"{self.structures} of {len(BRAIN)} structures found, with a probability of "
                f"{self.confidence:.2f}"
            )
        else:
            return ""
        return figures

    @property
    def warnings(self) -> tuple[str, ...]:
        """What can change the answer, one sentence each."""
        warnings = []
        if self.separation < WARN_SEPARATION:
            warnings.append(
                "Noise, motion or blur hide the border of gray and white matter "
                f"(contrast {self.separation:.1f} times the noise)."
            )
        if self.enhanced > WARN_ENHANCED:
            warnings.append(
                "Probably a contrast agent was given "
                f"({self.enhanced:.0%} of the brain's surroundings are brighter than it)."
            )
        lesion = (
            self.bright > WARN_BRIGHT_ML or self.dark > WARN_DARK_ML or self.hole > WARN_HOLE_ML
        )
        if lesion:
            size = max(self.bright, self.dark, self.hole)
            warnings.append(f"Probably a large lesion ({size:.0f} ml unlike the tissue around it).")
        if self.ghosts > WARN_GHOSTS:
            warnings.append(
                "Probably strong motion: ghosts of the head in the air around it "
                f"({self.ghosts:.0%} of white matter)."
            )
        elif self.asymmetry > WARN_ASYMMETRY and not lesion:
            warnings.append(
                "Probably a mass or a large lesion: left and right white matter differ in place "
                f"or extent (by {self.asymmetry:.0%} at most)."
            )
        return tuple(warnings)


def measure(brain: Segmented) -> BrainQuality:
    """Measure a segmented scan."""
    labels, confidence = brain.labels, brain.probabilities.max(axis=0)
    tissue = np.isin(labels, BRAIN)
    white, gray = np.isin(labels, WHITE), np.isin(labels, GRAY)
    if min(np.count_nonzero(white), np.count_nonzero(gray)) < LEAST_VOXELS:
        return BrainQuality(1.0, 1.0, 0.0, 0.0, 0, 0.0, 0.0, 0.0, 0.0)
    step = float(np.prod(brain.spacing) ** (1 / 3))
    image = _relative(brain.image, white & (confidence > SURE), FIELD_MM / step)
    fluids = np.isin(labels, FLUID)
    # Small ventricles in large voxels look brighter than they are: so may the fluid of sulci.
    fluid = _median(image, fluids, 0.0)
    ventricles = ndimage.binary_erosion(np.isin(labels, VENTRICLES))
    if np.count_nonzero(ventricles) >= LEAST_VOXELS:
        fluid = min(fluid, _median(image, ventricles, 0.0))
    middle = _median(image, gray, 1.0)
    spread = float(np.hypot(_spread(image, white), _spread(image, gray)))
    hull = _hull(tissue, round(GAP_MM / step))
    rim = ndimage.binary_dilation(hull, iterations=round(RIM_MM / step)) & ~tissue & brain.inside
    depth = ndimage.distance_transform_edt(hull, sampling=brain.spacing)
    within = depth > DEPTH_MM
    voxel = float(np.prod(brain.spacing)) / 1000
    air = ndimage.binary_erosion(labels == 0, iterations=round(AIR_MM / step)) & brain.inside

    def largest(region: NDArray[np.bool_], opened: int = 1) -> float:
        parts, count = ndimage.label(ndimage.binary_opening(region, iterations=opened))
        return float(np.bincount(parts.ravel())[1:].max()) * voxel if count else 0.0

    return BrainQuality(
        gray=middle,
        fluid=fluid,
        separation=(1 - middle) / max(spread, 1e-3),
        confidence=float(confidence[tissue].mean()),
        structures=int((np.bincount(labels[tissue], minlength=len(LABELS)) >= LEAST_VOXELS).sum()),
        enhanced=float((image[rim] > ENHANCED).mean()) if rim.any() else 0.0,
        bright=largest(within & (image > BRIGHT)),
        dark=largest(within & ~fluids & (image < (middle + fluid) / 2)),
        hole=largest((depth > DEEP_MM) & np.isin(labels, (0, 1, 2)), 2),
        ghosts=float(np.percentile(image[air], 99)) if air.any() else 0.0,
        asymmetry=_asymmetry(labels, within, SMOOTH_MM / step),
    )


def _relative(
    image: NDArray[np.float32], white: NDArray[np.bool_], sigma: float
) -> NDArray[np.float32]:
    """The image over the mean of the white matter around each voxel; ``sigma`` in voxels."""
    if not white.any():
        return image
    overall = float(np.median(image[white]))
    total = ndimage.gaussian_filter(np.where(white, image, 0).astype(np.float32), sigma)
    weight = ndimage.gaussian_filter(white.astype(np.float32), sigma)
    local = np.where(weight > 1e-4, total / np.maximum(weight, 1e-4), overall)
    result: NDArray[np.float32] = image / np.clip(local, 0.4 * overall, 2.5 * overall).clip(1e-6)
    return result


def _hull(tissue: NDArray[np.bool_], gap: int) -> NDArray[np.bool_]:
    """The tissue with its gaps up to 2 * ``gap`` voxels closed and its holes filled."""
    # Padded, so that closing does not erode at the array's faces.
    wide = np.pad(tissue, gap + 1)
    wide = ndimage.distance_transform_edt(~wide) <= gap
    closed = ndimage.distance_transform_edt(wide) > gap
    inner = tuple(slice(gap + 1, -gap - 1) for _ in range(3))
    filled: NDArray[np.bool_] = ndimage.binary_fill_holes(closed[inner])
    return filled | tissue


def _asymmetry(labels: NDArray[np.uint8], within: NDArray[np.bool_], sigma: float) -> float:
    """Largest difference of the smoothed white matter from its mirror image; ``sigma`` in voxels.

    The mirror is the plane x = a + b y + c z through where left and right labels meet.
    """
    left, right = (ndimage.binary_dilation(np.isin(labels, h), iterations=2) for h in HEMISPHERES)
    meeting = np.argwhere(left & right).astype(float)
    if len(meeting) < LEAST_VOXELS or not within.any():
        return 0.0
    middle = meeting.mean(axis=0)
    slopes, *_ = np.linalg.lstsq((meeting - middle)[:, 1:], (meeting - middle)[:, 0], rcond=None)
    normal = np.array([1.0, *-slopes])
    mirror = np.eye(3) - 2 * np.outer(normal, normal) / (normal @ normal)
    white = ndimage.gaussian_filter(np.isin(labels, WHITE).astype(np.float32), sigma)
    other = ndimage.affine_transform(white, mirror, middle - mirror @ middle, order=1)
    return float(np.abs(white - other)[within].max())


def _median(image: NDArray[np.float32], region: NDArray[np.bool_], otherwise: float) -> float:
    return float(np.median(image[region])) if region.any() else otherwise


def _spread(image: NDArray[np.float32], region: NDArray[np.bool_]) -> float:
    """Robust standard deviation."""
    values = image[region]
    return 1.4826 * float(np.median(np.abs(values - np.median(values))))
