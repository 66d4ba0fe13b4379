"""Noise and ghosting of a scan.

Noise is measured inside the head, since many scanners and programs set the background to 0: the
second difference of three neighboring voxels cancels smooth structure (after Immerkaer, Computer
Vision and Image Understanding 64, 1996), and its median is robust to edges. Patches that stand out
of the background are ghosts of the head, or its opposite side wrapped around.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from uncus.data.geometry.foreground import constant_background, largest_part, otsu
from uncus.data.imageio.volume import Volume

STEP_MM = 4.0  # between the background voxels that are sampled
AWAY_MM = 12.0  # from the head, beyond its blurred rim
PATCH_MM = 20.0
LEAST_VOXELS = 1000
MAD = 1.4826  # standard deviations per median absolute deviation of normal noise
# Measured noise: 0.053 (AOMIC head), 0.059 (Philips), 0.07 to 0.15 (10 IXI heads, 2 mm), 0.17 to
# 0.19 (8 heads of people of 73 to 96, 2 mm, whose detail counts too); ghosting 0.00 to 0.12. With
# Rician noise of 0.1 of the bright tissue added, 0.16 to 0.24, with 0.2, 0.26 to 0.37.
WARN_NOISE = 0.25
WARN_GHOST = 0.16


@dataclass(frozen=True)
class ImageQuality:
    """Standard deviation of the noise and brightness of ghosts, as shares of the head's median.

    ``ghost`` is 0 for a scan without background.
    """

    noise: float
    ghost: float

    @property
    def warnings(self) -> tuple[str, ...]:
        """Quality control findings, one sentence each."""
        warnings = []
        if self.noise > WARN_NOISE:
            warnings.append(f"Noisy (the signal is {1 / self.noise:.1f} times the noise).")
        if self.ghost > WARN_GHOST:
            warnings.append(
                "Motion or wrap-around: there are ghosts of the head in the background "
                f"({self.ghost:.0%} as bright as the head)."
            )
        return tuple(warnings)


def measure(volume: Volume) -> ImageQuality:
    """Measure noise and ghosting of a scan, whole head or skull-stripped."""
    background = constant_background(volume.array)
    if background is not None:
        shown = volume.array != background
        least = float(volume.array.min(where=shown, initial=0.0))
        return ImageQuality(_noise(volume.array - least, shown), 0.0)
    array = volume.array - min(float(volume.array.min()), 0.0)
    return ImageQuality(_noise(array, array > otsu(array)), _ghost(array, volume.spacing))


def _noise(array: NDArray[np.float32], head: NDArray[np.bool_]) -> float:
    """Noise as a share of the head's median: the least of the three axes, whose detail differs."""
    if np.count_nonzero(head) < LEAST_VOXELS:
        return 0.0
    signal = float(np.median(array[head]))
    estimates = []
    for axis in range(3):
        if array.shape[axis] < 3:
            continue
        # Every third triple, so that none overlap.
        parts = [slice(k, array.shape[axis] - 2 + k, 3) for k in range(3)]
        low, middle, high = (array[(slice(None),) * axis + (part,)] for part in parts)
        a, b, c = (head[(slice(None),) * axis + (part,)] for part in parts)
        inside = a & b & c & (middle > signal)  # white matter: the least detail
        if np.count_nonzero(inside) >= LEAST_VOXELS:
            rest = (low - 2 * middle + high)[inside]
            estimates.append(MAD * float(np.median(np.abs(rest - np.median(rest)))) / np.sqrt(6))
    return float(min(estimates)) / signal if estimates and signal > 0 else 0.0


def _ghost(array: NDArray[np.float32], spacing: tuple[float, float, float]) -> float:
    """Contrast of the brightest background patches, as a share of the head's median."""
    steps = [max(1, round(STEP_MM / size)) for size in spacing]
    array = array[:: steps[0], :: steps[1], :: steps[2]]
    sampling = np.array(steps) * np.asarray(spacing)
    # Smoothed, so that noise is not taken for the head.
    head = ndimage.gaussian_filter(array, 0.7) > otsu(array)
    if not head.any() or head.all():
        return 0.0
    head = largest_part(head)
    away = ndimage.distance_transform_edt(~head, sampling=sampling) > AWAY_MM
    if np.count_nonzero(away) < LEAST_VOXELS:
        return 0.0
    size = np.maximum(1, np.round(PATCH_MM / sampling)).astype(int).tolist()
    share = ndimage.uniform_filter(away.astype(np.float32), size, mode="constant")
    mean = ndimage.uniform_filter(np.where(away, array, 0), size, mode="constant")
    # A patch counts if at least half of it is background.
    patches = (mean / np.maximum(share, 1e-6))[away & (share > 0.5)]
    if not patches.size:
        return 0.0
    contrast = float(np.percentile(patches, 98) - np.median(patches))
    return contrast / max(float(np.median(array[head])), 1e-6)


def looks_like_ct(volume: Volume) -> bool:
    """Whether intensities look like Hounsfield units: air near -1000 and bone above 200."""
    sample = volume.array[::2, ::2, ::2]
    low, high = np.percentile(sample, (2, 99.5))
    air = (sample > -1100) & (sample < -900)
    return bool(low < -900 and high > 200 and air.mean() > 0.05)
