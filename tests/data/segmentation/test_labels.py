"""Segmentations of other tools become our classes, left and right stay apart."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from uncus.data.segmentation.labels import (
    BRAIN,
    DLMUSE,
    FREESURFER,
    INTRACRANIAL,
    LABELS,
    convert,
    write_lookup,
)

MRI = Path(__file__).parents[4] / "shared" / "mri"
needs_heads = pytest.mark.skipif(not MRI.is_dir(), reason="../shared/mri is absent")


def test_the_table_is_complete_and_its_names_are_distinct() -> None:
    assert [label.index for label in LABELS] == list(range(20))
    for column in ("name", "abbreviation"):
        assert len({getattr(label, column) for label in LABELS}) == 20
    assert [LABELS[k].name for k in (2, 3, 8, 9, 10, 13, 14, 17, 18)] == [
        "cerebrospinal fluid",
        "left cerebral gray matter",
        "right cerebellum",
        "brain stem",
        "left lateral ventricle",
        "right hippocampus",
        "left amygdala",
        "right thalamus",
        "left basal ganglia",
    ]
    assert set(INTRACRANIAL) - set(BRAIN) == {2}


def test_every_tool_fills_every_class_inside_the_skull() -> None:
    for table in (DLMUSE, FREESURFER):
        assert {ours for pair in table.values() for ours in pair} >= set(INTRACRANIAL)


@pytest.mark.parametrize("flip", [False, True], ids=["RAS", "LAS"])
def test_midline_structures_are_divided_by_side(flip: bool) -> None:
    numbers = np.zeros((8, 3, 3), np.int16)
    numbers[:3], numbers[5:], numbers[3:5] = 40, 41, 95  # white matter of the cerebellum, callosum
    affine = np.diag([-1.0, 1, 1, 1]) if flip else np.eye(4)
    labels = convert(numbers, affine, DLMUSE)
    assert (labels[:3] == 8).all() and (labels[5:] == 7).all()
    assert (labels[3] == 6).all() and (labels[4] == 5).all()  # each on the side it is next to


def test_an_unknown_number_is_refused() -> None:
    with pytest.raises(ValueError, match="labels 9999 are unknown"):
        convert(np.full((2, 2, 2), 9999), np.eye(4), FREESURFER)


@needs_heads
@pytest.mark.parametrize(
    ("name", "table"),
    [
        ("elderly-heads/sub-NC07_dseg", DLMUSE),
        ("ixi-heads/sub-IXI012_dseg", DLMUSE),
        ("heads/aomic-0001_aseg", FREESURFER),
        ("label-maps/sub-07_dseg", FREESURFER),
    ],
)
def test_left_is_left_in_real_heads(name: str, table: dict) -> None:
    image = nib.load(MRI / f"{name}.nii.gz")
    labels = convert(np.asarray(image.dataobj), image.affine, table)
    x = [
        (image.affine @ [*np.argwhere(labels == k).mean(0), 1])[0] if (labels == k).any() else None
        for k in range(20)
    ]
    for left in (3, 5, 7, 10, 12, 14, 16, 18):
        assert x[left] < x[left + 1] - 15


def test_the_lookup_is_bids(tmp_path: Path) -> None:
    write_lookup(tmp_path / "scan_dseg.tsv")
    table = pd.read_csv(tmp_path / "scan_dseg.tsv", sep="\t")
    assert list(table) == ["index", "name", "abbreviation", "color"]
    assert table.loc[12].tolist() == [12, "left hippocampus", "HIP_L", "#ffd23f"]
    assert table["color"].str.fullmatch("#[0-9a-f]{6}").all()
