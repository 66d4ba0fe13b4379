"""Regions are on their side of the brain and are measured on the scan's own voxels."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from uncus.data.atlas import asymmetry, load_atlas, regions, why_no_regions
from uncus.data.imageio.volume import Native, Volume
from uncus.data.phantom.anatomy import find_hippocampi, load_template
from uncus.data.space import Placed

SHAPE = (60, 70, 56)
AFFINE = np.diag([3.0, 3, 3, 1])
AFFINE[:3, 3] = -90, -126, -72
NATIVE = Native(Path("scan.nii.gz"), SHAPE, AFFINE, "RAS", (None, 0), (AFFINE, 1))


def placed(to_grid: np.ndarray) -> Placed:
    """A scan that ``to_grid`` registers to MNI152."""
    volume = Volume(np.ones(SHAPE, np.float32), np.linalg.inv(to_grid) @ AFFINE, NATIVE)
    whole = np.ones(SHAPE, bool)
    array = np.ones(SHAPE, np.float32)
    return Placed(array, whole, volume, whole, to_grid=to_grid, quality={"overlap": 0.95})


def test_hippocampi_and_ventricles_are_on_their_sides() -> None:
    atlas = load_atlas()
    labels = {name: label for label, name in atlas.names.items()}
    for name in ("Hippocampus", "Lateral Ventricle", "Inf Lat Vent", "Amygdala"):
        for side, sign in (("Left", -1), ("Right", 1)):
            index = np.argwhere(atlas.labels == labels[f"{side} {name}"])
            x = (atlas.affine[:3, :3] @ index.T + atlas.affine[:3, 3:])[0]
            assert (np.sign(x) == sign).mean() > 0.95


def test_hippocampi_overlap_those_segmented_in_the_template() -> None:
    _, grey, _, affine = load_template()
    segmented = find_hippocampi(grey, affine)
    atlas = load_atlas()
    names = {label for label, name in atlas.names.items() if name.endswith("Hippocampus")}
    labelled = np.isin(atlas.on(grey.shape, affine), list(names))
    assert 2 * (labelled & segmented).sum() / (labelled.sum() + segmented.sum()) > 0.65


def test_shares_volumes_and_asymmetry_on_the_scans_own_voxels() -> None:
    scan = placed(np.eye(4))
    atlas = load_atlas()
    on_scan = atlas.on(SHAPE, AFFINE)
    names = {name: label for label, name in atlas.names.items()}
    left, right = (on_scan == names[f"{side} Hippocampus"] for side in ("Left", "Right"))
    saliency = np.where(left, 3.0, 0) / left.sum() - np.where(right, 1.0, 0) / right.sum()
    rows = {row["region"]: row for row in regions(scan, saliency)}
    assert rows["Left Hippocampus"]["saliency_share"] == pytest.approx(0.75, abs=1e-5)
    assert rows["Right Hippocampus"]["saliency_share"] == pytest.approx(0.25, abs=1e-5)
    assert rows["Left Hippocampus"]["asymmetry"] == rows["Right Hippocampus"]["asymmetry"] == 0.5
    assert rows["Brain Stem"]["asymmetry"] is None
    assert rows["Left Hippocampus"]["volume_mm3"] == left.sum() * 27
    assert next(iter(rows)) == "Left Hippocampus"


def test_a_smaller_head_has_smaller_regions() -> None:
    usual = {r["region"]: r["volume_mm3"] for r in regions(placed(np.eye(4)), np.ones(SHAPE))}
    small = placed(np.diag([1.25, 1.25, 1.25, 1]))
    for name, size in ((r["region"], r["volume_mm3"]) for r in regions(small, np.ones(SHAPE))):
        assert size == pytest.approx(usual[name] / 1.25**3, abs=0.1)


def test_an_empty_map_and_a_scan_without_registration() -> None:
    scan = placed(np.eye(4))
    assert all(row["asymmetry"] is None for row in regions(scan, np.zeros(SHAPE)))
    assert why_no_regions(scan) == "" and "--space mni" in why_no_regions(replace(scan, quality={}))
    assert asymmetry("Left Thing", {"Left Thing": 1.0}) is None
