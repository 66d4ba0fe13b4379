"""Augmentation: geometry in mm, background exactly 0, the same result in any batch."""

import math
from typing import Any

import pytest
import torch
from monai.networks.layers.spatial_transforms import AffineTransform

from uncus.data.augment import Augment
from uncus.data.transforms.augmentation import (
    Augmentation,
    BatchTransform,
    Contrast,
    Noise,
    Pose,
    RandAffineBatch,
    RandBiasFieldBatch,
    resample,
)

SPACING = (1.0, 2.0, 3.0)
IDENTITY = {
    "flip": False,
    "pose": Pose(),
    "contrast": Contrast(),
    "bias": (0.0,) * 9,
    "noise": Noise(),
}


def apply(x: torch.Tensor, *ones: dict[str, Any]) -> torch.Tensor:
    """Augment each volume of ``x`` with the parameters given, otherwise with the identity."""
    augmentation = Augmentation.of(Augment(), SPACING, seed=0)
    for name, transform in zip(IDENTITY, augmentation.transforms, strict=True):
        transform.drawn = [{**IDENTITY, **one}[name] for one in ones]
    return augmentation({"volume": x}, randomize=False)["volume"]


def draw(ranges: Augment, seed: int, epoch: int, *scans: int) -> list[dict[str, Any]]:
    """The parameters drawn for each scan."""
    augmentation = Augmentation.of(ranges, SPACING, seed)
    augmentation.set_epoch(epoch)
    augmentation.randomize({"scan": torch.tensor(scans)})
    drawn = zip(*(transform.drawn for transform in augmentation.transforms), strict=True)
    return [dict(zip(IDENTITY, one, strict=True)) for one in drawn]


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
    (none,), (some,) = (
        draw(Augment(0, (0,), (0,), (0,), 0, 0, 0), 3, 1, 2),
        draw(Augment(), 3, 1, 2),
    )
    assert none == {**IDENTITY, "noise": Noise(0.0, some["noise"].seed)}
    assert torch.allclose(apply(x, {}), x, atol=2e-3)


def test_a_flip_is_along_the_first_axis() -> None:
    x = volumes()
    assert not torch.allclose(x.flip(2), x)
    assert torch.allclose(apply(x, {"flip": True}), x.flip(2), atol=2e-3)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_shifts_are_in_mm(axis: int) -> None:
    voxel = [20, 20, 20]
    shift = [0.0, 0.0, 0.0]
    shift[axis] = 6.0
    moved = apply(point(*voxel), {"pose": Pose(shift=tuple(shift))})
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
    one = {"pose": Pose(angles=tuple(angles))}
    first, second = (a for a in range(3) if a != axis)
    for along, other in ((first, second), (second, first)):
        voxel = [20, 20, 20]
        voxel[along] += int(6 / SPACING[along])
        moved = apply(point(*voxel), one)
        mm = [c * s for c, s in zip(center_of_mass(moved), SPACING, strict=True)]
        assert mm[axis] == pytest.approx(0, abs=1e-3)
        assert math.dist(mm, (0, 0, 0)) == pytest.approx(6, abs=0.6)
        angle = math.degrees(math.atan2(abs(mm[other]), mm[along]))
        assert angle == pytest.approx(degrees, abs=6)


def test_scales_are_about_the_center() -> None:
    moved = apply(point(28, 20, 20), {"pose": Pose(scales=(1.0, 0.0, 0.0))})
    assert center_of_mass(moved) == pytest.approx([4, 0, 0], abs=1e-3)


def test_resampling_agrees_with_monai() -> None:
    x = volumes(3)
    affine = RandAffineBatch((30.0,), (0.3,), (9.0,), SPACING)
    affine.randomize({"scan": torch.tensor([1, 2, 3])})
    matrices = [affine.matrix(pose) for pose in affine.drawn]
    to_mm = torch.diag(torch.tensor([*SPACING, 1.0], dtype=torch.float64))
    center = torch.eye(4, dtype=torch.float64)
    center[:3, 3] = (torch.tensor(x.shape[2:]) - 1) / 2
    theta = [
        center @ to_mm.inverse() @ torch.from_numpy(m) @ to_mm @ center.inverse() for m in matrices
    ]
    wanted = AffineTransform(
        normalized=False, padding_mode="zeros", align_corners=True, reverse_indexing=True
    )(x, torch.stack(theta).float())
    torch.testing.assert_close(resample(x, matrices, SPACING), wanted, atol=1e-4, rtol=0)


def test_the_bias_field_is_a_polynomial_of_second_degree() -> None:
    x = volumes(2)
    bias = RandBiasFieldBatch(1.0)
    bias.randomize({"scan": torch.tensor([0, 1])})
    a, b, c = torch.meshgrid(*(torch.linspace(-1, 1, n) for n in x.shape[2:]), indexing="ij")
    terms = torch.stack([a, b, c, a * a, b * b, c * c, a * b, a * c, b * c])
    for field, drawn in zip(bias.gain(x), bias.drawn, strict=True):
        wanted = torch.einsum("k,kxyz->xyz", torch.tensor(drawn), terms).exp()
        torch.testing.assert_close(field[0], wanted)


def test_noise_has_the_drawn_standard_deviation() -> None:
    x = torch.ones(2, 1, 30, 30, 30)
    y = apply(x, {"noise": Noise(0.5, 3)}, {"noise": Noise(0.1, 4)})[:, 0, 1:-1, 1:-1, 1:-1]
    assert y.std((1, 2, 3)).tolist() == pytest.approx([0.5, 0.1], rel=0.03)


def test_background_stays_exactly_0() -> None:
    x = volumes()
    changing = {"contrast": Contrast(1.1, 0.1), "bias": (0.1,) * 9, "noise": Noise(0.5)}
    for flip in (False, True):
        y = apply(x, changing | {"flip": flip})
        background = x.flip(2) == 0 if flip else x == 0
        assert (y[background] == 0).all()
        assert not torch.allclose(y[~background], x[x != 0], atol=0.05)
    everything = apply(x, *draw(Augment(), 0, 0, 0))
    assert (everything[:, :, :, :, 0] == 0).all()
    assert (apply(torch.zeros_like(x), changing) == 0).all()


def test_the_same_scan_is_the_same_in_any_batch() -> None:
    scans = [5, 2, 9]
    x = volumes(3) * torch.tensor([1.0, 2.0, 3.0]).view(3, 1, 1, 1, 1)
    draws = draw(Augment(), 1, 4, *scans)
    together = apply(x, *draws)
    order = [2, 0, 1]
    shuffled = apply(x[order], *(draws[i] for i in order))
    for i in range(3):
        alone = apply(x[i : i + 1], *draw(Augment(), 1, 4, scans[i]))
        assert torch.allclose(alone[0], together[i], atol=1e-6)
        assert torch.allclose(alone[0], shuffled[order.index(i)], atol=1e-6)


def test_draws_depend_on_seed_epoch_and_scan_alone() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    (one,) = draw(Augment(), 1, 2, 3)
    apply(volumes(), one)
    assert torch.equal(before, torch.get_rng_state())
    assert draw(Augment(), 1, 2, 3) == [one]
    others = [draw(Augment(), *key)[0] for key in ((0, 2, 3), (1, 0, 3), (1, 2, 0), (2, 1, 3))]
    assert len({d["pose"].shift for d in (one, *others)}) == 5


def test_draws_fill_their_ranges() -> None:
    augment = Augment()
    draws = draw(augment, 0, 0, *range(400))
    assert 150 < sum(d["flip"] for d in draws) < 250
    for values, limit in (
        ([math.degrees(a) for d in draws for a in d["pose"].angles], augment.rotate[0]),
        ([s for d in draws for s in d["pose"].scales], augment.scale[0]),
        ([s for d in draws for s in d["pose"].shift], augment.translate[0]),
        ([d["contrast"].contrast - 1 for d in draws], augment.intensity),
        ([b for d in draws for b in d["bias"]], augment.bias),
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
    poses = [one["pose"] for one in draw(slab, 0, 0, *range(50))]
    assert {(p.angles[0], p.angles[2], p.scales[1], p.shift[1]) for p in poses} == {(0, 0, 0, 0)}
    assert len({p.angles[1] for p in poses}) == len({p.shift[2] for p in poses}) == 50
    with pytest.raises(ValueError, match="one for all axes, or three"):
        Augment(rotate=(1.0, 2.0))


@pytest.mark.parametrize("index", range(5))
def test_each_transform_alone_draws_and_applies_as_monai_does(index: int) -> None:
    x = volumes(2)
    batch = {"volume": x, "scan": torch.tensor([4, 7]), "label": torch.tensor([0, 1])}
    transform = Augmentation.of(Augment(flip=1.0, noise=0.5), SPACING, 0).transforms[index]
    assert isinstance(transform, BatchTransform)
    one = transform.set_random_state(3)(batch)
    assert (one["label"] == batch["label"]).all() and not torch.equal(one["volume"], x)
    torch.testing.assert_close(transform(batch, randomize=False), one)
    torch.testing.assert_close(transform(batch), one)
    # Brightness leaves no value of the brain at 0, so only the background is.
    assert (one["volume"] == 0).sum() > x.numel() / 3
    drawn = transform.drawn
    transform.set_epoch(1)
    transform(batch)
    assert index == 0 or transform.drawn != drawn
    transform.set_epoch(0)
    transform.set_random_state(4)(batch)
    assert index == 0 or transform.drawn != drawn
    assert torch.equal(batch["volume"], volumes(2))
