"""The classes into which every head is segmented, and the numbers of other tools as these.

Left and right are the subject's. The third and fourth ventricle are cerebrospinal fluid, the
inferior horn and the choroid plexus belong to their lateral ventricle, the ventral diencephalon to
the brain stem. Basal ganglia are caudate, putamen, pallidum and accumbens.
"""

from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from uncus.data.tables import write_table


@dataclass(frozen=True)
class Label:
    """A class: its number, name, BIDS' abbreviation, and its color in pictures."""

    index: int
    name: str
    abbreviation: str
    color: str


def _sides(index: int, name: str, abbreviation: str, color: str) -> tuple[Label, Label]:
    return (
        Label(index, f"left {name}", f"{abbreviation}_L", color),
        Label(index + 1, f"right {name}", f"{abbreviation}_R", color),
    )


LABELS = (
    Label(0, "outside the head", "BG", "#000000"),
    Label(1, "head outside the brain", "HEAD", "#9a8f80"),
    Label(2, "cerebrospinal fluid", "CSF", "#5b8fd6"),
    *_sides(3, "cerebral gray matter", "CGM", "#b8506a"),
    *_sides(5, "cerebral white matter", "CWM", "#e8e4dc"),
    *_sides(7, "cerebellum", "CBM", "#d9a066"),
    Label(9, "brain stem", "BS", "#8fa0b5"),
    *_sides(10, "lateral ventricle", "LV", "#37e0ff"),
    *_sides(12, "hippocampus", "HIP", "#ffd23f"),
    *_sides(14, "amygdala", "AMY", "#ff7a4d"),
    *_sides(16, "thalamus", "THA", "#3fbf6f"),
    *_sides(18, "basal ganglia", "BG", "#c77dff"),
)
"""The class of each number."""
MIRRORED = (0, 1, 2, 4, 3, 6, 5, 8, 7, 9, 11, 10, 13, 12, 15, 14, 17, 16, 19, 18)
"""Each class in the mirror image."""
BRAIN, INTRACRANIAL = range(3, 20), range(2, 20)
Table = Mapping[int, tuple[int, int]]


def _table(
    single: Mapping[int, int],
    paired: Iterable[tuple[int, int, int]],
    midline: Mapping[int, int],
) -> Table:
    """Number -> our class if it lies on the left, and if it lies on the right.

    ``paired`` has a tool's left and right number and our left one; ``midline`` numbers that the
    tool does not divide into left and right, and we do.
    """
    table = {number: (ours, ours) for number, ours in single.items()}
    for left, right, ours in paired:
        table |= {left: (ours, ours), right: (ours + 1, ours + 1)}
    return table | {number: (ours, ours + 1) for number, ours in midline.items()}


DLMUSE = _table(
    {0: 0, 1: 2, 4: 2, 11: 2, 46: 2, 69: 2, 35: 9, 61: 9, 62: 9},
    [
        *((30, 23, 18), (32, 31, 14), (37, 36, 18), (39, 38, 7), (41, 40, 7), (48, 47, 12)),
        *((50, 49, 10), (52, 51, 10), (56, 55, 18), (58, 57, 18), (60, 59, 16)),
        (75, 76, 3),
        *((number + 1, number, 5) for number in range(81, 94, 2)),
        *((number + 1, number, 3) for number in range(100, 208, 2)),
    ],
    {71: 7, 72: 7, 73: 7, 95: 5},
)
"""DLMUSE's numbers, those of Neuromorphometrics: the cortex from 100 on."""
FREESURFER = _table(
    {
        0: 0,
        14: 2,
        15: 2,
        16: 9,
        24: 2,
        28: 9,
        60: 9,
        72: 2,
        85: 2,
        **dict.fromkeys(range(502, 531), 1),
    },
    [
        *((2, 41, 5), (3, 42, 3), (4, 43, 10), (5, 44, 10), (7, 46, 7), (8, 47, 7), (10, 49, 16)),
        *((11, 50, 18), (12, 51, 18), (13, 52, 18), (17, 53, 12), (18, 54, 14), (25, 57, 5)),
        *((26, 58, 18), (30, 62, 18), (31, 63, 10), (78, 79, 5), (81, 82, 3)),
        *((136, 163, 10), (137, 164, 10)),
    ],
    dict.fromkeys((77, 80, *range(251, 256)), 5),
)
"""FreeSurfer's numbers, and those of SynthSeg's training maps: 502 and over outside the brain."""


def convert(numbers: NDArray[Any], affine: NDArray[np.float64], table: Table) -> NDArray[np.uint8]:
    """Another tool's segmentation [X, Y, Z] as our classes; ``affine``: voxel index -> mm, RAS+.

    Left and right of the midline is decided by the plane halfway between the centers of what the
    tool calls left and right.

    Raises
    ------
    ValueError: a number that is not in the table.
    """
    found, places = np.unique(np.asarray(numbers), return_inverse=True)
    if unknown := [int(number) for number in found if int(number) not in table]:
        raise ValueError(f"labels {', '.join(map(str, unknown[:5]))} are unknown")
    left, right = np.array([table[int(number)] for number in found], np.uint8).T
    labels: NDArray[np.uint8] = left[places].reshape(numbers.shape)
    if (left != right).any():
        middle = (left != right)[places].reshape(numbers.shape)
        ends = [
            np.argwhere(np.isin(labels, (3 + k, 5 + k, 7 + k)) & ~middle).mean(0) for k in (0, 1)
        ]
        voxels, axes = np.argwhere(middle), affine[:3, :3].T
        across = (ends[1] - ends[0]) @ axes
        on_right = (voxels - (ends[0] + ends[1]) / 2) @ axes @ across > 0
        labels[tuple(voxels[on_right].T)] = right[places].reshape(numbers.shape)[
            tuple(voxels[on_right].T)
        ]
    return labels


def write_lookup(path: Path) -> None:
    """Write the table of the classes as BIDS' ``_dseg.tsv``."""
    names = [field.name for field in fields(Label)]
    write_table(path, pd.DataFrame(map(astuple, LABELS), columns=names, dtype=object))
