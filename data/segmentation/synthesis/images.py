"""Synthetic heads and boxes with their labels."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from uncus.data.segmentation import boxes, slabs
from uncus.data.segmentation.labels import FREESURFER, MIRRORED
from uncus.data.segmentation.synthesis.label_map import FAT, LEFT, NUMBERS, T1_WEIGHTED, LabelMap
from uncus.data.segmentation.synthesis.random_numbers import Random
from uncus.data.segmentation.synthesis.scanner import box_scanner, scanner, slab_scanner
from uncus.data.segmentation.synthesis.view import View

IN_BOX = torch.tensor(boxes.CLASSES)
IN_SLAB = torch.tensor(
    [
        next((k for k, known in enumerate(slabs.CLASSES.values()) if number in known), 0)
        for number in NUMBERS
    ]
)
TARGETS = torch.tensor([FREESURFER[number][0] for number in NUMBERS])
MIRROR = torch.tensor(MIRRORED)


@dataclass(frozen=True)
class SyntheticHeads:
    """Images and labels drawn from label maps, each a function of ``seed`` and its index.

    Parameters
    ----------
    maps: the label maps.
    spacing: of the images, mm.
    shapes: of the images, one of which is drawn.
    seed: of the random numbers.
    """

    maps: Sequence[LabelMap]
    spacing: float
    shapes: Sequence[tuple[int, int, int]]
    seed: int

    def __call__(self, index: int) -> tuple[Tensor, Tensor]:
        """Image float32 [1, X, Y, Z] and labels int64 [X, Y, Z], RAS+."""
        random = Random(self.seed, index)
        subject = self.maps[random.integer(len(self.maps))]
        shape = self.shapes[random.integer(len(self.shapes))]
        mirrored = random.chance(0.5)
        room = torch.tensor(shape) * self.spacing - torch.tensor([150.0, 180.0, 140.0])
        shift = random.normal(3) * 8
        shift += (torch.rand(3, generator=random.torch) - 0.5) * room.clamp_(0)
        view = View(subject.center, shift, shape, self.spacing, mirrored)
        numbers = subject.numbers(view.coordinates(subject, random))
        labels = TARGETS[numbers]
        if mirrored:
            labels = MIRROR[labels]
        image = random_intensities(numbers, random)
        image = scanner(image, labels, self.spacing, random)
        return image[None], labels


@dataclass(frozen=True)
class SyntheticBoxes:
    """Images of boxes around one hippocampus, right ones mirrored, and their labels.

    Parameters
    ----------
    maps: the label maps.
    seed: of the random numbers.
    """

    maps: Sequence[LabelMap]
    seed: int

    def __call__(self, index: int) -> tuple[Tensor, Tensor]:
        """Image float32 [1, X, Y, Z] and labels int64 [X, Y, Z], see ``boxes.CLASSES``."""
        random = Random(self.seed, index)
        sides = [
            (one, side) for one in self.maps for side in range(2) if one.sides[side] is not None
        ]
        subject, side = sides[random.integer(len(sides))]
        center = subject.sides[side]
        assert center is not None
        warps = ((3, 2.0), (6, 0.8))
        shift = random.normal(3) * 2.5
        view = View(center, shift, boxes.SHAPE, boxes.SPACING, side == 1, 0.3, warps)
        numbers = subject.numbers(view.coordinates(subject, random))
        labels = TARGETS[numbers]
        if side == 1:
            labels = MIRROR[labels]
        image = random_intensities(numbers, random)
        return box_scanner(image, labels, boxes.SPACING, random)[None], IN_BOX[labels]


@dataclass(frozen=True)
class SyntheticSlabs:
    """Images of coronal slabs of skull-stripped brains, and their labels.

    Parameters
    ----------
    maps: the label maps.
    seed: of the random numbers.
    """

    maps: Sequence[LabelMap]
    seed: int

    def __call__(self, index: int) -> tuple[Tensor, Tensor]:
        """Image float32 [1, X, Y, Z] and labels int64 [X, Y, Z], see ``slabs.CLASSES``."""
        random = Random(self.seed, index)
        subject = self.maps[random.integer(len(self.maps))]
        to_voxels = subject.placed @ torch.from_numpy(slabs.TO_MNI).float()
        middle = torch.tensor([*((torch.tensor(slabs.SHAPE) - 1) / 2), 1.0])
        view = View(
            (to_voxels @ middle)[:3],
            random.normal(3) * 2.5,
            slabs.SHAPE,
            slabs.SPACING,
            random.chance(0.5),
            0.12,
            axes=to_voxels[:3, :3] * subject.spacing,
        )
        numbers = subject.numbers(view.coordinates(subject, random))
        image = random_intensities(numbers, random)
        labels = IN_SLAB[numbers]
        image = slab_scanner(image, TARGETS[numbers], labels, random)
        return image[None], labels


def random_intensities(numbers: Tensor, random: Random) -> Tensor:
    """An image [X, Y, Z] of labels given as positions in ``NUMBERS``; white matter is about 1."""
    count = len(NUMBERS)
    base = torch.tensor([T1_WEIGHTED[LEFT.get(number, number)] for number in NUMBERS])
    left = torch.tensor([NUMBERS.index(LEFT.get(number, number)) for number in NUMBERS])
    brain = TARGETS >= 2
    if random.chance(0.8):
        contrast = random.uniform(0.45, 1.6)  # of gray and white matter
        fluid = base < 0.5
        means = torch.where(fluid, base, 1 - contrast * (1 - base))
        means = torch.where(fluid & brain, base * random.uniform(0.2, 1.8), means)
        means = means + 0.035 * random.normal(count)
        outside = base * (0.3 + 1.4 * torch.rand(count, generator=random.torch))
        means = torch.where(brain, means, outside)
    else:
        means = torch.rand(count, generator=random.torch) * 1.2
    means = means[left].clamp_(0)
    means[NUMBERS.index(0)] = random.uniform(0, 0.06) if random.chance(0.9) else 0.0
    spread = random.uniform(0.01, 0.05) + 0.15 * (~brain) * torch.rand(
        count, generator=random.torch
    )
    spread[NUMBERS.index(0)] = 0.01
    shape = numbers.shape
    texture = random.smooth(shape, 24)[0] * 0.7 + random.normal(*shape) * 0.7
    image = means[numbers] + spread[numbers] * texture
    # Fat and muscle have one number.
    soft = numbers == NUMBERS.index(FAT)
    patches = random.smooth(shape, 20)[0] > random.uniform(-0.8, 0.8)
    image[soft & patches] *= random.uniform(1.2, 3.0)
    return image
