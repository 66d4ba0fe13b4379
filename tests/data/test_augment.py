"""Augmentation: geometry in mm, background exactly 0, the same result in any batch."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from monai.networks.layers.spatial_transforms import AffineTransform

from uncus.data.augment import Augment, Draw, apply, bias_fields, draw, resample, voxel_affine

IDENTITY = Draw(
    flip=False,
    angles=(0, 0, 0),
    scales=(0, 0, 0),
    shift=(0, 0, 0),
    contrast=1,
    brightness=0,
    bias=(0.0,) * 9,
    noise=0,
    noise_seed=0,
)
SPACING = (1.0, 2.0, 3.0)


def volumes(batch: int = 1) -> torch.Tensor:
    """[batch, 1, 17, 14, 21]: noise in an off-center box, background 0."""
    x = torch.zeros(batch, 1, 17, 14, 21)
    box = (batch, 1, 8, 8, 11)
    x[:, :, 4:12, 3:11, 5:16] = torch.randn(box, generator=torch.Generator().manual_seed(0))
    return x


def point(*voxel: int, shape: tuple[int, int, int] = (41, 41, 41)) -> torch.Tensor:
    """[1, 1, *shape], 1 at one voxel."""
    x = torch.zeros(1, 1, *shape)
    x[0, 0][voxel] = 1
    return x


def center_of_mass(volume: torch.Tensor) -> list[float]:
    """In voxels from the center of the grid."""
    mass = volume[0, 0]
    axes = [torch.arange(n) - (n - 1) / 2 for n in mass.shape]
    grids = torch.meshgrid(*axes, indexing="ij")
    return [float((mass * grid).sum() / mass.sum()) for grid in grids]


def test_the_identity_changes_nothing() -> None:
    x = volumes()
    assert draw(Augment(0, (0,), (0,), (0,), 0, 0, 0), seed=3, epoch=1, scan=2) == replace(
        IDENTITY, noise_seed=draw(Augment(), 3, 1, 2).noise_seed
    )
    assert torch.allclose(apply(x, [IDENTITY], SPACING), x, atol=2e-3)


def test_a_flip_is_along_the_first_axis() -> None:
    x = volumes()
    assert not torch.allclose(x.flip(2), x)
    assert torch.allclose(apply(x, [replace(IDENTITY, flip=True)], SPACING), x.flip(2), atol=2e-3)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_shifts_are_in_mm(axis: int) -> None:
    voxel = [20, 20, 20]
    shift = [0.0, 0.0, 0.0]
    shift[axis] = 6.0
    moved = apply(point(*voxel), [replace(IDENTITY, shift=tuple(shift))], SPACING)
    expected = [0.0, 0.0, 0.0]
    # the affine maps output to input, so the content moves the other way
    expected[axis] = -6.0 / SPACING[axis]
    assert center_of_mass(moved) == pytest.approx(expected, abs=1e-3)
    assert float(moved.sum()) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("degrees", [90.0, 30.0])
def test_rotations_preserve_lengths_and_angles_in_mm(axis: int, degrees: float) -> None:
    angles = [0.0, 0.0, 0.0]
    angles[axis] = math.radians(degrees)
    one = replace(IDENTITY, angles=tuple(angles))
    first, second = (a for a in range(3) if a != axis)
    for along, other in ((first, second), (second, first)):
        voxel = [20, 20, 20]
        voxel[along] += int(6 / SPACING[along])
        moved = apply(point(*voxel), [one], SPACING)
        mm = [c * s for c, s in zip(center_of_mass(moved), SPACING, strict=True)]
        assert mm[axis] == pytest.approx(0, abs=1e-3)
        assert math.dist(mm, (0, 0, 0)) == pytest.approx(6, abs=0.6)
        angle = math.degrees(math.atan2(abs(mm[other]), mm[along]))
        assert angle == pytest.approx(degrees, abs=6)


def test_scales_are_about_the_center() -> None:
    moved = apply(point(28, 20, 20), [replace(IDENTITY, scales=(1.0, 0.0, 0.0))], SPACING)
    assert center_of_mass(moved) == pytest.approx([4, 0, 0], abs=1e-3)


def test_resampling_agrees_with_monai() -> None:
    x = volumes(3)
    draws = [
        draw(Augment(rotate=(30.0,), scale=(0.3,), translate=(9.0,)), 0, 0, s) for s in (1, 2, 3)
    ]
    center = torch.eye(4, dtype=torch.float64)
    center[:3, 3] = (torch.tensor(x.shape[2:]) - 1) / 2
    theta = [
        center @ torch.from_numpy(voxel_affine(one, SPACING)) @ center.inverse() for one in draws
    ]
    wanted = AffineTransform(
        normalized=False, padding_mode="zeros", align_corners=True, reverse_indexing=True
    )(x, torch.stack(theta).float())
    torch.testing.assert_close(resample(x, draws, SPACING), wanted, atol=1e-4, rtol=0)


def test_the_bias_field_is_a_polynomial_of_second_degree() -> None:
    x = volumes(2)
    draws = [draw(Augment(bias=1.0), 0, 0, scan) for scan in (0, 1)]
    a, b, c = torch.meshgrid(*(torch.linspace(-1, 1, n) for n in x.shape[2:]), indexing="ij")
    terms = torch.stack([a, b, c, a * a, b * b, c * c, a * b, a * c, b * c])
    for field, one in zip(bias_fields(x, draws), draws, strict=True):
        wanted = torch.einsum("k,kxyz->xyz", torch.tensor(one.bias), terms).exp()
        torch.testing.assert_close(field[0], wanted)


def test_noise_has_the_drawn_standard_deviation() -> None:
    x = torch.ones(2, 1, 30, 30, 30)
    draws = [
        replace(IDENTITY, noise=noise, noise_seed=seed) for noise, seed in ((0.5, 3), (0.1, 4))
    ]
    y = apply(x, draws, SPACING)[:, 0, 1:-1, 1:-1, 1:-1]
    assert y.std((1, 2, 3)).tolist() == pytest.approx([0.5, 0.1], rel=0.03)


def test_background_stays_exactly_0() -> None:
    x = volumes()
    changing = replace(IDENTITY, brightness=0.1, contrast=1.1, bias=(0.1,) * 9, noise=0.5)
    for flip in (False, True):
        y = apply(x, [replace(changing, flip=flip)], SPACING)
        background = x.flip(2) == 0 if flip else x == 0
        assert (y[background] == 0).all()
        assert not torch.allclose(y[~background], x[x != 0], atol=0.05)
    everything = apply(x, [draw(Augment(), 0, 0, 0)], SPACING)
    assert (everything[:, :, :, :, 0] == 0).all()
    assert (apply(torch.zeros_like(x), [changing], SPACING) == 0).all()


def test_the_same_scan_is_the_same_in_any_batch() -> None:
    scans = [5, 2, 9]
    x = volumes(3) * torch.tensor([1.0, 2.0, 3.0]).view(3, 1, 1, 1, 1)
    draws = [draw(Augment(), seed=1, epoch=4, scan=s) for s in scans]
    together = apply(x, draws, SPACING)
    order = [2, 0, 1]
    shuffled = apply(x[order], [draws[i] for i in order], SPACING)
    for i in range(3):
        alone = apply(x[i : i + 1], [draw(Augment(), 1, 4, scans[i])], SPACING)
        assert torch.allclose(alone[0], together[i], atol=1e-6)
        assert torch.allclose(alone[0], shuffled[order.index(i)], atol=1e-6)


def test_draws_depend_on_seed_epoch_and_scan_alone() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    one = draw(Augment(), 1, 2, 3)
    apply(volumes(), [one], SPACING)
    assert torch.equal(before, torch.get_rng_state())
    assert draw(Augment(), 1, 2, 3) == one
    others = [draw(Augment(), *key) for key in ((0, 2, 3), (1, 0, 3), (1, 2, 0), (2, 1, 3))]
    assert len({d.shift for d in (one, *others)}) == 5


def test_draws_fill_their_ranges() -> None:
    augment = Augment()
    draws = [draw(augment, 0, 0, scan) for scan in range(400)]
    assert 150 < sum(d.flip for d in draws) < 250
    for values, limit in (
        ([math.degrees(a) for d in draws for a in d.angles], augment.rotate[0]),
        ([s for d in draws for s in d.scales], augment.scale[0]),
        ([s for d in draws for s in d.shift], augment.translate[0]),
        ([d.contrast - 1 for d in draws], augment.intensity),
        ([b for d in draws for b in d.bias], augment.bias),
    ):
        assert 0.95 * limit < max(values) <= limit
        assert -limit <= min(values) < -0.95 * limit


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("flip", 1.1),
        ("scale", (5.0,)),
        ("translate", (1.0, -1.0, 1.0)),
        ("intensity", 2),
        ("noise", -0.1),
        ("rotate", (180.0,)),
        ("bias", math.nan),
    ],
)
def test_invalid_ranges_are_rejected(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"augmentation {name}="):
        Augment(**{name: value})


def test_each_axis_has_its_own_range() -> None:
    slab = Augment(rotate=(0.0, 5.0, 0.0), scale=(0.1, 0.0, 0.1), translate=(3.0, 0.0, 3.0))
    draws = [draw(slab, 0, 0, scan) for scan in range(50)]
    assert {(d.angles[0], d.angles[2], d.scales[1], d.shift[1]) for d in draws} == {(0, 0, 0, 0)}
    assert len({d.angles[1] for d in draws}) == len({d.shift[2] for d in draws}) == 50
    with pytest.raises(ValueError, match="one for all axes, or three"):
        Augment(rotate=(1.0, 2.0))
