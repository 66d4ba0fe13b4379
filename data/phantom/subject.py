"""Synthetic subjects: ICBM152 brains with individual shapes, scanners and degrees of atrophy.

`draw_parameters` draws all random parameters, `make_subject` applies them, so a subject can be made
again with another severity or resolution. Image points are mapped backwards, head position ->
individual shape -> disease -> age -> template, and the template is interpolated there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from uncus.data.phantom.anatomy import Anatomy, Field, Floats

# Severity (0: none, 1: late disease) is uniform over these ranges, which overlap between classes.
SEVERITY: Mapping[str, tuple[float, float]] = MappingProxyType(
    {"CN": (0.0, 0.25), "MCI": (0.2, 0.55), "AD": (0.5, 1.0)}
)
CONFOUNDERS = ("none", "site", "age")
# Displacement at severity 1, in units of the edge fields (about mm at a flat edge).
DISEASE = MappingProxyType({"hippocampus": 1.8, "ventricles": 10.0, "temporal": 1.2})
# Normal aging, per ten years after TEMPLATE_AGE, in all subjects.
AGING = MappingProxyType({"ventricles": 1.2, "cortex": 0.1})
TEMPLATE_AGE = 55.0
# Atrophy is where disease displaces tissue by more than this (mm).
MIN_DISPLACEMENT = 0.5

FIELD_OF_VIEW = np.array([192.0, 228.0, 192.0])  # mm
CENTER = np.array([0.0, -17.0, 4.0])  # of the template's brain, mm
CONTROL_SPACING = 20.0  # mm between the control points of a shape
# A cubic B-spline deformation is one-to-one below this share of the control spacing
# (Choi and Lee, Graphical Models 62, 2000: 1 / 2.48).
ONE_TO_ONE = 0.4


@dataclass(frozen=True)
class Parameters:
    """The random parameters of one synthetic subject; lengths in mm, angles in radians.

    Amounts of the anatomy's motions are in `disease` for severity 1, and in `shape` for age and
    the variation between healthy subjects.
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
    gray: float
    fluid: float
    gain: float
    bias: Floats
    noise: float
    noise_seed: tuple[int, ...]
    flipped: bool


@dataclass(frozen=True)
class Subject:
    """A synthetic scan and its ground truth; arrays [X, Y, Z] are RAS+ with `affine` (mm).

    Parameters
    ----------
    image: int16, skull-stripped, 0 outside the brain
    atrophy: bool, where disease displaces tissue by more than `MIN_DISPLACEMENT` mm
    hippocampi, ventricles: true volumes, ml
    """

    image: NDArray[np.int16]
    atrophy: NDArray[np.bool_]
    affine: NDArray[np.float64]
    hippocampi: float
    ventricles: float


def severity_range(diagnosis: str, overlap: float = 0.0) -> tuple[float, float]:
    """Lowest and highest severity of a class, widened on both sides by `overlap`."""
    low, high = SEVERITY[diagnosis]
    return max(0.0, low - overlap), min(1.0, high + overlap)


def best_accuracy(classes: Sequence[str], overlap: float = 0.0) -> float:
    """The accuracy of the best classifier that knows each subject's severity (Bayes)."""
    ranges = [severity_range(name, overlap) for name in classes]
    ends = sorted({end for pair in ranges for end in pair})
    return sum(
        (high - low) * max(1 / (b - a) for a, b in ranges if a <= low and high <= b)
        for low, high in pairwise(ends)
        if any(a <= low and high <= b for a, b in ranges)
    ) / len(classes)


def draw_parameters(
    seed: int,
    index: int,
    classes: Sequence[str] = ("CN", "AD"),
    confounder: str = "none",
    strength: float = 1.0,
    overlap: float = 0.0,
) -> Parameters:
    """Draw subject `index` of the cohort `seed`, independently of the number of subjects.

    Diagnoses are balanced: any K consecutive subjects from a multiple of K have K classes.
    `confounder` relates the site (with another scanner) or the age to the severity of the class,
    by a `strength` from 0 (unrelated) to 1 (all AD from site B; 12 years between the classes).
    `overlap` widens the range of each class's severity on both sides, within 0 to 1.
    """
    order = np.random.default_rng([seed, index // len(classes), 1]).permutation(len(classes))
    diagnosis = classes[int(order[index % len(classes)])]
    low, high = severity_range(diagnosis, overlap)
    # Earlier or later than the middle of the disease, -strength to strength.
    stage = float(np.sign(sum(SEVERITY[diagnosis]) - 0.8)) * strength
    rng = np.random.default_rng([seed, index, 2])
    severity = float(rng.uniform(low, high))
    age = float(np.clip(72 + 6 * rng.standard_normal() + 6 * stage * (confounder == "age"), 50, 95))
    sex = "M" if rng.random() < 0.5 else "F"
    site = "B" if rng.random() < 0.5 + 0.5 * stage * (confounder == "site") else "A"
    other_scanner = confounder == "site" and site == "B"
    spread = rng.standard_normal(4)
    noise = float(rng.uniform(0.012, 0.03))
    return Parameters(
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
            "ventricles": AGING["ventricles"] * (age - TEMPLATE_AGE) / 10 + 1.2 * float(spread[3]),
            "cortex": AGING["cortex"] * (age - TEMPLATE_AGE) / 10,
        },
        scale=(1.0 if sex == "M" else 0.96) * (1 + 0.03 * rng.standard_normal(3).clip(-2, 2)),
        angles=np.radians(3 * rng.standard_normal(3).clip(-2, 2)),
        shift=3 * rng.standard_normal(3).clip(-2, 2),
        controls=draw_controls(rng),
        gray=float(rng.uniform(0.70, 0.77)) + 0.06 * other_scanner,
        fluid=float(rng.uniform(0.28, 0.38)) + 0.05 * other_scanner,
        gain=float(rng.uniform(500, 900)) * (1.6 if other_scanner else 1.0),
        bias=(1.7 if other_scanner else 1.0) * draw_bias(rng),
        noise=noise * (1.8 if other_scanner else 1.0),
        noise_seed=(seed, index, 3),
        flipped=bool(rng.random() < 0.25),
    )


def draw_controls(rng: np.random.Generator) -> Floats:
    """Control points [3, X, Y, Z] (mm) of a random smooth one-to-one deformation."""
    shape = np.ceil(FIELD_OF_VIEW / CONTROL_SPACING).astype(int) + 4
    white = rng.standard_normal((3, *shape))
    broad = ndimage.gaussian_filter(white, (0, 1.5, 1.5, 1.5))
    fine = ndimage.gaussian_filter(rng.standard_normal((3, *shape)), (0, 0.5, 0.5, 0.5))
    mixed = 3.0 * broad / broad.std() + 1.8 * fine / fine.std()
    limit = ONE_TO_ONE * CONTROL_SPACING
    controls: Floats = mixed.clip(-limit, limit).astype(np.float32)
    return controls


def draw_bias(rng: np.random.Generator) -> Floats:
    """Cosine coefficients [4, 4, 4] of the log bias field, larger at low frequencies."""
    order = np.indices((4, 4, 4)).sum(axis=0)
    drawn = 0.08 * rng.standard_normal(order.shape) * 0.5 ** np.maximum(order - 1, 0)
    coefficients: Floats = drawn.astype(np.float32)
    coefficients[0, 0, 0] = 0
    return coefficients


def aligned(params: Parameters) -> Parameters:
    """The same subject with the head's position, orientation and size of the template."""
    return replace(params, scale=np.ones(3), angles=np.zeros(3), shift=np.zeros(3))


def image_grid(spacing: float) -> tuple[tuple[int, int, int], NDArray[np.float64]]:
    """Shape and RAS+ affine (mm) of all images of `spacing` mm."""
    x, y, z = (int(n) for n in np.ceil(FIELD_OF_VIEW / spacing))
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = CENTER - spacing * (np.array([x, y, z]) - 1) / 2
    return (x, y, z), affine


def make_subject(
    params: Parameters, anatomy: Anatomy, spacing: float, severity: float | None = None
) -> Subject:
    """Make a subject's scan at `spacing` mm and its ground truth.

    `severity` replaces that of the parameters, all else unchanged.
    """
    severity = params.severity if severity is None else severity
    shape, affine = image_grid(spacing)
    inside, points = brain_points(params, anatomy, shape, affine)
    healthy = flow(points, anatomy, {k: severity * v for k, v in params.disease.items()})
    displaced = np.linalg.norm(healthy - points, axis=0) > MIN_DISPLACEMENT
    source = flow(healthy, anatomy, params.shape)

    gray, white, brain, texture = anatomy.tissue.at(source)
    hippocampi, ventricles = anatomy.structures.at(source).sum(axis=1, dtype=np.float64)
    fluid = np.clip(brain - gray - white, 0, 1)
    # Brain edges are sharp, as after skull-stripping.
    signal = (params.gray * gray + white + params.fluid * fluid + texture) / brain.clip(0.5)
    in_brain = brain > 0.5

    image = np.zeros(shape, dtype=np.float32)
    image[inside] = np.where(in_brain, signal, 0)
    atrophy = np.zeros(shape, dtype=bool)
    atrophy[inside] = displaced & in_brain
    ml = spacing**3 / 1000
    stored = simulate_scanner(image, params)
    return Subject(stored, atrophy, affine, hippocampi * ml, ventricles * ml)


def brain_points(
    params: Parameters, anatomy: Anatomy, shape: tuple[int, int, int], affine: NDArray[np.float64]
) -> tuple[NDArray[np.bool_], Floats]:
    """Voxels near the brain [X, Y, Z], and their points [3, N] (mm) in the template's shape."""
    voxels = np.indices(shape, dtype=np.float32).reshape(3, -1)
    world = affine[0, 0] * voxels + affine[:3, 3:].astype(np.float32)
    points = (backward(params) @ (world - (CENTER + params.shift)[:, None])).astype(np.float32)
    points += CENTER[:, None].astype(np.float32)
    # Skip voxels far from the brain: shape moves points by up to 8 mm, everything else by 2.
    gap = brain_distance(anatomy)
    keep = gap.at(points)[0] < 11
    points = points[:, keep]
    points += shape_field(params).at(points)
    near = gap.at(points)[0] < 4
    keep[keep] = near
    points = points[:, near]
    return keep.reshape(shape), points


@lru_cache(maxsize=2)
def brain_distance(anatomy: Anatomy) -> Field:
    """Distance (mm) from the template's brain, on a lattice of 4 mm that covers the whole image."""
    step, rim = 4, 12
    brain = np.pad(anatomy.tissue.values[2, ::step, ::step, ::step] > 0, rim)
    distance = ndimage.distance_transform_edt(~brain, sampling=step).astype(np.float32)
    return Field(distance[None], anatomy.tissue.origin - rim * step, float(step))


def shape_field(params: Parameters) -> Field:
    """The individual deformation, a cubic B-spline of its control points, on a lattice of 5 mm."""
    step = 0.25  # of the control spacing
    basis = []
    for size in params.controls.shape[1:]:
        positions = np.arange(1, size - 2 + step / 2, step)
        distance = np.abs(positions[:, None] - np.arange(size))
        inner = 2 / 3 - distance**2 + distance**3 / 2
        outer = np.clip(2 - distance, 0, None) ** 3 / 6
        basis.append(np.where(distance < 1, inner, outer).astype(np.float32))
    values = np.einsum("cijk,xi,yj,zk->cxyz", params.controls, *basis, optimize=True)
    origin = CENTER - FIELD_OF_VIEW / 2 - CONTROL_SPACING / 2
    return Field(np.ascontiguousarray(values), origin, step * CONTROL_SPACING)


def backward(params: Parameters) -> NDArray[np.float64]:
    """Matrix [3, 3] from image to template points, both relative to the head's center."""
    matrix = np.eye(3)
    for axis, angle in enumerate(params.angles):
        rotation = np.eye(3)
        i, j = [k for k in range(3) if k != axis]
        rotation[i, i] = rotation[j, j] = np.cos(angle)
        rotation[i, j], rotation[j, i] = -np.sin(angle), np.sin(angle)
        matrix = rotation @ matrix
    return np.diag(1 / params.scale) @ matrix


def forward(params: Parameters, point: Sequence[float]) -> tuple[float, float, float]:
    """Map a template point to the scan (mm), ignoring the individual deformation."""
    offset = np.asarray(point, dtype=np.float64) - CENTER
    x, y, z = CENTER + params.shift + np.linalg.solve(backward(params), offset)
    return float(x), float(y), float(z)


def flow(points: Floats, anatomy: Anatomy, amounts: Mapping[str, float]) -> Floats:
    """Move `points` [3, N] (mm) along the anatomy's motions, backwards in time.

    The motion is the flow of a stationary velocity field, integrated in steps of about 1 mm, so it
    compresses or stretches tissue but never tears or folds it, whatever the amount.
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


def simulate_scanner(image: Floats, params: Parameters) -> NDArray[np.int16]:
    """Apply the scanner's bias field, Rician noise and arbitrary units [X, Y, Z]."""
    brain = image > 0
    waves = [
        np.cos(np.pi * np.outer(np.arange(k), (np.arange(n) + 0.5) / n)).astype(np.float32)
        for k, n in zip(params.bias.shape, image.shape, strict=True)
    ]
    bias = np.exp(np.einsum("abc,ax,by,cz->xyz", params.bias, *waves, optimize=True))
    rng = np.random.default_rng(params.noise_seed)
    real, imaginary = params.noise * rng.standard_normal((2, int(brain.sum())), dtype=np.float32)
    values = np.hypot(image[brain] * bias[brain] + real, imaginary)
    stored = np.zeros(image.shape, dtype=np.int16)
    # Brain voxels stay above the background, which is 0.
    stored[brain] = np.clip(np.rint(params.gain * values), 1, 32767).astype(np.int16)
    return stored
