"""Scans unlike the training scans get a warning or are rejected, each with its reason."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from uncus.data.errors import BadInput
from uncus.data.image_quality import looks_like_ct
from uncus.data.imageio.volume import Native, Volume
from uncus.data.quality_control import Reference, check_quality, correlation
from uncus.data.space import Grid, Placed
from uncus.data.transforms.path import place

SHAPE = (24, 30, 22)
AFFINE = np.diag([3.0, 3, 3, 1])
GRID = Grid(SHAPE, AFFINE)
CENTER = (np.array(SHAPE) - 1) / 2
INDEX = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), axis=-1)


def ellipsoid(share: float, shift: tuple[float, float, float] = (0, 0, 0)) -> np.ndarray:
    radii = np.array(SHAPE) / 2 * share
    return (((INDEX - CENTER - shift) / radii) ** 2).sum(axis=-1) < 1


BRAIN, WHITE, FLUID = ellipsoid(0.8), ellipsoid(0.6), ellipsoid(0.25)
HEAD = ellipsoid(0.98)
NATIVE = Native(Path("scan.nii.gz"), SHAPE, AFFINE, "RAS", (None, 0), (AFFINE, 1))


def volume(array: np.ndarray) -> Volume:
    return Volume(array.astype(np.float32), AFFINE, NATIVE)


def brain(seed: int, grey: float = 60, white: float = 100, fluid: float = 20) -> np.ndarray:
    """A skull-stripped brain: gray and white matter, a ventricle of random size, folds, noise."""
    rng = np.random.default_rng(seed)
    ventricle = ellipsoid(rng.uniform(0.2, 0.35))
    image = np.where(ventricle, fluid, np.where(WHITE, white, grey)).astype(float)
    folds = ndimage.gaussian_filter(rng.normal(size=SHAPE), 1.5)
    image += 0.2 * abs(white - grey) * folds / folds.std() + rng.normal(0, 3, SHAPE)
    return np.where(BRAIN, np.maximum(image, 1), 0)


def placed(array: np.ndarray) -> Placed:
    return place(volume(array), GRID)


@pytest.fixture(scope="module")
def reference() -> Reference:
    scans = [placed(brain(seed)) for seed in range(12)]
    return Reference.fit(
        np.stack([scan.array for scan in scans]), np.array([scan.contact for scan in scans])
    )


def test_scans_like_those_of_training_pass_without_warnings(reference: Reference) -> None:
    for seed in range(100, 110):
        assert check_quality(placed(brain(seed)), reference) == ()


REJECTED: dict[str, tuple[Callable[[], np.ndarray], str]] = {
    "T2": (lambda: brain(50, grey=80, white=50, fluid=150), "reversed contrast, as T2"),
    "inverted": (lambda: np.where(BRAIN, 130 - brain(50), 0), "reversed"),
    "noise": (
        lambda: np.where(BRAIN, np.random.default_rng(0).uniform(1, 9, SHAPE), 0),
        "does not look like the training scans",
    ),
    "upside down and out of place": (
        lambda: np.roll(brain(50)[:, ::-1], (8, 8), (0, 1)),
        "does not look like|is empty in it",
    ),
    "CT": (
        lambda: np.where(HEAD & ~BRAIN, 900.0, np.where(BRAIN, brain(50) / 3, -1000)),
        "CT",
    ),
    "a small object": (lambda: np.where(FLUID, brain(50), 0), "is empty in it"),
}


@pytest.mark.parametrize("kind", REJECTED)
def test_other_images_are_rejected(kind: str, reference: Reference) -> None:
    make, cause = REJECTED[kind]
    with pytest.raises(BadInput, match=cause) as caught:
        check_quality(placed(make()), reference)
    assert str(caught.value).startswith("scan.nii.gz: ")


WARNED: dict[str, tuple[Callable[[], np.ndarray], str]] = {
    "FLAIR": (lambda: brain(50, grey=100, white=85, fluid=20), "unlike the training scans"),
    "heavy noise": (
        lambda: np.where(BRAIN, brain(50) + np.random.default_rng(0).normal(400, 60, SHAPE), 0),
        "unlike the training scans",
    ),
    "head": (
        lambda: np.where(HEAD & ~BRAIN, 40.0, brain(50)),
        "whole head and they are skull-stripped",
    ),
}


@pytest.mark.parametrize("kind", WARNED)
def test_unusual_scans_get_a_warning(kind: str, reference: Reference) -> None:
    make, text = WARNED[kind]
    assert [w for w in check_quality(placed(make()), reference) if text in w]


def test_a_stripped_brain_among_whole_heads_gets_a_warning() -> None:
    heads = [placed(np.where(HEAD & ~BRAIN, 40.0, brain(seed))) for seed in range(8)]
    reference = Reference.fit(np.stack([head.array for head in heads]))
    assert check_quality(heads[0], reference) == ()
    warnings = check_quality(placed(brain(50)), reference)
    assert [w for w in warnings if "skull-stripped and they are whole heads" in w]


def cropped(slices: tuple[slice, ...], moved: tuple[float, float, float] = (0, 0, 0)) -> Placed:
    """A scan whose field of view is only a part of the usual one."""
    part = brain(50)[slices]
    affine = AFFINE.copy()
    affine[:3, 3] = [3.0 * (piece.start or 0) for piece in slices]
    affine[:3, 3] += moved
    return place(Volume(part.astype(np.float32), affine, NATIVE), GRID)


def test_a_brain_that_is_cut_off_gets_a_warning_with_the_side(reference: Reference) -> None:
    warnings = check_quality(cropped((slice(None), slice(None), slice(0, 15))), reference)
    assert [w for w in warnings if w.endswith("cut off at the edge of the image: superior.")]


def test_a_slab_is_not_cut_off_if_all_training_scans_are_slabs() -> None:
    slab = (slice(None), slice(10, 20), slice(None))
    grid = Grid((24, 10, 22), np.array([[3.0, 0, 0, 0], [0, 3, 0, 30], [0, 0, 3, 0], [0, 0, 0, 1]]))

    def one(seed: int) -> Placed:
        part = brain(seed)[slab].astype(np.float32)
        return place(Volume(part, grid.affine, replace(NATIVE, shape=part.shape)), grid)

    slabs = [one(seed) for seed in range(8)]
    contacts = np.array([scan.contact for scan in slabs])
    assert contacts[:, 2:4].min() > 0.8
    reference = Reference.fit(np.stack([scan.array for scan in slabs]), contacts)
    assert check_quality(one(50), reference) == ()


def test_a_field_of_view_without_most_of_the_brain_is_rejected(reference: Reference) -> None:
    with pytest.raises(BadInput, match="outside its field of view"):
        check_quality(cropped((slice(None), slice(None), slice(0, 9))), reference)


def test_a_constant_brain_is_rejected(reference: Reference) -> None:
    with pytest.raises(BadInput, match="constant inside the brain"):
        check_quality(placed(np.where(BRAIN, 70.0, 0)), reference)


def test_a_background_near_minus_1000_alone_is_not_a_ct() -> None:
    assert looks_like_ct(volume(np.where(BRAIN, 1200.0, -1000)))
    assert not looks_like_ct(volume(np.where(BRAIN, 100.0, -1000)))
    assert not looks_like_ct(volume(brain(0)))


def test_similarity_is_the_correlation_with_the_mean_of_the_others() -> None:
    scans = np.stack([placed(brain(seed)).array for seed in range(6)])
    reference = Reference.fit(scans)
    for index in range(6):
        others = np.delete(scans, index, axis=0).mean(axis=0)
        expected = np.corrcoef(scans[index][reference.region], others[reference.region])[0, 1]
        assert abs(reference.similarity[index] - expected) < 1e-6
    np.testing.assert_allclose(reference.mean, scans.mean(axis=0), atol=1e-6)


def test_limits_leave_a_margin_below_every_training_scan(reference: Reference) -> None:
    warn, reject = reference.limits()
    assert 0 <= reject <= 0.4 and reject < warn <= reference.similarity.min()
    loose = replace(reference, similarity=np.array([0.05, 0.3, 0.5, 0.1, 0.2]))
    assert loose.limits()[1] == 0


@pytest.mark.parametrize("count", [1, 2])
def test_few_training_scans_do_not_reject_every_other(count: int) -> None:
    scans = np.stack([placed(brain(seed)).array for seed in range(count)])
    reference = Reference.fit(scans)
    assert check_quality(placed(brain(50)), reference) == ()


def test_the_state_survives_json_and_gives_the_same_warnings(reference: Reference) -> None:
    images, rest = reference.state()
    copy = Reference.from_state(images, json.loads(json.dumps(rest, allow_nan=False)))
    np.testing.assert_array_equal(copy.mean, reference.mean)
    np.testing.assert_allclose(copy.limits(), reference.limits(), atol=1e-5)
    head = placed(WARNED["head"][0]())
    assert check_quality(head, copy) == check_quality(head, reference)
    with pytest.raises(ValueError, match="not a reference"):
        Reference.from_state({}, rest)
    with pytest.raises(ValueError, match="at least 1"):
        Reference.fit(np.zeros((0, *SHAPE)))


def test_another_grid_is_an_error_and_correlation_is_pearsons(reference: Reference) -> None:
    scan = placed(brain(0))
    with pytest.raises(ValueError, match="on a grid of"):
        check_quality(replace(scan, array=scan.array[1:]), reference)
    one, two = np.random.default_rng(0).random((2, *SHAPE))
    expected = np.corrcoef(one[BRAIN], two[BRAIN])[0, 1]
    assert abs(correlation(one, two, BRAIN) - expected) < 1e-9
    assert correlation(one * 0, two, BRAIN) == 0
