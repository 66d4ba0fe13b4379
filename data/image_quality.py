"""How noisy a scan is, by its finest detail, and how ghosted, by the air around the head.

Noise is read inside the head, since many scanners and programs set the air to 0: the second
difference of three neighbours hides what is smooth (after Immerkaer, Computer Vision and Image
Understanding 64, 1996), and its median hides edges. What stands out of the air in patches is a
ghost of the head, or the head's other side wrapped around.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from uncus.data.geometry.foreground import largest_part, otsu, stripped_background
from uncus.data.imageio.volume import Volume

STEP_MM = 4.0  # for the air, every so many mm a voxel is looked at
AWAY_MM = 12.0  # from the head: nearer lie its rim and its skin
PATCH_MM = 20.0
LEAST_VOXELS = 1000
MAD = 1.4826  # standard deviations per median absolute deviation of normal noise
# Of the heads at hand the noise is 0.053 (AOMIC), 0.083 (IXI, 2 mm) and 0.059 (Philips), their
# ghosts 0.00 to 0.055. With Rician noise of 0.1 of the bright tissue 0.17 to 0.18 is read, with 0.2
# it is 0.26 to 0.37; a ghost of 0.1 on the IXI head reads as 0.124.
WARN_NOISE = 0.15
WARN_GHOST = 0.09


@dataclass(frozen=True)
class Look:
    """Standard deviation of the noise, and brightness of ghosts, as shares of the head's median.

    ``ghost`` is 0 where there is no air to see it in.
    """

    noise: float
    ghost: float

    @property
    def warnings(self) -> tuple[str, ...]:
        """What stands out, one sentence each."""
        said = []
        if self.noise > WARN_NOISE:
            said.append(f"The scan is noisy: its signal is {1 / self.noise:.1f} times the noise.")
        if self.ghost > WARN_GHOST:
            said.append(
                f"There is a ghost in the air around the head, {self.ghost:.0%} as bright as the "
                "head: it moved, or is wrapped around."
            )
        return tuple(said)


def look(volume: Volume) -> Look:
    """Noise and ghosts of a scan, whole head or stripped."""
    background = stripped_background(volume.array)
    if background is not None:
        shown = volume.array != background
        least = float(volume.array.min(where=shown, initial=0.0))
        return Look(_noise(volume.array - least, shown), 0.0)
    array = volume.array - min(float(volume.array.min()), 0.0)
    return Look(_noise(array, array > otsu(array)), _ghost(array, volume.spacing))


def _noise(array: NDArray[np.float32], head: NDArray[np.bool_]) -> float:
    """Share of the head's median; the least of the three axes, since detail differs by axis."""
    if np.count_nonzero(head) < LEAST_VOXELS:
        return 0.0
    signal = float(np.median(array[head]))
    found = []
    for axis in range(3):
        if array.shape[axis] < 3:
            continue
        # Every third triple: neighbours overlap.
        low, middle, high = (
            np.take(array, range(k, array.shape[axis] - 2 + k, 3), axis) for k in range(3)
        )
        a, b, c = (np.take(head, range(k, array.shape[axis] - 2 + k, 3), axis) for k in range(3))
        inside = a & b & c & (middle > signal)  # white matter: the least detail
        if np.count_nonzero(inside) >= LEAST_VOXELS:
            rest = (low - 2 * middle + high)[inside]
            found.append(MAD * float(np.median(np.abs(rest - np.median(rest)))) / np.sqrt(6))
    return float(min(found)) / signal if found and signal > 0 else 0.0


def _ghost(array: NDArray[np.float32], spacing: tuple[float, float, float]) -> float:
    """Share of the head's median by which the brightest patches of air stand out of the air."""
    steps = [max(1, round(STEP_MM / size)) for size in spacing]
    array = array[:: steps[0], :: steps[1], :: steps[2]]
    sampling = np.array(steps) * np.asarray(spacing)
    # Smoothed, so that noise is no head.
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
    # A patch counts where at least half of it is air.
    patches = (mean / np.maximum(share, 1e-6))[away & (share > 0.5)]
    if not patches.size:
        return 0.0
    stands = float(np.percentile(patches, 98) - np.median(patches))
    return stands / max(float(np.median(array[head])), 1e-6)
