"""Good scans, and faults planted in them: what quality control must answer, warn of or refuse.

A head is an array at 2 mm in RAS+ with its labels (see uncus.data.segmentation.labels). Used by
quality_control.py.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Array = NDArray[Any]
FLUID, GRAY, WHITE, VENTRICLES = (2,), (3, 4), (5, 6), (10, 11)


@dataclass(frozen=True, eq=False)
class Head:
    """A head: float32 [X, Y, Z], bright tissue about 1, and labels; affine: index -> mm, RAS+."""

    image: Array
    labels: Array
    affine: Array

    def among(self, *labels: int) -> Array:
        """Where some labels are."""
        return np.isin(self.labels, labels)

    @property
    def white(self) -> float:
        """The median of the white matter."""
        return float(np.median(self.image[self.among(*WHITE)]))

    @property
    def brain(self) -> Array:
        """The brain without the fluid around it."""
        return self.labels >= 3


def smooth(rng: np.random.Generator, shape: tuple[int, ...], sigma: float) -> Array:
    """Smooth noise of unit variance."""
    noise = ndimage.gaussian_filter(rng.normal(size=shape), sigma)
    return noise / noise.std()


# --- other contrasts ---


def levels(head: Head, fluid: float, gray: float, white: float, outside: float) -> Head:
    """Another contrast: each tissue keeps its texture and gets another mean."""
    image = head.image.copy()
    for labels, level in ((FLUID + VENTRICLES, fluid), (GRAY, gray), (WHITE, white), ((1,), None)):
        part = head.among(*labels)
        if not part.any():
            continue
        if level is None:
            image[part] *= outside
        else:
            texture = image[part] / max(float(np.median(image[part])), 1e-3)
            image[part] = level * np.clip(1 + 0.4 * (texture - 1), 0.3, 2)
    deep = head.among(7, 8, 12, 13, 14, 15, 16, 17, 18, 19)
    image[deep] = gray * np.clip(image[deep] / max(float(np.median(image[deep])), 1e-3), 0.5, 1.5)
    image[head.among(9)] = white
    return replace(head, image=ndimage.gaussian_filter(image, 0.4).astype(np.float32))


def t2(head: Head, rng: np.random.Generator) -> Head:
    """T2-weighted: fluid brightest, white matter darkest."""
    return levels(head, 1.0, rng.uniform(0.5, 0.65), rng.uniform(0.33, 0.45), 0.5)


def flair(head: Head, rng: np.random.Generator) -> Head:
    """FLAIR: fluid dark, gray matter brighter than white."""
    return levels(head, rng.uniform(0.08, 0.2), 1.0, rng.uniform(0.75, 0.88), 0.6)


def proton_density(head: Head, rng: np.random.Generator) -> Head:
    """PD-weighted: gray matter and fluid brighter than white matter."""
    return levels(head, rng.uniform(0.8, 1.1), 1.0, rng.uniform(0.78, 0.88), 0.7)


def reverse(head: Head, rng: np.random.Generator) -> Head:
    """Dark and light reversed."""
    return replace(head, image=(np.percentile(head.image, 99.5) - head.image).clip(0))


def ct(head: Head, rng: np.random.Generator) -> Head:
    """A CT in a brain window: flat brain, bright bone, fluid darker than tissue."""
    image = np.where(head.brain, 0.55, np.where(head.labels == 2, 0.4, 0.0))
    shell = ndimage.binary_dilation(head.labels >= 2, iterations=5) & (head.labels < 2)
    shell &= ~ndimage.binary_dilation(head.labels >= 2, iterations=1)
    image[(head.labels == 1) & ~shell] = 0.5
    image[shell] = 1.5
    image[head.among(*GRAY)] += 0.02
    image += 0.03 * rng.normal(size=image.shape)
    return replace(head, image=ndimage.gaussian_filter(image, 0.5).clip(0).astype(np.float32))


def angiography(head: Head, rng: np.random.Generator) -> Head:
    """Time-of-flight angiography: a dim, flat brain and bright vessels at its base."""
    image = 0.35 * levels(head, 0.6, 1.0, 0.95, 0.6).image
    vessels = np.abs(smooth(rng, image.shape, 3)) < 0.05
    low = np.cumsum(head.brain.sum((0, 1))) < 0.5 * head.brain.sum()
    image[vessels & low[None, None] & ((head.labels == 2) | head.brain)] = 1.2
    return replace(head, image=image.astype(np.float32))


# --- no human heads ---


def small(head: Head, rng: np.random.Generator) -> Head:
    """An animal's size: half of a human's along each axis, and longer."""
    factor = np.array([1.0, 1.25, 0.9]) * rng.uniform(0.42, 0.55)
    zoomed = [ndimage.zoom(a, factor, order=o) for a, o in ((head.image, 1), (head.labels, 0))]
    return replace(head, image=zoomed[0], labels=zoomed[1])


def grid_phantom(head: Head, rng: np.random.Generator) -> Head:
    """A sphere of fluid with a grid of plastic."""
    where = np.indices(head.image.shape) - np.array(head.image.shape).reshape(3, 1, 1, 1) / 2
    inside = (where**2).sum(0) < (45 - rng.uniform(0, 8)) ** 2
    bars = (where[0] % 8 < 2) | (where[1] % 8 < 2)
    image = inside * np.where(bars, 0.15, 1.0) + 0.02 * np.abs(rng.normal(size=inside.shape))
    return replace(head, image=image.astype(np.float32), labels=np.zeros_like(head.labels))


# --- faults that can change the answer ---


def noisy(head: Head, rng: np.random.Generator) -> Head:
    """Rician noise of a third of the white matter."""
    real, other = rng.normal(0, 0.35, (2, *head.image.shape))
    return replace(head, image=np.hypot(head.image + real, other).astype(np.float32))


def motion(head: Head, rng: np.random.Generator) -> Head:
    """The head nods during the scan: a part of k-space is of other positions."""
    image = head.image
    spectrum = np.fft.fftn(image)
    for _ in range(4):
        angle, shift = rng.normal(0, 5), rng.normal(0, 3, 3)
        moved = ndimage.shift(ndimage.rotate(image, angle, (1, 2), False, order=1), shift, order=1)
        first = rng.integers(0, image.shape[1] - 12)
        rows = (np.arange(first, first + 12) + image.shape[1] // 2) % image.shape[1]
        spectrum[:, rows] = np.fft.fftn(moved)[:, rows]
    moved = np.abs(np.fft.ifftn(spectrum))
    return replace(head, image=moved.astype(np.float32))


def cut_above(head: Head, rng: np.random.Generator) -> Head:
    """16 to 24 mm of the brain are above the field of view."""
    top = int(np.flatnonzero(head.brain.any((0, 1)))[-1]) - int(rng.integers(8, 13))
    return replace(head, image=head.image[:, :, :top], labels=head.labels[:, :, :top])


def cut_below(head: Head, rng: np.random.Generator) -> Head:
    """The cerebellum is cut off below: 20 to 30 mm of the brain."""
    low = int(np.flatnonzero(head.brain.any((0, 1)))[0]) + int(rng.integers(10, 16))
    affine = head.affine.copy()
    affine[:3, 3] += affine[:3, 2] * low
    return replace(
        head, image=head.image[:, :, low:], labels=head.labels[:, :, low:], affine=affine
    )


def _tumor(head: Head, rng: np.random.Generator, radius_mm: float) -> Array:
    """A region [X, Y, Z] in one hemisphere, irregular."""
    inside = head.among(*GRAY, *WHITE)
    deep = ndimage.distance_transform_edt(inside | head.among(*range(10, 20))) * 2 > radius_mm * 0.5
    places = np.argwhere(deep & inside)
    middle = places[rng.integers(len(places))]
    away = np.sqrt(((np.indices(head.image.shape) - middle.reshape(3, 1, 1, 1)) ** 2).sum(0)) * 2
    return (away + 3 * smooth(rng, head.image.shape, 3) < radius_mm) & (head.labels >= 2)


def dark_lesion(head: Head, rng: np.random.Generator) -> Head:
    """An old infarct or a cyst, 40 to 56 mm across, dark as fluid."""
    region = _tumor(head, rng, rng.uniform(20, 28))
    image = head.image.copy()
    texture = 0.04 * rng.normal(size=int(region.sum()))
    image[region] = head.white * (rng.uniform(0.25, 0.45) + texture)
    return replace(head, image=ndimage.gaussian_filter(image, 0.4).astype(np.float32))


def rim_lesion(head: Head, rng: np.random.Generator) -> Head:
    """A glioblastoma: dark core, bright rim, gray edema around, 40 to 56 mm across."""
    region = _tumor(head, rng, rng.uniform(20, 28))
    depth = ndimage.distance_transform_edt(region) * 2
    image = head.image.copy()
    edema = ndimage.binary_dilation(region, iterations=4) & head.among(*WHITE)
    image[edema] *= 0.75
    image[region] = head.white * (0.4 + 0.05 * rng.normal(size=int(region.sum())))
    image[region & (depth < 5)] = head.white * rng.uniform(1.3, 1.8)
    return replace(head, image=ndimage.gaussian_filter(image, 0.4).astype(np.float32))


def bright_lesion(head: Head, rng: np.random.Generator) -> Head:
    """A meningioma with contrast agent or a hematoma: bright, 36 to 50 mm across."""
    region = _tumor(head, rng, rng.uniform(18, 25))
    image = head.image.copy()
    texture = 0.05 * rng.normal(size=int(region.sum()))
    image[region] = head.white * (rng.uniform(1.4, 1.8) + texture)
    return replace(head, image=ndimage.gaussian_filter(image, 0.4).astype(np.float32))


def mass(head: Head, rng: np.random.Generator) -> Head:
    """A gray tumor of 40 to 56 mm that pushes the midline and the ventricle aside."""
    region = _tumor(head, rng, rng.uniform(20, 28))
    middle = np.array(ndimage.center_of_mass(region)).reshape(3, 1, 1, 1)
    where = np.indices(head.image.shape).astype(np.float32)
    radius = np.sqrt(((where - middle) ** 2).sum(0)) + 1e-3
    push = 6.0 * np.exp(-(((radius - 10) / 14).clip(0) ** 2)) * (head.labels >= 2)
    push = ndimage.gaussian_filter(push, 1.5)
    at = where - (where - middle) / radius * push
    image = ndimage.map_coordinates(head.image, at, order=1, mode="nearest")
    core = radius < 12 + 1.5 * smooth(rng, head.image.shape, 3)
    core &= head.labels >= 2
    image[core] = head.white * (0.68 + 0.06 * rng.normal(size=int(core.sum())))
    return replace(head, image=ndimage.gaussian_filter(image, 0.4).astype(np.float32))


def contrast_agent(head: Head, rng: np.random.Generator) -> Head:
    """Bright sinuses, veins, meninges, choroid plexus and mucosa, as after gadolinium."""
    image = head.image.copy()
    inside = head.labels >= 2
    brain = ndimage.binary_closing(head.brain, iterations=3)
    edge = ~brain & ndimage.binary_dilation(brain, iterations=2)
    x = np.arange(image.shape[0])
    middle = float(np.average(x, weights=brain.sum((1, 2))))
    top = np.cumsum(brain.sum((0, 1))) > 0.45 * brain.sum()
    midline = np.abs(x - middle)[:, None, None] <= 2.5
    sinus = edge & midline & top[None, None]
    bright = head.white * rng.uniform(1.4, 2.0)
    veins = edge & (smooth(rng, image.shape, 1.5) > 1.3)
    veins |= inside & ~head.brain & (smooth(rng, image.shape, 1.2) > 1.8)
    image[edge & (smooth(rng, image.shape, 4) > 0.3)] *= rng.uniform(1.2, 1.8)
    image[veins] = bright * 0.9
    image[sinus] = bright
    image[head.among(*VENTRICLES) & (smooth(rng, image.shape, 1.2) > 2.0)] = bright * 0.8
    low = np.cumsum(brain.sum((0, 1))) < 0.05 * brain.sum()
    front = np.cumsum(brain.sum((0, 2))) > 0.6 * brain.sum()
    face = (head.labels == 1) & low[None, None] & front[None, :, None]
    image[face & (smooth(rng, image.shape, 1.5) > 1)] = bright
    return replace(head, image=ndimage.gaussian_filter(image, 0.4).astype(np.float32))


Fault = Callable[[Head, np.random.Generator], Head]
REFUSED: dict[str, Fault] = {
    "T2": t2,
    "FLAIR": flair,
    "PD": proton_density,
    "reversed": reverse,
    "CT": ct,
    "angiography": angiography,
    "animal's size": small,
    "grid phantom": grid_phantom,
}
WARNED: dict[str, Fault] = {
    "noise": noisy,
    "motion": motion,
    "cut above": cut_above,
    "cut below": cut_below,
    "dark lesion": dark_lesion,
    "lesion with a rim": rim_lesion,
    "bright lesion": bright_lesion,
    "mass effect": mass,
    "contrast agent": contrast_agent,
}
