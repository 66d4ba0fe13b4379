"""One synthetic person: an ICBM152 brain with its own shape, scanner and, by degree, atrophy.

`draw_person` draws all random parameters, `make_subject` applies them: the same person can be
made again with another severity, at another resolution. An image point is carried backwards,
head position -> the person's shape -> disease -> age -> template, and the template is read there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from uncus.data.phantom.anatomy import Anatomy, Field, Floats

# Severity (0: none, 1: late disease) is even over these ranges, so classes grade into each other.
SEVERITY: Mapping[str, tuple[float, float]] = MappingProxyType(
    {"CN": (0.0, 0.25), "MCI": (0.2, 0.55), "AD": (0.5, 1.0)}
)
CONFOUNDERS = ("none", "site", "age")
# Movement at severity 1, in units of the edge fields (about mm at a flat edge).
DISEASE = MappingProxyType({"hippocampus": 1.8, "ventricles": 10.0, "temporal": 1.2})
# Normal ageing, per ten years from the template's young adults on, in everybody.
AGEING = MappingProxyType({"ventricles": 1.2, "cortex": 0.1})
YOUNG = 55.0
# Disease counts as visible where it moves tissue by more than this (mm).
VISIBLE = 0.5

FIELD_OF_VIEW = np.array([192.0, 228.0, 192.0])  # mm
CENTRE = np.array([0.0, -17.0, 4.0])  # of the template's brain, mm
CONTROL_SPACING = 20.0  # mm between the control points of a person's shape
# A cubic B-spline deformation is one-to-one below this share of the control spacing
# (Choi and Lee, Graphical Models 62, 2000: 1 / 2.48).
ONE_TO_ONE = 0.4


@dataclass(frozen=True)
class Person:
    """All that makes one synthetic subject; lengths in mm, angles in radians, age in years.

    `moves` are amounts of the anatomy's motions: `disease` at severity 1, `shape` whatever the
    severity (age and the spread between healthy people).
    """

    name: str
    age: float
    sex: str
    diagnosis: str
    severity: float
    site: str
    disease: Mapping[str, float]
    shape: Mapping[str, float]
    scale: NDArray[np.float64]
    angles: NDArray[np.float64]
    shift: NDArray[np.float64]
    controls: Floats
    grey: float
    fluid: float
    gain: float
    bias: Floats
    noise: float
    noise_seed: tuple[int, ...]
    flipped: bool


@dataclass(frozen=True)
class Subject:
    """What `make_subject` returns; arrays [X, Y, Z] are RAS+ with `affine` (mm).

    Parameters
    ----------
    image: int16, brain only, 0 outside it
    atrophy: bool, where disease moves this subject's tissue by more than `VISIBLE` mm
    hippocampi, ventricles: their true volumes, ml
    """

    image: NDArray[np.int16]
    atrophy: NDArray[np.bool_]
    affine: NDArray[np.float64]
    hippocampi: float
    ventricles: float


def draw_person(
    seed: int,
    index: int,
    classes: Sequence[str] = ("CN", "AD"),
    confounder: str = "none",
    strength: float = 1.0,
) -> Person:
    """Draw subject `index` of the cohort `seed`; it does not depend on how many others there are.

    Diagnoses are balanced: every K subjects in a row hold each of the K classes once.
    `confounder` ties the site (a scanner of its own) or the age to how diseased a class is, at a
    `strength` from 0 (not) to 1 (every late patient from site B; 12 years between the classes).
    """
    order = np.random.default_rng([seed, index // len(classes), 1]).permutation(len(classes))
    diagnosis = classes[int(order[index % len(classes)])]
    low, high = SEVERITY[diagnosis]
    # How far the class lies from the middle of the disease, -1 to 1: what a confounder follows.
    lean = float(np.sign(low + high - 0.8)) * strength
    rng = np.random.default_rng([seed, index, 2])
    severity = float(rng.uniform(low, high))
    age = float(np.clip(72 + 6 * rng.standard_normal() + 6 * lean * (confounder == "age"), 50, 95))
    sex = "M" if rng.random() < 0.5 else "F"
    site = "B" if rng.random() < 0.5 + 0.5 * lean * (confounder == "site") else "A"
    other_scanner = confounder == "site" and site == "B"
    spread = rng.standard_normal(4)
    noise = float(rng.uniform(0.012, 0.03))
    return Person(
        name=f"P{index + 1:04d}",
        age=round(age, 1),
        sex=sex,
        diagnosis=diagnosis,
        severity=severity,
        site=site,
        disease={
            name: amount * float(np.clip(1 + 0.15 * z, 0.6, 1.4))
            for (name, amount), z in zip(DISEASE.items(), spread, strict=False)
        },
        shape={
            "ventricles": AGEING["ventricles"] * (age - YOUNG) / 10 + 1.2 * float(spread[3]),
            "cortex": AGEING["cortex"] * (age - YOUNG) / 10,
        },
        scale=(1.0 if sex == "M" else 0.96) * (1 + 0.03 * rng.standard_normal(3).clip(-2, 2)),
        angles=np.radians(3 * rng.standard_normal(3).clip(-2, 2)),
        shift=3 * rng.standard_normal(3).clip(-2, 2),
        controls=draw_controls(rng),
        grey=float(rng.uniform(0.70, 0.77)) + 0.06 * other_scanner,
        fluid=float(rng.uniform(0.28, 0.38)) + 0.05 * other_scanner,
        gain=float(rng.uniform(500, 900)) * (1.6 if other_scanner else 1.0),
        bias=(1.7 if other_scanner else 1.0) * draw_bias(rng),
        noise=noise * (1.8 if other_scanner else 1.0),
        noise_seed=(seed, index, 3),
        flipped=bool(rng.random() < 0.25),
    )


def draw_controls(rng: np.random.Generator) -> Floats:
    """Control points of a smooth random shape [3, X, Y, Z], mm, small enough to be one-to-one."""
    shape = np.ceil(FIELD_OF_VIEW / CONTROL_SPACING).astype(int) + 4
    white = rng.standard_normal((3, *shape))
    broad = ndimage.gaussian_filter(white, (0, 1.5, 1.5, 1.5))
    fine = ndimage.gaussian_filter(rng.standard_normal((3, *shape)), (0, 0.5, 0.5, 0.5))
    mixed = 3.0 * broad / broad.std() + 1.8 * fine / fine.std()
    limit = ONE_TO_ONE * CONTROL_SPACING
    controls: Floats = mixed.clip(-limit, limit).astype(np.float32)
    return controls


def draw_bias(rng: np.random.Generator) -> Floats:
    """Cosine coefficients of the log of a coil's sensitivity [4, 4, 4], lower waves stronger."""
    order = np.indices((4, 4, 4)).sum(axis=0)
    drawn = 0.08 * rng.standard_normal(order.shape) * 0.5 ** np.maximum(order - 1, 0)
    coefficients: Floats = drawn.astype(np.float32)
    coefficients[0, 0, 0] = 0
    return coefficients


def registered(person: Person) -> Person:
    """The same person with the head where the template's lies, turned and sized as it is."""
    return replace(person, scale=np.ones(3), angles=np.zeros(3), shift=np.zeros(3))


def image_grid(spacing: float) -> tuple[tuple[int, int, int], NDArray[np.float64]]:
    """Shape and RAS+ affine (mm) of every image of `spacing` mm; the head moves, the grid stays."""
    x, y, z = (int(n) for n in np.ceil(FIELD_OF_VIEW / spacing))
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = CENTRE - spacing * (np.array([x, y, z]) - 1) / 2
    return (x, y, z), affine


def make_subject(
    person: Person, anatomy: Anatomy, spacing: float, severity: float | None = None
) -> Subject:
    """The image of `person` at `spacing` mm and the truth about it.

    `severity` replaces the person's own, all else unchanged: what would they look like if ...
    """
    severity = person.severity if severity is None else severity
    shape, affine = image_grid(spacing)
    inside, points = brain_points(person, anatomy, shape, affine)
    healthy = carry(points, anatomy, {k: severity * v for k, v in person.disease.items()})
    visible = np.linalg.norm(healthy - points, axis=0) > VISIBLE
    source = carry(healthy, anatomy, person.shape)

    grey, white, brain, texture = anatomy.tissue.at(source)
    hippocampi, ventricles = anatomy.structures.at(source).sum(axis=1, dtype=np.float64)
    fluid = np.clip(brain - grey - white, 0, 1)
    # Brain edges are cut as skull-stripping cuts them: inside is inside.
    signal = (person.grey * grey + white + person.fluid * fluid + texture) / brain.clip(0.5)
    in_brain = brain > 0.5

    image = np.zeros(shape, dtype=np.float32)
    image[inside] = np.where(in_brain, signal, 0)
    atrophy = np.zeros(shape, dtype=bool)
    atrophy[inside] = visible & in_brain
    millilitres = spacing**3 / 1000
    return Subject(
        scan(image, person), atrophy, affine, hippocampi * millilitres, ventricles * millilitres
    )


def brain_points(
    person: Person, anatomy: Anatomy, shape: tuple[int, int, int], affine: NDArray[np.float64]
) -> tuple[NDArray[np.bool_], Floats]:
    """Voxels near the brain [X, Y, Z], and where each lies in the healthy shape [3, N] (mm)."""
    voxels = np.indices(shape, dtype=np.float32).reshape(3, -1)
    world = affine[0, 0] * voxels + affine[:3, 3:].astype(np.float32)
    points = (backward(person) @ (world - (CENTRE + person.shift)[:, None])).astype(np.float32)
    points += CENTRE[:, None].astype(np.float32)
    # Far from the brain nothing needs to be read. Shape moves points by up to 8 mm, all else by 2.
    gap = brain_distance(anatomy)
    keep = gap.at(points)[0] < 11
    points = points[:, keep]
    points += shape_field(person).at(points)
    near = gap.at(points)[0] < 4
    keep[keep] = near
    points = points[:, near]
    return keep.reshape(shape), points


@lru_cache(maxsize=2)
def brain_distance(anatomy: Anatomy) -> Field:
    """Distance (mm) from the template's brain, on a lattice of 4 mm that holds the whole image."""
    step, rim = 4, 12
    brain = np.pad(anatomy.tissue.values[2, ::step, ::step, ::step] > 0, rim)
    distance = ndimage.distance_transform_edt(~brain, sampling=step).astype(np.float32)
    return Field(distance[None], anatomy.tissue.origin - rim * step, float(step))


def shape_field(person: Person) -> Field:
    """The person's own shape, a cubic B-spline of its control points, on a lattice of 5 mm."""
    step = 0.25  # of the control spacing
    basis = []
    for size in person.controls.shape[1:]:
        where = np.arange(1, size - 2 + step / 2, step)
        apart = np.abs(where[:, None] - np.arange(size))
        inner = 2 / 3 - apart**2 + apart**3 / 2
        outer = np.clip(2 - apart, 0, None) ** 3 / 6
        basis.append(np.where(apart < 1, inner, outer).astype(np.float32))
    values = np.einsum("cijk,xi,yj,zk->cxyz", person.controls, *basis, optimize=True)
    origin = CENTRE - FIELD_OF_VIEW / 2 - CONTROL_SPACING / 2
    return Field(np.ascontiguousarray(values), origin, step * CONTROL_SPACING)


def backward(person: Person) -> NDArray[np.float64]:
    """Turns and scales image points, relative to the head's centre, into template points [3, 3]."""
    matrix = np.eye(3)
    for axis, angle in enumerate(person.angles):
        turn = np.eye(3)
        i, j = [k for k in range(3) if k != axis]
        turn[i, i] = turn[j, j] = np.cos(angle)
        turn[i, j], turn[j, i] = -np.sin(angle), np.sin(angle)
        matrix = turn @ matrix
    return np.diag(1 / person.scale) @ matrix


def forward(person: Person, point: Sequence[float]) -> tuple[float, float, float]:
    """Where a template point (mm) lies in the person's scan, but for their own shape (mm)."""
    away = np.asarray(point, dtype=np.float64) - CENTRE
    x, y, z = CENTRE + person.shift + np.linalg.solve(backward(person), away)
    return float(x), float(y), float(z)


def carry(points: Floats, anatomy: Anatomy, amounts: Mapping[str, float]) -> Floats:
    """Carry `points` [3, N] (mm) along the anatomy's motions, backwards in time.

    The motion is the flow of a stationary velocity, followed in steps about 1 mm: however
    large the amount, tissue is squeezed or stretched but never torn or folded.
    """
    first = next(iter(anatomy.motion.values()))
    velocity = np.zeros_like(first.values)
    for name, amount in amounts.items():
        velocity += np.float32(amount) * anatomy.motion[name].values
    steps = int(np.ceil(max(map(abs, amounts.values()), default=0.0) / 1.8))
    if steps == 0:
        return points
    field = Field(velocity / np.float32(steps), first.origin, first.spacing)
    for _ in range(steps):
        points = points + field.at(points)
    return points


def scan(image: Floats, person: Person) -> NDArray[np.int16]:
    """The person's scanner: uneven coil, Rician noise, arbitrary units [X, Y, Z]."""
    brain = image > 0
    waves = [
        np.cos(np.pi * np.outer(np.arange(k), (np.arange(n) + 0.5) / n)).astype(np.float32)
        for k, n in zip(person.bias.shape, image.shape, strict=True)
    ]
    bias = np.exp(np.einsum("abc,ax,by,cz->xyz", person.bias, *waves, optimize=True))
    rng = np.random.default_rng(person.noise_seed)
    real, imaginary = person.noise * rng.standard_normal((2, int(brain.sum())), dtype=np.float32)
    values = np.hypot(image[brain] * bias[brain] + real, imaginary)
    out = np.zeros(image.shape, dtype=np.int16)
    # Brain voxels stay above the background, which is 0.
    out[brain] = np.clip(np.rint(person.gain * values), 1, 32767).astype(np.int16)
    return out
