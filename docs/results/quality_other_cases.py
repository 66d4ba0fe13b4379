"""The faults of quality_cases.py, simulated in other ways: limits must not fit one simulation.

Used by quality_control.py.
"""

from dataclasses import replace

import numpy as np
from quality_cases import Array, Fault, Head, smooth
from scipy import ndimage
from scipy.spatial.transform import Rotation


def voxel(head: Head) -> Array:
    """Voxel size in mm [3]."""
    size: Array = np.linalg.norm(head.affine[:3, :3], axis=0)
    return size


# --- motion ---


def posed(head: Head, degrees: Array, shift_mm: Array) -> Array:
    """The image turned about its middle and shifted."""
    step, middle = voxel(head), (np.array(head.image.shape) - 1) / 2
    turn = Rotation.from_euler("XYZ", degrees, degrees=True).as_matrix()
    matrix = np.diag(1 / step) @ turn @ np.diag(step)
    offset = middle - matrix @ middle - matrix @ (shift_mm / step)
    moved: Array = ndimage.affine_transform(head.image, matrix, offset, order=1)
    return moved


def sudden_moves(head: Head, rng: np.random.Generator) -> Head:
    """Two to five sudden moves about all axes, phases encoded along any axis."""
    axis, count = int(rng.integers(3)), int(rng.integers(2, 6))
    size = head.image.shape[axis]
    cuts = np.sort(rng.choice(np.arange(4, size - 4), count, replace=False))
    edges = [0, *cuts, size]
    poses = [(rng.normal(0, 4, 3), rng.normal(0, 4, 3)) for _ in range(count + 1)]
    middle = int(np.searchsorted(cuts, size // 2, side="right"))
    spectrum = np.zeros(head.image.shape, np.complex64)
    for part, (turn, shift) in enumerate(poses):
        moved = head.image
        if part != middle:
            moved = posed(head, turn - poses[middle][0], shift - poses[middle][1])
        rows = [slice(None)] * 3
        rows[axis] = slice(edges[part], edges[part + 1])
        lines = np.fft.fftshift(np.fft.fft(moved, axis=axis), axes=axis)
        spectrum[tuple(rows)] = lines[tuple(rows)]
    image = np.abs(np.fft.ifft(np.fft.ifftshift(spectrum, axes=axis), axis=axis))
    return replace(head, image=image.astype(np.float32))


def tremor(head: Head, rng: np.random.Generator) -> Head:
    """A periodic shift with a drift: each line of k-space has its own phase."""
    axis, shape = int(rng.integers(3)), head.image.shape
    time = np.arange(shape[axis])
    amplitude, period = rng.normal(0, 2, 3), rng.uniform(3, 12)
    way = np.sin(2 * np.pi * time / period + rng.uniform(0, 6))
    way += 0.5 * np.cumsum(rng.normal(0, 0.3, len(time)))
    way -= way[len(time) // 2]
    waves = [
        np.fft.fftshift(np.fft.fftfreq(n, step)).reshape(np.roll([-1, 1, 1], k)) * mm
        for k, (n, step, mm) in enumerate(zip(shape, voxel(head), amplitude, strict=True))
    ]
    phase = sum(waves) * way.reshape(np.roll([-1, 1, 1], axis))
    spectrum = np.fft.fftshift(np.fft.fftn(head.image)) * np.exp(-2j * np.pi * phase)
    image = np.abs(np.fft.ifftn(np.fft.ifftshift(spectrum)))
    return replace(head, image=image.astype(np.float32))


# --- masses and lesions ---


def around(head: Head, rng: np.random.Generator) -> tuple[Array, Array, Array]:
    """A voxel of the cerebrum 15 mm or more below the skull; indices; mm from that voxel."""
    deep = ndimage.distance_transform_edt(head.labels >= 2, sampling=voxel(head)) > 15
    places = np.argwhere(deep & head.among(3, 4, 5, 6))
    middle = places[rng.integers(len(places))].astype(float)
    where = np.indices(head.image.shape).astype(np.float32)
    away = (where - middle.reshape(3, 1, 1, 1)) * voxel(head).reshape(3, 1, 1, 1)
    return middle, where, np.sqrt((away**2).sum(0)) + 1e-3


def growing_mass(head: Head, rng: np.random.Generator) -> Head:
    """A gray tumor of 36 to 50 mm with edema; incompressible tissue makes room, up to the skull."""
    radius = rng.uniform(18, 25)
    middle, where, away = around(head, rng)
    depth = ndimage.distance_transform_edt(head.labels >= 2, sampling=voxel(head))
    push = (away - np.cbrt(np.maximum(away**3 - radius**3, 0))) * np.clip(depth / 12, 0, 1)
    push = ndimage.gaussian_filter(push * (head.labels >= 2), 1.0)
    core = (away < radius + 2 * smooth(rng, away.shape, 3)) & (head.labels >= 2)
    at = where - (where - middle.reshape(3, 1, 1, 1)) / away * push
    image = ndimage.map_coordinates(head.image, at, order=1, mode="nearest")
    white = ndimage.map_coordinates(head.among(5, 6).astype(np.uint8), at, order=0) > 0
    level = rng.uniform(0.5, 0.8)
    image[(away < radius + 12) & ~core & white] *= 0.78
    image[core] = head.white * (level + 0.08 * smooth(rng, away.shape, 2)[core])
    return replace(head, image=ndimage.gaussian_filter(image, 0.35).astype(np.float32))


def infiltrating(head: Head, rng: np.random.Generator) -> Head:
    """A low-grade glioma of 50 to 70 mm: white matter and cortex of one dull gray, no pressure."""
    middle, _, away = around(head, rng)
    left = head.labels[tuple(middle.astype(int))] in (3, 5)
    region = away < rng.uniform(25, 35) + 6 * smooth(rng, away.shape, 4)
    region &= head.among(3, 5) if left else head.among(4, 6)
    share = ndimage.gaussian_filter(region.astype(np.float32), 1.0)
    dull = head.white * rng.uniform(0.55, 0.7) + 0.25 * (head.image - 0.8 * head.white)
    image = head.image * (1 - share) + share * dull
    return replace(head, image=image.astype(np.float32))


def infarct(head: Head, rng: np.random.Generator) -> Head:
    """An old infarct: in a cone of one hemisphere, cortex and white matter are fluid."""
    side = int(rng.integers(2))
    middle = np.array(ndimage.center_of_mass(head.among(10 + side))).reshape(3, 1, 1, 1)
    away = (np.indices(head.image.shape) - middle) * voxel(head).reshape(3, 1, 1, 1)
    distance = np.sqrt((away**2).sum(0)) + 1e-3
    axis = np.array([-1.0 if side == 0 else 1.0, rng.normal(0, 0.6), rng.normal(0.3, 0.4)])
    along = (away * (axis / np.linalg.norm(axis)).reshape(3, 1, 1, 1)).sum(0) / distance
    angle = np.arccos(np.clip(along, -1, 1)) + 0.12 * smooth(rng, distance.shape, 3)
    cone = angle < np.radians(rng.uniform(28, 42))
    region = cone & head.among(3 + side, 5 + side) & (distance > rng.uniform(18, 28))
    share = ndimage.gaussian_filter(region.astype(np.float32), 0.7)
    image = head.image * (1 - share) + share * head.white * rng.uniform(0.2, 0.4)
    return replace(head, image=image.astype(np.float32))


# --- contrast agent ---


def gadolinium(head: Head, rng: np.random.Generator) -> Head:
    """Bright sinuses along the midline and the tentorium, winding veins, plexus and mucosa."""
    step, shape = voxel(head), head.image.shape
    bright = head.white * rng.uniform(1.4, 2.0)
    brain = ndimage.binary_closing(head.brain, iterations=3)

    def away(mask: Array) -> Array:
        distance: Array = ndimage.distance_transform_edt(~mask, sampling=step)
        return distance

    outside, inside, where = away(brain), away(~brain), np.indices(shape)
    _, back, high = ndimage.center_of_mass(brain)
    middle = (away(head.among(3, 5)) < 6) & (away(head.among(4, 6)) < 6)
    below, above = away(head.among(7, 8)), away(head.among(3, 4))
    upper = (where[2] > high) | (where[1] < back - 30 / step[1])
    sagittal = (outside > 0) & (outside < 6) & middle & upper
    lateral = (outside > 0) & (outside < 7) & (below < 9) & (above < 9)
    region = sagittal | lateral | ((below < 5) & (above < 5) & middle & (head.labels < 3))
    starts = np.argwhere(sagittal)
    for _ in range(14):
        point = starts[rng.integers(len(starts))].astype(float)
        way = np.array([rng.choice([-1, 1]), rng.normal(0, 0.5), -0.2])
        for _ in range(35):
            at = np.round(point).astype(int)
            if (at < 1).any() or (at >= np.array(shape) - 1).any():
                break
            region[tuple(at)] = True
            way += rng.normal(0, 0.35, 3)
            way /= np.linalg.norm(way)
            point = point + way
            at = np.clip(np.round(point).astype(int), 1, np.array(shape) - 2)
            point[2] += float(inside[tuple(at)] > 3) - float(outside[tuple(at)] > 4)
    region |= head.among(10, 11) & (smooth(rng, shape, 1.2) > 1.8)
    face = (where[2] < high - 40 / step[2]) & (where[1] > back + 20 / step[1])
    region |= (head.labels < 2) & face & (smooth(rng, shape, 1.5) > 1.2)
    share = np.clip(1.3 * ndimage.gaussian_filter(region.astype(np.float32), 0.45), 0, 1)
    image = np.maximum(head.image, head.image * (1 - share) + share * bright)
    return replace(head, image=image.astype(np.float32))


OTHERS: dict[str, Fault] = {
    "sudden moves": sudden_moves,
    "tremor": tremor,
    "growing mass": growing_mass,
    "infiltrating tumor": infiltrating,
    "infarct": infarct,
    "gadolinium": gadolinium,
}
