"""Registration to the template: known transforms are recovered, failures are rejected."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from uncus.data.errors import BadInput
from uncus.data.geometry.image import Image, coarser
from uncus.data.imageio.volume import Native, Volume
from uncus.data.mni import registration
from uncus.data.mni.bias_field import divide
from uncus.data.mni.template import load_template, mni_grid
from uncus.data.segmentation.quality import BrainQuality
from uncus.data.segmentation.segmenter import Match, SegmentedBrain
from uncus.data.transforms.path import place


@pytest.fixture(scope="module")
def truth() -> np.ndarray:
    """The transform of the synthetic scan: template mm -> scan mm."""
    matrix = np.eye(4)
    matrix[:3, :3] = turned(14.0, -6.0, 9.0) @ np.diag([1.04, 0.93, 0.97])
    matrix[:3, 3] = (9.0, -14.0, 6.0)
    return matrix


@pytest.fixture(scope="module")
def scan(truth: np.ndarray) -> Volume:
    """The template's brain at 2 mm; its affine rotates, shifts and stretches it."""
    template = load_template()
    small = coarser(Image(template.t1 * 800, template.affine), 2.0)
    brain = coarser(Image(template.brain.astype(np.float32), template.affine), 2.0).array > 0.5
    return volume((small.array * brain).astype(np.float32), truth @ small.affine)


def turned(*degrees: float) -> np.ndarray:
    """The rotation about x, then y, then z."""
    return Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()


def volume(array: np.ndarray, affine: np.ndarray) -> Volume:
    native = Native(Path("scan.nii.gz"), array.shape, affine, "RAS", (None, 0), (affine, 1))
    return Volume(array, affine, native)


def test_a_known_transform_is_recovered(scan: Volume, truth: np.ndarray) -> None:
    result = registration.register(scan)
    points = np.array([[0, -20, 5], [60, -20, 5], [0, 60, 5], [0, -20, 65], [-25, -20, -20]]).T
    in_scan = truth[:3, :3] @ points + truth[:3, 3:]
    back = result.to_mni[:3, :3] @ in_scan + result.to_mni[:3, 3:]
    assert np.linalg.norm(back - points, axis=0).max() < 2.5
    assert result.skull_stripped and result.overlap > 0.93 and result.coverage > 0.99


def test_a_map_returns_to_the_scan(scan: Volume) -> None:
    grid = mni_grid(np.full(3, 2.0))
    placed = place(scan, grid, "mni")
    assert placed.array.shape == grid.shape and 0.2 < placed.mask.mean() < 0.6
    middle = np.argwhere(scan.array > 0).mean(axis=0).round().astype(int)
    block = np.zeros(scan.array.shape, np.float32)
    block[tuple(slice(i - 2, i + 3) for i in middle)] = 1
    lattice = np.indices(grid.shape).reshape(3, -1)
    at = grid.affine[:3, :3] @ lattice + grid.affine[:3, 3:]
    on_grid = Image(block, placed.moved.affine).at(at).reshape(grid.shape)
    returned = placed.to_scan(on_grid)
    centre = (np.argwhere(returned > 0) * returned[returned > 0][:, None]).sum(0) / returned.sum()
    assert np.abs(centre - middle).max() < 0.5
    assert np.abs(np.argwhere(returned > 0.5) - middle).max() <= 3


def test_a_header_wrong_by_90_degrees_gets_a_warning(scan: Volume) -> None:
    wrong = np.eye(4)
    wrong[:3, :3] = turned(90, 0, 0).round()
    result = registration.register(volume(scan.array, wrong @ scan.affine))
    assert result.overlap > 0.93 and (result.distance or 9) < 4
    assert 60 < result.rotation < 120
    assert [w for w in result.warnings if "degrees from the axes of the header" in w]


@pytest.mark.slow
def test_half_a_brain_is_rejected(scan: Volume) -> None:
    half = volume(scan.array[:, :, : scan.array.shape[2] // 2], scan.affine)
    with pytest.raises(BadInput, match="edge of the field of view cuts the brain off"):
        registration.register(half)


def test_another_contrast_at_the_edge_of_the_field_of_view_is_no_brain_that_is_cut_off() -> None:
    radius = np.sqrt(((np.indices((40, 40, 40)) - 19.5) ** 2).sum(0))
    labels = np.select([radius < 5, radius < 16], [10, 5], 3)
    t1 = np.select([labels == 10, labels == 5], [0.25, 1.0], 0.7).astype(np.float32)
    chances = (np.arange(20).reshape(20, 1, 1, 1) == labels).astype(np.float32)
    grid = np.diag([2.0, 2, 2, 1])
    for image, cause in ((t1, registration.CUT_OFF), (1.3 - t1, registration.NO_BRAIN)):
        match = Match(np.eye(4), 20.0, 4)
        brain = SegmentedBrain(chances, grid, image, np.ones(labels.shape, bool), match)
        assert registration._unlike(brain) == cause


def test_noise_is_rejected() -> None:
    noise = np.random.default_rng(0).normal(100, 30, (60, 60, 60)).astype(np.float32)
    with pytest.raises(BadInput):
        registration.register(volume(noise, np.diag([3.0, 3, 3, 1])))


def test_a_slab_is_rejected(scan: Volume) -> None:
    with pytest.raises(BadInput, match=r"slab of \d+ mm: the brain is cut off"):
        registration.register(volume(np.ascontiguousarray(scan.array[:, 60:65]), scan.affine))


GOOD = BrainQuality(0.7, 0.3, 1.8, 0.73, 17, 0.0, 0.0, 0.0, 3.0)


def registered(**changes: object) -> registration.Registration:
    """A valid registration but for the given values."""
    scale = changes.pop("scale", (1.0, 1.0, 1.0))
    given = {
        "to_mni": np.linalg.inv(np.diag([*scale, 1.0])),
        "mask": np.ones((2, 2, 2), bool),
        "field": Image(np.ones((1, 1, 1), np.float32), np.eye(4)),
        "overlap": 0.95,
        "similarity": 0.85,
        "coverage": 1.0,
        "skull_stripped": False,
        "distance": 2.0,
        "quality": GOOD,
    }
    return registration.Registration(**(given | changes))


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"overlap": 0.8}, "does not look like a T1-weighted head"),
        ({"similarity": 0.5}, "does not look like a T1-weighted head"),
        ({"distance": 9.0}, r"labels 9\.0 mm apart"),
        ({"scale": (0.5, 0.5, 0.5)}, r"scales 0\.50 to 0\.50"),
        ({"scale": (1.2, 1.0, 0.7)}, r"scales 0\.70 to 1\.20"),
        ({"coverage": 0.7}, "only 70% of the brain is in its field of view"),
        ({"quality": replace(GOOD, gray=1.2)}, r"T1-weighted head \(.*gray matter is 1\.20"),
        ({"quality": replace(GOOD, structures=5)}, r"5 of 17 structures found"),
    ],
)
def test_every_limit_rejects(changes: dict[str, object], cause: str) -> None:
    registration.check(Path("scan.nii"), registered())
    with pytest.raises(BadInput, match=cause) as caught:
        registration.check(Path("scan.nii"), registered(**changes))
    assert str(caught.value).startswith("scan.nii: ")


def test_the_bias_field_is_corrected_in_the_box_of_the_brain() -> None:
    affine = np.array([[2.0, 0, 0, -5], [0, 1.5, 0.3, 4], [0, -0.2, 1, 7], [0, 0, 0, 1]])
    random = np.random.default_rng(0)
    scan = volume(random.uniform(1, 2, (9, 8, 7)).astype(np.float32), affine)
    field = Image(random.uniform(0.5, 2, (4, 5, 3)).astype(np.float32), np.diag([6.0, 4, 5, 1]))
    inside = np.zeros((9, 8, 7), bool)
    inside[2:8, 3:6, 1:4] = True
    found = registration.corrected(scan, registered(mask=inside, field=field)).array
    expected = divide(Image(scan.array, scan.affine), field).array
    np.testing.assert_allclose(found[inside], expected[inside], rtol=1e-6)
    assert (found[~inside] == scan.array[~inside]).all() and not np.allclose(found, expected)


def test_a_warning_gives_measured_values_only() -> None:
    assert registered().warnings == ()
    assert "contrast agent" in registered(quality=replace(GOOD, enhanced=0.1)).warnings[0]
    for distance, text in ((None, "(overlap 0.90)"), (4.5, "(overlap 0.90, labels 4.5 mm apart)")):
        (warning,) = registered(overlap=0.9, distance=distance).warnings
        assert text in warning
