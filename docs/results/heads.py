"""Transform a segmented head: atrophy, other scanners and headers, cropping; and other objects.

A pair is a head and its brain mask (nibabel images on one grid), which are transformed together.
Used by registration.py.
"""

from collections.abc import Callable
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.processing import conform, resample_from_to
from numpy.typing import NDArray
from scipy import ndimage

Array = NDArray[Any]
Pair = tuple[Any, Any]
VENTRICLES = (4, 5, 14, 15, 43, 44)  # labels of FreeSurfer's aseg


def brain_mask(labels: Any) -> Any:
    """The brain mask from labels above 0: closed by 3 voxels and filled."""
    ball = ndimage.generate_binary_structure(3, 1)
    closed = ndimage.binary_closing(np.asarray(labels.dataobj) > 0, ball, iterations=3)
    filled = ndimage.binary_fill_holes(closed).astype(np.uint8)
    return nib.Nifti1Image(filled, labels.affine)


def values_of(head: Any) -> Array:
    """The voxels as float32 [X, Y, Z]."""
    return np.asarray(head.get_fdata(dtype=np.float32))


def mask_of(brain: Any) -> Array:
    """The mask as bool [X, Y, Z]."""
    return np.asarray(brain.dataobj) > 0


def white_of(pair: Pair) -> float:
    """The approximate intensity of white matter."""
    return float(np.percentile(values_of(pair[0])[mask_of(pair[1])], 85))


def changed(pair: Pair, change: Callable[[Array], Array]) -> Pair:
    """The head with its intensities changed."""
    values = change(values_of(pair[0])).astype(np.float32)
    return nib.Nifti1Image(values, pair[0].affine), pair[1]


# --- ages ---


def atrophied(pair: Pair, labels: Any, ventricles: float, sulci: float, shrink: float) -> Pair:
    """The head with simulated atrophy, by smooth displacements.

    ventricles: mm by which they expand; sulci: mm by which the surface of the cortex recedes;
    shrink: mm by which the whole brain recedes from the skull.
    """
    head, brain = values_of(pair[0]), mask_of(pair[1])
    segmented = np.asarray(labels.dataobj)
    hollow = np.isin(segmented, VENTRICLES)
    tissue = (segmented > 0) & ~hollow
    if not hollow.any():  # a mask without labels: dark parts deep inside
        deep = ndimage.distance_transform_edt(brain) > 20
        dark = deep & (head < 0.45 * white_of(pair))
        hollow = ndimage.binary_opening(dark)
        tissue = brain & (head > 0.4 * white_of(pair)) & ~hollow
    brain_box = ndimage.find_objects(brain.astype(np.uint8))[0]
    box = tuple(
        slice(max(s.start - 14, 0), min(s.stop + 14, n))
        for s, n in zip(brain_box, brain.shape, strict=True)
    )
    part, whole = head[box], (segmented > 0)[box]
    shift = np.zeros((3, *part.shape), np.float32)

    def push(inside: Array, amount: float, reach: tuple[float, float]) -> None:
        """Add a displacement along the distance from ``inside``, fading within ``reach`` mm."""
        inside = inside[box]
        out, deep = (
            ndimage.distance_transform_edt(a).astype(np.float32) for a in (~inside, inside)
        )
        signed = np.where(inside, 0.5 - deep, out - 0.5)
        smooth = ndimage.gaussian_filter(signed, 1.0)
        fade = np.exp(-((np.maximum(smooth, 0) / reach[1]) ** 2))
        fade *= np.exp(-((np.minimum(smooth, 0) / reach[0]) ** 2))
        for axis, slope in enumerate(np.gradient(smooth)):
            shift[axis] += amount * fade * slope

    # Backwards: each point is interpolated at its tissue's original position.
    if ventricles:
        push(hollow, -ventricles, (20.0, 22.0))
    if sulci:
        push(tissue, sulci, (4.0, 3.0))
    if shrink:
        push(brain, shrink, (60.0, 4.0))
    index = np.indices(part.shape, dtype=np.float32) + shift

    def warp(values: Array) -> Array:
        return ndimage.map_coordinates(values.astype(np.float32), index, order=1, mode="nearest")

    warped, mask = head.copy(), np.zeros(head.shape, bool)
    warped[box], mask[box] = warp(part), warp(whole) > 0.5
    ratio = warp(hollow[box]).sum() / max(int(hollow.sum()), 1)
    print(f"  ventricles {ratio:.1f} times as large", flush=True)
    labels = nib.Nifti1Image(mask.astype(np.uint8), pair[0].affine)
    return nib.Nifti1Image(warped.astype(np.float32), pair[0].affine), brain_mask(labels)


def brighter_fat(pair: Pair, scalp: float, marrow: float) -> Pair:
    """Brighter fat: of the scalp by a factor, of marrow to a share of white matter."""
    values, brain, white = values_of(pair[0]), mask_of(pair[1]), white_of(pair)
    away = ndimage.distance_transform_edt(~brain)
    fat = (away > 5) & (values > 0.8 * white)
    bone = (away > 2.5) & (away < 12) & (values < 0.35 * white)
    deep = ndimage.distance_transform_edt(bone)
    head = ndimage.binary_closing(values > 0.35 * white, iterations=6)
    inner = np.clip(deep - 1.2, 0, 1) * head * ndimage.uniform_filter(head.astype(np.float32), 5)
    bright = np.where(fat, values * scalp, values)
    bright = np.maximum(bright, inner * marrow * white)
    return nib.Nifti1Image(bright.astype(np.float32), pair[0].affine), pair[1]


# --- scanners ---


def bias_field(strength: float) -> Callable[[Array], Array]:
    """A smooth multiplicative bias field of about exp(+-strength)."""

    def change(values: Array) -> Array:
        x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in values.shape), indexing="ij")
        return values * np.exp(strength * (x - 0.75 * y * z + 0.5 * z))

    return change


def noisy(share: float) -> Callable[[Array], Array]:
    """Rician noise, relative to the intensity of bright tissue."""

    def change(values: Array) -> Array:
        rng = np.random.default_rng(0)
        real, imaginary = rng.normal(0, share * np.percentile(values, 98), (2, *values.shape))
        return np.hypot(values + real, imaginary)

    return change


def contrast(power: float) -> Callable[[Array], Array]:
    """Another contrast: intensities to a power."""

    def change(values: Array) -> Array:
        top = float(np.percentile(values, 99.5))
        return top * np.clip(values / top, 0, None) ** power

    return change


def aliased(pair: Pair, mm: int) -> Pair:
    """A field of view too short along y: the nose is aliased to the posterior end."""
    head, brain = (nib.as_closest_canonical(image) for image in pair)
    values, flags = values_of(head), mask_of(brain)
    rows = np.flatnonzero(values.mean(axis=(0, 2)) > 0.1 * values.mean())
    last, length = int(rows[-1]) + 1, int(rows[-1]) + 1 - int(rows[0]) - mm
    folded = values[:, last - mm - length : last - mm].copy()
    folded[:, :mm] += values[:, last - mm : last]
    kept = flags[:, last - mm - length : last - mm].astype(np.uint8)
    affine = head.affine @ _shift((0, last - mm - length, 0))
    return nib.Nifti1Image(folded, affine), nib.Nifti1Image(kept, affine)


def ghost(share: float) -> Callable[[Array], Array]:
    """A ghost of the head, shifted by half the field of view along the second axis."""

    def change(values: Array) -> Array:
        return values + share * np.roll(values, values.shape[1] // 2, axis=1)

    return change


# --- geometry ---


def rotated(pair: Pair, degrees: float, axis: int) -> Pair:
    """The head rotated on a fixed grid, as by a tilted patient."""
    angle = np.deg2rad(degrees)
    a, b = [k for k in range(3) if k != axis]
    turn = np.eye(4)
    turn[[a, a, b, b], [a, b, a, b]] = np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)
    return _transformed(pair, turn)


def scaled(pair: Pair, factor: float) -> Pair:
    """A larger or smaller head on the same grid."""
    return _transformed(pair, np.diag([factor, factor, factor, 1.0]))


def _transformed(pair: Pair, matrix: Array) -> Pair:
    affine = pair[0].affine
    shift = np.eye(4)
    shift[:3, 3] = (affine @ [*(np.array(pair[0].shape) / 2), 1])[:3]
    moved = shift @ matrix @ np.linalg.inv(shift) @ affine
    return (
        resample_from_to(nib.Nifti1Image(pair[0].dataobj, moved), pair[0], order=1),
        resample_from_to(nib.Nifti1Image(pair[1].dataobj, moved), pair[0], order=0),
    )


def oriented(pair: Pair, code: str) -> Pair:
    """The same head stored in another voxel order."""
    wanted = nib.orientations.axcodes2ornt(code)
    to = nib.orientations.ornt_transform(nib.io_orientation(pair[0].affine), wanted)
    return pair[0].as_reoriented(to), pair[1].as_reoriented(to)


def wrong_header(pair: Pair, rotation: Array, shift: tuple[float, float, float]) -> Pair:
    """A wrong header: rotated [3, 3] and shifted (mm); the voxels are unchanged."""
    wrong = np.eye(4)
    wrong[:3, :3], wrong[:3, 3] = rotation, shift
    return tuple(nib.Nifti1Image(i.dataobj, wrong @ i.affine) for i in pair)


def rot90(axis: int, times: int = 1) -> Array:
    """Quarter turns about an axis [3, 3]."""
    turn = np.eye(3)
    a, b = [k for k in range(3) if k != axis]
    turn[[a, a, b, b], [a, b, a, b]] = 0, -1, 1, 0
    return np.linalg.matrix_power(turn, times)


def crop(pair: Pair, below: float = 0, above: float = 0) -> Pair:
    """Crop the field of view by mm at its inferior and superior ends."""
    head, brain = (nib.as_closest_canonical(image) for image in pair)
    step = float(head.header.get_zooms()[2])
    part = slice(round(below / step), head.shape[2] - round(above / step))
    return head.slicer[:, :, part], brain.slicer[:, :, part]


def crop_brain(pair: Pair, top: float, bottom: float = 0) -> Pair:
    """Crop the brain by mm at its superior and inferior ends."""
    head, brain = (nib.as_closest_canonical(image) for image in pair)
    rows = np.flatnonzero(mask_of(brain).any(axis=(0, 1)))
    step = float(head.header.get_zooms()[2])
    above = (head.shape[2] - 1 - rows[-1]) * step + top if top else 0
    return crop((head, brain), rows[0] * step + bottom if bottom else 0, above)


def coarse(pair: Pair, spacing: tuple[float, float, float]) -> Pair:
    """Resample to other voxel sizes (mm)."""
    size = np.array(pair[0].shape) * np.array(pair[0].header.get_zooms()[:3])
    shape = tuple(int(n) for n in np.ceil(size / np.array(spacing)))
    head = conform(pair[0], shape, spacing, order=1)
    return head, resample_from_to(pair[1], head, order=0)


def padded(pair: Pair, voxels: int) -> Pair:
    """Pad with zeros on all sides."""
    affine = pair[0].affine @ _shift((-voxels,) * 3)
    return tuple(nib.Nifti1Image(np.pad(np.asarray(i.dataobj), voxels), affine) for i in pair)


def with_neck(pair: Pair, mm: int, shoulders: float) -> Pair:
    """Extend the field of view inferiorly: the neck continues and widens to shoulders."""
    head, brain = (nib.as_closest_canonical(image) for image in pair)
    values, flags = values_of(head), mask_of(brain)
    first = int(np.flatnonzero(values.mean(axis=(0, 1)) > 0.15 * values.mean())[0]) + 2
    slab = values[:, :, first]
    middle = np.array(ndimage.center_of_mass(slab))
    rows = []
    for row in range(mm):
        widen = 1 + (shoulders - 1) * np.clip((row / mm - 0.3) / 0.7, 0, 1) ** 1.5
        # sampled nearer to the middle, so the result is wider
        matrix = np.diag([1 / widen, 1 / (1 + 0.4 * (widen - 1))])
        rows.append(ndimage.affine_transform(slab, matrix, middle - matrix @ middle, order=1))
    low = np.stack(rows[::-1], axis=2)
    affine = head.affine @ _shift((0, 0, first - mm))
    long = np.concatenate([low, values[:, :, first:]], axis=2)
    kept = np.concatenate([np.zeros_like(low, np.uint8), flags[:, :, first:].astype(np.uint8)], 2)
    return nib.Nifti1Image(long, affine), nib.Nifti1Image(kept, affine)


def stripped(pair: Pair, grow: int = 0) -> Pair:
    """The brain alone; ``grow``: voxels by which its mask is dilated, or eroded if negative."""
    flags = mask_of(pair[1])
    if grow > 0:
        flags = ndimage.binary_dilation(flags, iterations=grow)
    elif grow < 0:
        flags = ndimage.binary_erosion(flags, iterations=-grow)
    return nib.Nifti1Image(np.where(flags, values_of(pair[0]), 0), pair[0].affine), pair[1]


def crop_to_brain(pair: Pair) -> Pair:
    """Crop to the brain's bounding box."""
    box = ndimage.find_objects(mask_of(pair[1]).astype(np.uint8))[0]
    return tuple(i.slicer[box] for i in pair)


def _shift(voxels: tuple[int, ...]) -> Array:
    shift = np.eye(4)
    shift[:3, 3] = voxels
    return shift


# --- other images than T1-weighted heads ---


def with_contrast(pair: Pair, labels: Any, fluid: float, gray: float, white: float) -> Pair:
    """Map the intensities of the tissues to another contrast, as of T2 or FLAIR."""
    values, brain = values_of(pair[0]), mask_of(pair[1])
    inside = values[brain]
    levels = [float(np.percentile(inside, p)) for p in (3, 35, 85)]
    mapped = np.interp(values, [0, *levels, levels[2] * 1.5], [0, fluid, gray, white, 0.8])
    background = values < 0.3 * levels[0]
    dark = ndimage.binary_opening(~brain & (values < levels[1]), iterations=1)
    return nib.Nifti1Image(
        np.where(background | dark, 0.02, mapped).astype(np.float32) * 1000, pair[0].affine
    ), pair[1]


def bottle(textured: bool = False) -> Pair:
    """A bottle of water, 170 mm across."""
    z = np.indices((180, 180, 180)) - 90
    inside = (z**2).sum(axis=0) < 85**2
    rng = np.random.default_rng(0)
    values = 500.0 * inside
    if textured:
        values = values * (1 + 0.3 * ndimage.zoom(rng.normal(size=(18, 18, 18)), 10, order=1))
    values = np.abs(values + rng.normal(0, 8, inside.shape))
    image = nib.Nifti1Image(values.astype(np.float32), np.diag([1.2, 1.2, 1.2, 1]))
    return image, nib.Nifti1Image(np.zeros(inside.shape, np.uint8), image.affine)


def thigh() -> Pair:
    """A thigh: fat, muscle, and bone with marrow."""
    x, y, z = np.indices((180, 180, 200)) - np.array([90, 90, 100]).reshape(3, 1, 1, 1)
    r = np.hypot(x, 1.1 * y) + 0.05 * z
    values = np.select([r < 8, r < 13, r < 65, r < 80], [900.0, 60, 420, 1000], 0)
    rng = np.random.default_rng(0)
    stripes = ndimage.gaussian_filter(rng.normal(size=values.shape), (3, 3, 12))
    values = values * (1 + 0.15 * stripes / stripes.std()) * (r < 80)
    values = np.hypot(values + rng.normal(0, 12, values.shape), rng.normal(0, 12, values.shape))
    image = nib.Nifti1Image(values.astype(np.float32), np.eye(4))
    return image, nib.Nifti1Image(np.zeros(values.shape, np.uint8), np.eye(4))


def noise_only() -> Pair:
    """Noise alone."""
    rng = np.random.default_rng(0)
    values = np.hypot(*rng.normal(0, 50, (2, 160, 160, 160))).astype(np.float32)
    image = nib.Nifti1Image(values, np.diag([1.2, 1.2, 1.2, 1]))
    return image, nib.Nifti1Image(np.zeros(values.shape, np.uint8), image.affine)


# --- the lists ---


def aged(pair: Pair, labels: Any) -> dict[str, Callable[[], Pair]]:
    """Atrophy from mild to severe."""
    old = {
        "older": (3.0, 0.6, 1.0),
        "old": (5.0, 1.0, 2.0),
        "very old": (7.0, 1.5, 3.5),
    }
    made = {name: (lambda v=v: atrophied(pair, labels, *v)) for name, v in old.items()}
    return {
        **made,
        "old, bright scalp and marrow": lambda: brighter_fat(made["old"](), 2.0, 0.9),
        "old, stripped": lambda: stripped(made["old"]()),
        "very old, stripped": lambda: stripped(made["very old"]()),
        "very old, 1 x 1 x 1.25 mm, bias": lambda: coarse(
            changed(made["very old"](), bias_field(0.4)), (1.25, 1, 1)
        ),
        "very old, small, noise": lambda: changed(scaled(made["very old"](), 0.88), noisy(0.06)),
        "old, bright scalp, strong bias, gamma 1.3, cut at the neck": lambda: crop(
            changed(changed(brighter_fat(made["old"](), 1.8, 0.7), bias_field(0.6)), contrast(1.3)),
            below=25,
        ),
    }


def good(pair: Pair, labels: Any) -> dict[str, Callable[[], Pair]]:
    """Transformed heads that should register."""
    z = np.eye(3)
    return {
        "as it is": lambda: pair,
        **{f"stored {code}": lambda c=code: oriented(pair, c) for code in ("PSR",)},
        "2 mm voxels": lambda: coarse(pair, (2, 2, 2)),
        "0.8 mm voxels": lambda: coarse(pair, (0.8, 0.8, 0.8)),
        "1.25 x 1 x 1 mm voxels": lambda: coarse(pair, (1.25, 1, 1)),
        "1 x 1 x 3 mm voxels": lambda: coarse(pair, (1, 1, 3)),
        "1 x 1 x 6 mm voxels": lambda: coarse(pair, (1, 1, 6)),
        "bias field": lambda: changed(pair, bias_field(0.4)),
        "strong bias field": lambda: changed(pair, bias_field(0.8)),
        "noise": lambda: changed(pair, noisy(0.1)),
        "strong noise": lambda: changed(pair, noisy(0.2)),
        "gamma 0.7": lambda: changed(pair, contrast(0.7)),
        "gamma 1.5": lambda: changed(pair, contrast(1.5)),
        "ghost of 10%": lambda: changed(pair, ghost(0.1)),
        "wrapped by 20 mm": lambda: aliased(pair, 20),
        **{
            f"turned by 30 degrees about {name}": lambda a=axis: rotated(pair, 30, a)
            for axis, name in enumerate("xyz")
        },
        **{f"brain scaled {f}": lambda f=f: scaled(pair, f) for f in (0.85, 1.15)},
        "bright scalp and marrow": lambda: brighter_fat(pair, 2.0, 0.9),
        "20 mm cut off below": lambda: crop(pair, below=20),
        "cut at the brain's lowest slice": lambda: crop_brain(pair, 0, 1),
        "5 mm of the brain cut off above": lambda: crop_brain(pair, 5),
        "neck and shoulders": lambda: with_neck(pair, 90, 2.2),
        "zeros around": lambda: padded(pair, 40),
        "header 100 mm off": lambda: wrong_header(pair, z, (100, -80, 60)),
        "header turned by 90 degrees about x": lambda: wrong_header(pair, rot90(0), (0, 0, 0)),
        "header turned by 90 degrees about z": lambda: wrong_header(pair, rot90(2), (30, 0, 0)),
        "header turned by 180 degrees about x": lambda: wrong_header(pair, rot90(0, 2), (0, 0, 0)),
        "header turned by 180 degrees about z": lambda: wrong_header(pair, rot90(2, 2), (0, 0, 0)),
        "header turned about x and y": lambda: wrong_header(pair, rot90(0) @ rot90(1), (0, 90, 0)),
        "brain alone": lambda: stripped(pair),
        "brain alone, cut loosely": lambda: stripped(pair, 2),
        "brain alone, cut tightly": lambda: stripped(pair, -1),
        "brain alone, its box": lambda: crop_to_brain(stripped(pair)),
        "brain alone, turned by 30 degrees": lambda: rotated(stripped(pair), 30, 0),
        "brain alone, header turned by 90 degrees": lambda: wrong_header(
            stripped(pair), rot90(0), (0, 0, 0)
        ),
    }


def bad(pair: Pair, labels: Any) -> dict[str, Callable[[], Pair]]:
    """Images that should be rejected or get a warning."""
    return {
        "30 mm of the brain cut off above": lambda: crop_brain(pair, 30),
        "half the brain": lambda: crop_brain(pair, 70),
        "40 mm of the brain cut off below": lambda: crop_brain(pair, 0, 40),
        "T2-like": lambda: with_contrast(pair, labels, 1.0, 0.6, 0.4),
        "FLAIR-like": lambda: with_contrast(pair, labels, 0.15, 0.8, 0.6),
        "dark and light reversed": lambda: changed(pair, lambda v: v.max() - v),
        "a bottle": lambda: bottle(),
        "a bottle, uneven": lambda: bottle(True),
        "a thigh": thigh,
        "noise alone": noise_only,
        "the head below the brain": lambda: crop_brain(pair, 115),
        "noise of 40%": lambda: changed(pair, noisy(0.4)),
    }
